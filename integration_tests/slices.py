"""Slices small enough that little data makes many of them."""

from __future__ import annotations

import pytest


def shrink_slices(monkeypatch: pytest.MonkeyPatch, target_bytes: int) -> None:
    """Let a slice aim at so many bytes, and end at four times as many, in the connector run by this process."""
    monkeypatch.setattr("source_timescaledb.snapshot.slice_reader.MOST_BYTES", 4 * target_bytes)
    monkeypatch.setattr("source_timescaledb.snapshot.pace.TARGET_BYTES", target_bytes)
    monkeypatch.setattr("source_timescaledb.snapshot.chunk_task.TARGET_BYTES", target_bytes)
