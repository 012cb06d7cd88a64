"""How far a sync is behind the log, asked of the server every few seconds, and only while somebody looks.

An answer that cannot be had is no reason to end a sync: what stands in its way stands in the sync's own way too.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import psycopg

from source_timescaledb.airbyte.session import Session
from source_timescaledb.cdc.changes import Changes
from source_timescaledb.errors import ConnectorError
from source_timescaledb.postgres.backlog import read_backlog

LAG_SECONDS: Final = 5.0


class Lag:
    """The lag of one sync behind the log of its slot, kept in the sync's counters."""

    def __init__(self, session: Session, slot: str) -> None:
        self._session = session
        self._slot = slot
        self._measured_at = float("-inf")

    def measure(self, changes: Changes, *, last: bool = False) -> None:
        """Look how far the log goes on behind what was told, if it is time; the `last` time it always is."""
        session = self._session
        if not session.counters.observed:
            return
        now = session.clock()
        if not last and now - self._measured_at < LAG_SECONDS:
            return
        self._measured_at = now
        with suppress(ConnectorError, psycopg.Error), session.catalog.connection() as connection:
            backlog = read_backlog(connection, self._slot, changes.position)
            age = (backlog.now - changes.commit_time) / 1e6 if backlog.size and changes.commit_time else 0.0
            counters = session.counters
            counters.lag_size, counters.retained = backlog.size, backlog.retained
            counters.lag_seconds = max(0.0, age)
