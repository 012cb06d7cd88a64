"""What a sync counts of itself while it runs: plain numbers that others look at, and nobody waits for.

They cost nothing worth measuring: whoever works adds to an integer once for each slice or batch, never for each row, and
knows nothing of who looks. A summary in the log, metrics (`health.instruments`) and a terminal (`airbyte.terminal`) read
them whenever they like, from threads of their own, without a lock.

Several readers add to the same stream. A single `+=` on a slot is whole even so: CPython, from 3.10 on, changes threads
at calls and jumps only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum


class BreakerState(Enum):
    """The states of the circuit breaker round the database; the values are those of the metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(slots=True)
class StreamCounters:
    """One stream of one sync. Sizes are in bytes, times in seconds; `began` and `ended` are of the sync's clock."""

    name: str
    began: float | None = None
    ended: float | None = None
    rows: int = 0
    """RECORDs emitted, from slices and from the log."""
    size: int = 0
    """What they weigh, as lines."""
    expected: int = 0
    """How many RECORDs the sync will have emitted, by the last estimate; 0 without one."""
    chunks: int = 0
    """Finished ones, those that are gone among them; a relation that has none counts as one."""
    chunks_left: int = 0
    gone: int = 0
    """Chunks that were dropped before they were read."""
    slices: int = 0
    slice_seconds: float = 0.0
    """How long their transactions took, all together."""
    longest_seconds: float = 0.0
    """The longest of them."""
    overran: int = 0
    """Slices that ran into a limit and were cut smaller."""
    changed: int = 0
    """Slices that were read again because the chunk was rewritten, or held, meanwhile."""
    retried: int = 0
    """Slices that were read again because the connection was lost."""
    queued: int = 0
    """Slices that wait for the writer."""
    queued_size: int = 0
    changes: int = 0
    """RECORDs of changes from the log."""
    filtered: int = 0
    """Changes that were not told because the snapshot of a slice holds them, or will."""
    marked: int = 0
    """Row changes that were not told because they were TimescaleDB's own, between its markers."""

    def seconds(self, now: float) -> float:
        """How long the stream has been at work."""
        if self.began is None:
            return 0.0
        return max((now if self.ended is None else self.ended) - self.began, 0.0)

    def summary(self, now: float) -> str:
        """What became of it, in a line."""
        seconds = max(self.seconds(now), 1e-9)
        told = (
            f"{self.name}: {self.rows} rows, {self.size} bytes in {seconds:.1f} s ({self.rows / seconds:.0f} rows/s); "
            f"{self.chunks} chunks in {self.slices} slices, longest transaction {self.longest_seconds:.3f} s, "
            f"{self.overran} cut, {self.changed} read again, {self.retried} retried, {self.gone} chunks gone"
        )
        if self.changes or self.filtered or self.marked:
            told += (
                f"; {self.changes} changes, {self.filtered} more that slices hold, "
                f"{self.marked} of TimescaleDB's own"
            )
        return f"{told}."


@dataclass(slots=True)
class SyncCounters:
    """One sync."""

    clock: Callable[[], float] = time.monotonic
    streams: dict[str, StreamCounters] = field(default_factory=dict)
    observed: bool = False
    """Whether somebody looks, so that it is worth asking the server for what only that knows."""
    began: float = 0.0
    retries: int = 0
    """Pauses before something was tried again."""
    reconnections: int = 0
    """How often the log was opened anew because its connection was lost."""
    breakers: dict[str, BreakerState] = field(default_factory=lambda: {"primary": BreakerState.CLOSED})
    """By the server that each leads to."""
    lag_size: int = 0
    """How far the log goes on behind what was told."""
    lag_seconds: float = 0.0
    """The age of the commit told last, as long as the log goes on behind it."""
    retained: int = 0
    """What of its log the server keeps for our slot."""

    def __post_init__(self) -> None:
        self.began = self.clock()

    @property
    def seconds(self) -> float:
        """How long the sync has been at work."""
        return self.clock() - self.began

    def stream(self, name: object) -> StreamCounters:
        """The counters of a stream, known by how its name is written."""
        return self.streams.setdefault(str(name), StreamCounters(str(name)))
