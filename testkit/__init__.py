"""Real servers, real faults, real processes: what tests, demo and benchmarks stand on.

Nothing here imitates PostgreSQL or TimescaleDB. `servers` chooses and starts real servers (also on a machine
without Docker and without root), `database` makes a fresh database with its roles in about a tenth of a
second, `proxy` breaks the network between, `connector` runs the connector as Airbyte would and can kill it at
any line, `observer` watches what it does to the server.
"""
