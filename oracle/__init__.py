"""Random workloads against the connector: what its records build up must equal the source."""
