"""What all streams of one sync share: the settings, the registry, the connections, the clock, the way to stop."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Final, TypeVar

from source_timescaledb.airbyte.sink import RecordSink
from source_timescaledb.airbyte.states import States
from source_timescaledb.airbyte.watching import Lookout
from source_timescaledb.cdc.sightings import Sightings
from source_timescaledb.config.model import Configuration
from source_timescaledb.counters import SyncCounters
from source_timescaledb.errors import ConnectorError, TransientError
from source_timescaledb.hypertables.model import Registry, ServerVersion
from source_timescaledb.hypertables.registry import read_server_facts
from source_timescaledb.hypertables.watcher import Births, Watcher
from source_timescaledb.postgres.breaker import Breaker
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.postgres.pool import ReaderPool
from source_timescaledb.postgres.replica import await_replay, check_replica, current_position
from source_timescaledb.postgres.retry import Budget, Patience
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.snapshot.plan import Plan
from source_timescaledb.state.codec import database_identity
from source_timescaledb.state.model import DatabaseIdentity

Answer = TypeVar("Answer")

ASIDE_LINE_SECONDS: Final = 60.0


class Stopped(Exception):  # noqa: N818 - an order, not a failure
    """The sync was told to stop while it waited."""


@dataclass(slots=True)
class Session:
    """One sync. `readers` has room for `reader_count` connections; `replica` tells whether they lead to a replica."""

    configuration: Configuration
    registry: Registry
    catalog: ReaderPool
    readers: ReaderPool
    reader_count: int
    replica: bool
    sink: RecordSink
    states: States
    logger: logging.Logger
    lookout: Lookout
    watcher: Watcher | None
    retry_seconds: float
    breaker: Breaker
    """Before the primary."""
    reader_breaker: Breaker
    """Before the server that slices are read from: the same one, unless that is a replica."""
    counters: SyncCounters = field(default_factory=SyncCounters)
    sightings: Sightings = field(default_factory=Sightings)
    stop: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    _told_aside: float = -math.inf

    @property
    def extension(self) -> ServerVersion | None:
        """The version of TimescaleDB, None on plain PostgreSQL."""
        return self.registry.server.extension

    @property
    def identity(self) -> DatabaseIdentity:
        """Which database this is."""
        return database_identity(self.registry.server)

    def ask(self, question: Callable[[Connection], Answer], doing: str) -> Answer:
        """Put a question to the primary, trying again inside the retry budget.

        `doing` is the subject of the error's sentence. Raises ConnectorError.
        """

        def once() -> Answer:
            with self.catalog.connection() as connection:
                return question(connection)

        return self.patience(self.pause).keep_trying(once, doing)

    def patience(self, sleep: Callable[[float], None]) -> Patience:
        """A fresh retry budget for what is asked of the primary."""
        return self._patience(sleep, self.breaker)

    def reader_patience(self, sleep: Callable[[float], None]) -> Patience:
        """A fresh retry budget for what is read over `readers`."""
        return self._patience(sleep, self.reader_breaker)

    def pause(self, seconds: float) -> None:
        """Sleep, but not through a stop. Raises Stopped."""
        if self.stop.wait(seconds):
            raise Stopped

    def births(self, plans: Iterable[Plan | None]) -> Births:
        """Whether the watcher sees a chunk that none of these plans knows yet."""
        known = {plan.hypertable.id: plan.last_chunk for plan in plans if isinstance(plan, ChunkPlan)}
        return Births(self.watcher, known)

    def reachable(self) -> bool:
        """Whether the primary answers now; one attempt."""
        try:
            with self.catalog.connection():
                return True
        except ConnectorError:
            return False

    def settle_replica(self) -> None:
        """Let the replica, if slices are read from one, catch up with everything committed so far.

        Raises ConnectorError.
        """
        if not self.replica:
            return
        position = self.ask(current_position, "Asking the primary for its position")

        def settle() -> None:
            with self.readers.connection() as connection:
                check_replica(self.registry.server, read_server_facts(connection))
                if position is not None:
                    await_replay(
                        connection, position, seconds=self.retry_seconds, clock=self.clock, sleep=self.pause
                    )

        self.reader_patience(self.pause).keep_trying(settle, "Waiting for the replica")

    def tell_aside(self, refusal: ConnectorError) -> None:
        """Say, once a minute, that slices are read by fewer readers than were asked for."""
        if self.clock() - self._told_aside >= ASIDE_LINE_SECONDS:
            self._told_aside = self.clock()
            self.logger.warning("%s Fewer readers go on meanwhile. %s", refusal.message, refusal.remedy)

    def _patience(self, sleep: Callable[[float], None], breaker: Breaker) -> Patience:
        budget = Budget(self.retry_seconds, clock=self.clock)
        return Patience(budget, sleep=sleep, on_retry=self._tell, breaker=breaker)

    def _tell(self, error: TransientError, pause: float) -> None:
        self.counters.retries += 1
        self.logger.warning("%s Trying again in %.1f seconds.", error.message, pause)
