"""What is left to do of one chunk: ranges of its time that nobody has taken, and what became of the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from source_timescaledb.hypertables.model import Chunk, Span
from source_timescaledb.snapshot.pace import TARGET_BYTES

_PAGE_BYTES: Final = 8192
_JSON_PER_HEAP_BYTE: Final = 3
"""Rendered lines are about three times the heap (measured: 378 bytes a line against 130 in the heap)."""


@dataclass(slots=True)
class ChunkTask:
    """One chunk's part of a plan."""

    chunk: Chunk
    span: Span
    """The part of the chunk's range that the plan reads."""
    todo: list[Span]
    done: list[Span] = field(default_factory=list)
    gone: list[Span] = field(default_factory=list)
    """What of `done` was not read in this chunk: it had lost it by then, or got it from one that is read elsewhere."""
    out: int = 0
    large: bool = False
    """Whether a slice of it ran into a limit, whatever the statistics promise."""

    @property
    def finished(self) -> bool:
        """Whether nothing of it is left, or in the hands of a reader."""
        return not self.todo and not self.out

    @property
    def small(self) -> bool:
        """Whether the whole chunk fits in one slice, as the server's statistics say and nothing has shown otherwise.

        They count the heap's pages: values that compress well take little room there and much as JSON.
        """
        expected = self.chunk.pages * _PAGE_BYTES * _JSON_PER_HEAP_BYTE
        return not self.large and 0 < expected < TARGET_BYTES and self.chunk.compressed is None
