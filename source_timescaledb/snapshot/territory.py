"""What of a hypertable's time belongs to finished chunks, so that a chunk which has grown gives itself away.

`merge_chunks` moves the rows of a chunk into its neighbour without a word in the log: the one is gone, as if it had been
dropped, and the other has a wider range than before. Rows of the first that nobody has read lie in the second then, which
counts as finished. So a state keeps the time that finished chunks cover, and what reaches past it is left to read.

Chunks that share their ranges in all other dimensions cover ranges of time that seldom have gaps, so a few spans say it
all, however many chunks there are. Where they do not, the smallest gaps are closed, which bounds the state, and a span
says how much of it they are. A chunk that is new and lies in such a span covers what nobody did if the others leave just
so much of it free as then; if more, then one of them was split or dropped, and which of the two holds, nobody can tell.

A chunk that is born in such a gap is read like any other; but one that is merged before any sync has seen it is missed.
So is one that is split off, written to and merged again between two looks: what it covers was finished before, and
nothing tells it from that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Final

from source_timescaledb.hypertables.model import Chunk, Span
from source_timescaledb.hypertables.spans import close_gaps, common, subtract, subtract_all, unite, width
from source_timescaledb.state.model import Covered

MOST_SPANS: Final = 40
"""Of all dimensions together; forty take 2 KiB of a state, all with gaps in them."""


class Past(IntEnum):
    """What was where a chunk is that is new: nobody, perhaps another one, certainly another one."""

    FREE = 0
    UNCLEAR = 1
    HELD = 2


class Territory:
    """Ranges of time by what a chunk covers in the other dimensions."""

    def __init__(self, known: Mapping[str, Iterable[Covered]] | None = None) -> None:
        self._kept = {space: [_span_and_gaps(*one) for one in kept] for space, kept in (known or {}).items()}
        self._known = {space: unite(span for span, _ in kept) for space, kept in self._kept.items()}

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

    def past(self, chunk: Chunk, now: Territory) -> Past:
        """What was, when this was kept in a state, where a chunk is that is new; the others are where they are `now`."""
        space, past = space_of(chunk), Past.FREE
        for span, gaps in self._kept.get(space, ()):
            if not span.meet(chunk.span).empty and _free(span, now.of(space)) > gaps:
                past = max(past, Past.UNCLEAR if gaps else Past.HELD)
        return past

    def of(self, space: str) -> list[Span]:
        """What is finished of those that cover the same beside time."""
        return self._known.get(space, [])

    @property
    def bounds(self) -> dict[str, tuple[Covered, ...]]:
        """All of it, for a state."""
        most = max(1, MOST_SPANS // max(1, len(self._known)))
        return {
            space: tuple(_covered(span, spans) for span in close_gaps(spans, most))
            for space, spans in sorted(self._known.items())
            if spans
        }


def space_of(chunk: Chunk) -> str:
    """What a chunk covers in all dimensions but time, as a word; empty where time is the only one."""
    return " ".join(f"{span.lower}:{span.upper}" for span in chunk.box[1:])


def _covered(span: Span, spans: Sequence[Span]) -> Covered:
    gaps = _free(span, spans)
    return (*span, gaps) if gaps else span


def _free(span: Span, spans: Sequence[Span]) -> int:
    """How much of a span others leave free that are in order and do not overlap."""
    return width([span]) - width(common(span, spans))


def _span_and_gaps(lower: int, upper: int, gaps: int = 0) -> tuple[Span, int]:
    return Span(lower, upper), gaps
