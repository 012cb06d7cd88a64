"""Airbyte source connector for TimescaleDB."""

from source_timescaledb.source import SourceTimescaledb

__all__ = ["SourceTimescaledb"]
