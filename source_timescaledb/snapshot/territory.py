"""What of a hypertable's time belongs to finished chunks, so that a chunk which has grown gives itself away.

`merge_chunks` moves the rows of a chunk into its neighbour without a word in the log: the one is gone, as if it had been
dropped, and the other has a wider range than before. Rows of the first that nobody has read lie in the second then, which
counts as finished. So a state keeps the time that finished chunks cover, and what reaches past it is left to read.

Chunks that share their ranges in all other dimensions cover ranges of time that seldom have gaps, so a few spans say it
all, however many chunks there are. Where they do not, the smallest gaps are taken for covered, which bounds the state: a
chunk that is born in such a gap and merged before any sync has seen it is missed. So is one that is split off, written to
and merged again between two looks: what it covers was finished before, and nothing tells it from that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from source_timescaledb.hypertables.model import Chunk, Span
from source_timescaledb.hypertables.spans import close_gaps, subtract, subtract_all, unite
from source_timescaledb.state.model import Bounds

MOST_SPANS: Final = 40
"""Of all dimensions together; forty take at most 2 KiB of a state."""


class Territory:
    """Ranges of time by what a chunk covers in the other dimensions."""

    def __init__(self, known: Mapping[str, Iterable[Bounds]] | None = None) -> None:
        self._known = {space: unite(Span(*one) for one in spans) for space, spans in (known or {}).items()}

    def add(self, chunk: Chunk, spans: Iterable[Span]) -> None:
        """These spans of a chunk are finished."""
        space = space_of(chunk)
        self._known[space] = unite([*self._known.get(space, ()), *spans])

    def remove(self, chunk: Chunk) -> None:
        """What a chunk covers is not finished: it was split off from one that is."""
        space = space_of(chunk)
        if space in self._known:
            self._known[space] = subtract_all(self._known[space], [chunk.span])

    def outside(self, chunk: Chunk) -> list[Span]:
        """What of a chunk no finished one has covered, in order."""
        return subtract(chunk.span, self._known.get(space_of(chunk), ()))

    def of(self, space: str) -> list[Span]:
        """What is finished of those that cover the same beside time."""
        return self._known.get(space, [])

    @property
    def bounds(self) -> dict[str, tuple[Bounds, ...]]:
        """All of it, for a state."""
        most = max(1, MOST_SPANS // max(1, len(self._known)))
        return {
            space: tuple(close_gaps(spans, most)) for space, spans in sorted(self._known.items()) if spans
        }


def space_of(chunk: Chunk) -> str:
    """What a chunk covers in all dimensions but time, as a word; empty where time is the only one."""
    return " ".join(f"{span.lower}:{span.upper}" for span in chunk.box[1:])
