"""Everything that talks to PostgreSQL: connections, the pool of readers, retries, and why one failed."""
