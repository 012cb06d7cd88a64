"""What a read outside CDC owes: the rows that were there when it began, in whatever chunks they are by now.

Chunks that are born later join it (`airbyte.goal` says for how long), but it does not owe them. It does owe those that
were split off from one that it had to read, and those that took one in: whatever shares time with such a one.
"""

from __future__ import annotations

from source_timescaledb.hypertables.model import Chunk
from source_timescaledb.hypertables.spans import common, unite
from source_timescaledb.snapshot.chunk_plan import ChunkPlan


class ChunksOwed:
    """The chunks of one stream, as a `goal.Reader`; made when its read begins."""

    def __init__(self, plan: ChunkPlan) -> None:
        self._plan = plan
        self._at_first = unite(chunk.span for chunk, _ in plan.left())
        self._goal: frozenset[int] = frozenset()

    @property
    def readable(self) -> bool:
        """Whether a chunk is left."""
        return not self._plan.exhausted

    @property
    def owes(self) -> bool:
        """Whether one is left of its goal, or of what there was at first."""
        return any(self._is_owed(chunk) for chunk, _ in self._plan.left())

    def set_goal(self) -> int:
        """Make all that are left its goal; how many they are."""
        self._goal = frozenset(chunk.id for chunk, _ in self._plan.left())
        return len(self._goal)

    def _is_owed(self, chunk: Chunk) -> bool:
        return chunk.id in self._goal or bool(common(chunk.span, self._at_first))
