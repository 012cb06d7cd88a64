"""Airbyte source connector for TimescaleDB."""
