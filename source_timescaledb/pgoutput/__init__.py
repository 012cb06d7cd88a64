"""PostgreSQL's logical replication protocol as pure functions: bytes of one message in, facts or JSON out."""
