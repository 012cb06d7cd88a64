"""Where in time a first load begins (`snapshot_since`), in the integers chunks are ranged by."""

from __future__ import annotations

from datetime import datetime

from source_timescaledb.hypertables.bounds import internal_time
from source_timescaledb.hypertables.model import EVERYTHING, OPEN_ABOVE, Hypertable, Span, TimeKind


def window_since(hypertable: Hypertable, since: datetime | int | None) -> Span | None:
    """The window from `since` on; everything without one; None if the setting does not fit this dimension's type.

    A moment fits dates, timestamps and UUIDs; an integer fits integers.
    """
    if since is None:
        return EVERYTHING
    kind = hypertable.time.time
    match since:
        case datetime() if kind in (TimeKind.TIMESTAMPTZ, TimeKind.TIMESTAMP, TimeKind.DATE, TimeKind.UUID):
            return Span(internal_time(since), OPEN_ABOVE)
        case int() if kind is TimeKind.INTEGER:
            return Span(since, OPEN_ABOVE)
        case _:
            return None
