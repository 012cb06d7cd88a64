"""The connector at work on one command: a server, a year of flights, a sync that is killed half way and goes on.

`flights` is the data, `sync` runs the connector's own command line, `comparison` proves the outcome, `terminal` prints,
and `story` tells it from beginning to end. Nothing of the connector is imported but its name: the demo stands where
Airbyte stands.
"""
