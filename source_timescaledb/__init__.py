"""Airbyte source connector for TimescaleDB.

The source class is imported on first use: airbyte-cdk takes more than a second to import, and most rooms need nothing of
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from source_timescaledb.source import SourceTimescaledb

__all__ = ["SourceTimescaledb"]


def __getattr__(name: str) -> Any:
    if name == "SourceTimescaledb":
        from source_timescaledb.source import SourceTimescaledb  # noqa: PLC0415 - that is the point

        return SourceTimescaledb
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
