"""A slice: the rows one transaction reads, named so that no row belongs to two of them.

Slices of one relation never overlap and together cover it. Inside a chunk they are half-open ranges of time, which
stays what it is for the life of a row; in a plain table they are half-open ranges of its key. A slice that reaches an
end of its chunk has no bound on that side: the chunk's own check constraint holds there.
"""

from __future__ import annotations

from dataclasses import dataclass

from source_timescaledb.hypertables.model import Chunk, Span
from source_timescaledb.state.model import Key


@dataclass(frozen=True, slots=True)
class ChunkSlice:
    """A range of time in one chunk."""

    chunk: Chunk
    span: Span
    divisible: bool = True
    """Whether ranges of time name rows at all; behind a custom partitioning function they do not."""

    @property
    def width(self) -> float:
        """Its length in internal units; a slice open on a side counts as its whole chunk's."""
        return float(self.span.upper - self.span.lower)

    @property
    def narrower_exists(self) -> bool:
        """Whether it can be cut."""
        return self.divisible and self.span.upper - self.span.lower > 1 and self.span.bounded


@dataclass(frozen=True, slots=True)
class KeySlice:
    """A range of keys in a plain table: from `lower` up to, but without, `upper`; None is open."""

    lower: Key | None
    upper: Key | None
    rows: int
    """How many rows the server counted off between the bounds when it was cut."""

    @property
    def width(self) -> float:
        """The rows it was cut for."""
        return float(self.rows)

    @property
    def narrower_exists(self) -> bool:
        """Whether it can be cut."""
        return self.rows > 1


@dataclass(frozen=True, slots=True)
class WholeSlice:
    """Everything in one query: what has neither chunks nor a key to cut by."""

    @property
    def width(self) -> float:
        """There is only one."""
        return 1.0

    @property
    def narrower_exists(self) -> bool:
        """It cannot be cut."""
        return False


@dataclass(frozen=True, slots=True)
class TieredSlice:
    """A range of time in the tiered chunk, from `lower` up to, but without, `upper`; None is open."""

    chunk: Chunk
    lower: str | None
    """As the server reads it: a constant, so that its planner looks at no other chunk, and the storage at no more."""
    upper: str | None

    @property
    def width(self) -> float:
        """Nobody knows what is in it."""
        return 1.0

    @property
    def narrower_exists(self) -> bool:
        """It is not cut: nobody waits for a chunk that never changes."""
        return False


Slice = ChunkSlice | KeySlice | WholeSlice | TieredSlice
