"""The hypertable registry: what the database holds, under the names a user knows."""
