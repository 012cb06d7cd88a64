"""Rows in tiered storage: how they are read, and when, so that none is missed and nobody waits for us.

A hypertable has at most one tiered chunk: a foreign table (OSM) behind which lies what was moved to object storage. It
cannot be locked and has no file, and rights on the hypertable do not reach one that was attached after the GRANT. So it
is read through the hypertable. Nobody writes to it, and no log tells of it, so it is read once, in one statement for each
range of time.

It is read *last*. A chunk may be moved while a read is going on: read after the others, the tiered chunk has what was
moved before we came to it. Rows that we had read before they were moved come twice.

The ranges are those that no other chunk covers, because a server asked for `tableoid` alone would scan every chunk, and
hold a lock on each for as long as the storage takes. With constants for bounds the planner looks at no other chunk
(seen on 2.19.3, 2.21.4, 2.29.2 and 2.31; an expression that is only stable lets it lock the neighbours), and hands the
range to the storage. What the server itself keeps apart, rows in tiered storage and chunks of the same time, cannot be
there: `hypertable_osm_range_update` refuses an overlap, and so does an INSERT into a tiered range.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from source_timescaledb.hypertables.model import SCATTERED, Chunk, Span
from source_timescaledb.hypertables.spans import subtract
from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.snapshot.plan import FindBoundary
from source_timescaledb.snapshot.slices import Slice, TieredSlice

MOST_RANGES: Final = 20
"""Each costs a visit to the storage; where there are more, the closest are joined, and chunks between them scanned."""


def tiered_spans(tiered: Chunk, others: Iterable[Chunk], window: Span, *, apart: bool) -> list[Span]:
    """The ranges of a window in which rows of the tiered chunk can lie, in order.

    `apart`: whatever lies in them will be taken for rows of it, so nothing else may.
    """
    if tiered.span != SCATTERED:
        only = tiered.span.meet(window)
        return [] if only.empty else [only]
    found = subtract(window, (chunk.span for chunk in others))
    return found if apart else _joined(found)


def _joined(spans: list[Span]) -> list[Span]:
    """The spans without their smallest gaps, so that there are no more than allowed."""
    gaps = sorted(range(1, len(spans)), key=lambda number: spans[number].lower - spans[number - 1].upper)
    closed = set(gaps[: max(0, len(spans) - MOST_RANGES)])
    joined: list[Span] = []
    for number, span in enumerate(spans):
        if number in closed:
            joined[-1] = Span(joined[-1].lower, span.upper)
        else:
            joined.append(span)
    return joined


class TieredPlan:
    """Ranges of the tiered chunk, one after the other. There is no position among them: a killed read starts over."""

    progress = None

    def __init__(self, slices: Iterable[TieredSlice], pace: Pace) -> None:
        self.pace = pace
        self._left = deque[Slice](slices)
        self._out = 0

    def take(self, _boundary: FindBoundary) -> Slice | None:
        """The next range."""
        if not self._left:
            return None
        self._out += 1
        return self._left.popleft()

    def confirm(self, _slice: Slice) -> bool:
        """A range is finished; True if it was the last."""
        self._out -= 1
        return self.exhausted

    def give_back(self, slice_: Slice) -> None:
        """Offer a range again."""
        self._out -= 1
        self._left.appendleft(slice_)

    @property
    def exhausted(self) -> bool:
        """Whether every range has been taken and confirmed."""
        return not self._left and not self._out

    @property
    def chunks_left(self) -> int:
        """The one, until everything of it is finished."""
        return int(not self.exhausted)
