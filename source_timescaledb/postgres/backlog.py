"""How far the log goes on behind a position, and how much of it the server keeps for a slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.connection import Connection

_BACKLOG: Final = """
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %(position)s::pg_lsn)::int8,
       coalesce((SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8
                 FROM pg_catalog.pg_replication_slots WHERE slot_name = %(slot)s), 0),
       (extract(epoch FROM clock_timestamp() - '2000-01-01 00:00:00Z'::timestamptz) * 1000000)::int8
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a primary has written; sizes in bytes."""

    size: int
    """What lies behind the position; 0 where that is the end of what it has written out."""
    retained: int
    """What it keeps for the slot; 0 where there is no such slot."""
    now: int
    """Its time, in microseconds since 2000 as commits are stamped."""


def read_backlog(connection: Connection, slot: str, position: Lsn) -> Backlog:
    """Ask the primary; two looks into its memory. Raises psycopg errors as they come."""
    row = connection.execute(_BACKLOG, {"slot": slot, "position": str(position)}).fetchone()
    assert row is not None
    size, retained, now = row
    return Backlog(max(0, size), max(0, retained), now)
