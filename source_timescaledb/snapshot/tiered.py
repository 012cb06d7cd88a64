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

from collections.abc import Iterable
from typing import Final

from source_timescaledb.hypertables.model import SCATTERED, Chunk, Span
from source_timescaledb.hypertables.spans import close_gaps, subtract
from source_timescaledb.snapshot.plan import UncutPlan

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
    return found if apart else close_gaps(found, MOST_RANGES)


class TieredPlan(UncutPlan):
    """Ranges of the tiered chunk, one after the other."""
