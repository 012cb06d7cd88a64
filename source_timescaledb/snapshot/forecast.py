"""How much a stream will have emitted at the end of a sync, said anew while it is read, and right at the end.

    told so far + what is left of the plan, by statistics, corrected by what came so far

Chunks weigh as many rows as the server's statistics say; one that they do not know weighs as much as a known one on
average, and a part of a chunk weighs its part of the time. What was read shows how many rows really came for that
weight. The statistics are believed at first, what was read in the end: each counts by its share of the whole. When
nothing is left, what is told is the truth.
"""

from __future__ import annotations

from typing import NamedTuple

from source_timescaledb.hypertables.model import Chunk
from source_timescaledb.hypertables.statistics import Statistics
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.snapshot.plan import Plan
from source_timescaledb.snapshot.slices import ChunkSlice, Slice


class Expected(NamedTuple):
    """Rows and the bytes of their lines; 0 where nothing is known."""

    rows: int
    size: int


class Forecast:
    """The forecast of one stream, asked by the thread that confirms its slices; without a plan nothing is left."""

    def __init__(self, plan: Plan | None, statistics: Statistics) -> None:
        self._plan = plan
        self._statistics = statistics
        known = statistics.chunks.values()
        self._average = sum(known) / len(known) if known else 1.0
        self._read = 0.0
        """The weight of the slices that were confirmed."""

    def confirm(self, slice_: Slice) -> None:
        """A slice of the plan was read and told."""
        if isinstance(slice_, ChunkSlice):
            self._read += self._weight(slice_.chunk) * slice_.chunk.share_of(slice_.span)

    def expected(self, *, rows: int, size: int, read: int) -> Expected:
        """What will have been emitted: `rows` and `size` are told by now, of which `read` rows came from slices."""
        total = rows + self._left(read)
        each = size / rows if rows else self._statistics.row_size
        return Expected(round(total), round(total * each))

    def _left(self, read: int) -> float:
        """How many rows are left to read."""
        if self._plan is None or self._plan.exhausted:
            return 0.0
        if not isinstance(self._plan, ChunkPlan):
            return max(self._statistics.total - read, 0.0)
        left = sum(self._weight(chunk) * share for chunk, share in self._plan.left())
        trust = self._read / (self._read + left) if left else 0.0
        came = read / self._read if self._read else 0.0
        if not self._statistics.chunks:
            return left * came
        return left * (trust * came + 1 - trust)

    def _weight(self, chunk: Chunk) -> float:
        return self._statistics.chunks.get(chunk.id, self._average)
