"""From TimescaleDB's internal integers to SQL and back.

The literal of a timestamp is written as days plus seconds since the epoch, because that is exact over PostgreSQL's
whole range (4713 BC to 294276 AD), which neither `to_timestamp(double precision)` nor Python's datetime is. With the
session's time zone fixed to UTC a day is always 24 hours, so the sum is exact for `timestamptz` too. The planner
folds it to a constant.

A box becomes a predicate only where a relation is read through its hypertable: a chunk's own check constraints
already say the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Final

from psycopg import sql

from source_timescaledb.hypertables.model import (
    OPEN_ABOVE,
    OPEN_BELOW,
    Chunk,
    Dimension,
    Hypertable,
    Span,
    TimeKind,
)

_MICROSECONDS_PER_DAY: Final = 86_400_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_UUID_MILLISECONDS: Final = 2**48

_TIMESTAMP_CAST: Final = {TimeKind.TIMESTAMPTZ: "timestamptz", TimeKind.TIMESTAMP: "timestamp"}


def internal_time(moment: datetime) -> int:
    """The internal value of a moment: whole microseconds since 1970, UTC where it has no zone."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def literal(time: TimeKind, value: int) -> sql.Composable:
    """The SQL literal of an internal value in the type of its column.

    A `date` or UUID boundary between two of the column's own values is rounded up, so that `<` and `>=` cut at the same
    place the internal integers do.
    """
    if time is TimeKind.INTEGER:
        return sql.SQL(f"({int(value)})")
    if time is TimeKind.DATE:
        return sql.SQL(f"(date 'epoch' + {-(-value // _MICROSECONDS_PER_DAY):d})")
    if time is TimeKind.UUID:
        return sql.SQL("{}::uuid").format(str(_uuid_floor(value)))
    days, rest = divmod(value, _MICROSECONDS_PER_DAY)
    seconds, microseconds = divmod(rest, 1_000_000)
    cast = _TIMESTAMP_CAST[time]
    return sql.SQL(f"({cast} 'epoch' + interval '{days:d} days {seconds:d}.{microseconds:06d} seconds')")


def texts(time: TimeKind, values: Iterable[int]) -> sql.Composed:
    """The query of an array of internal values, each as text that the column's type reads: a constant where it is put."""
    each = (sql.SQL("format('%s', {})").format(literal(time, value)) for value in values)
    return sql.SQL("SELECT ARRAY[{}]").format(sql.SQL(", ").join(each))


def readable(time: TimeKind | None, value: int) -> str:
    """An internal value for the eyes of a person; empty where it says nothing of the column's own values."""
    if time is None or time is TimeKind.OPAQUE:
        return ""
    if value in (OPEN_BELOW, OPEN_ABOVE):
        return "the beginning" if value == OPEN_BELOW else "the end"
    if time is TimeKind.INTEGER:
        return str(value)
    try:
        return (_EPOCH + timedelta(microseconds=value)).isoformat(" ").removesuffix("+00:00")
    except OverflowError:
        return f"{value} microseconds since 1970"


def written(time: TimeKind | None, value: int) -> str | None:
    """An internal value as a record writes values of its column; the moment in it for a UUID.

    None where it is no bound, where nobody writes it so (behind a custom function), or past what Python counts as years.
    """
    if time in (None, TimeKind.OPAQUE) or value in (OPEN_BELOW, OPEN_ABOVE):
        return None
    if time is TimeKind.INTEGER:
        return str(value)
    try:
        moment = _EPOCH + timedelta(microseconds=value)
    except OverflowError:
        return None
    if time is TimeKind.DATE:
        return moment.date().isoformat()
    zone = "" if time is TimeKind.TIMESTAMP else "Z"
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + zone


RECKONABLE: Final = frozenset({TimeKind.TIMESTAMPTZ, TimeKind.TIMESTAMP, TimeKind.DATE, TimeKind.INTEGER})
"""Kinds whose values SQL turns into internal integers exactly."""


def internal(time: TimeKind, value: str) -> sql.Composable:
    """The SQL expression of the internal integer of a value given as text; `time` must be RECKONABLE."""
    text = sql.Literal(value)
    match time:
        case TimeKind.INTEGER:
            return sql.SQL("{}::int8").format(text)
        case TimeKind.DATE:
            return sql.SQL("({}::date - date 'epoch') * 86400000000::int8").format(text)
        case _:
            return sql.SQL("(extract(epoch FROM {}::{}) * 1000000)::int8").format(
                text, sql.SQL(_TIMESTAMP_CAST[time])
            )


def internal_of(time: TimeKind, text: bytes) -> int:
    """The internal value of a column's value, as its output function writes it under our session's settings.

    The extremes of int64 for infinity. Exact for every value that lies in a chunk. `time` is not OPAQUE. Raises
    ValueError for anything else.
    """
    match time:
        case TimeKind.INTEGER:
            return int(text)
        case TimeKind.UUID:
            return int(text[:8] + text[9:13], 16) * 1000
        case TimeKind.DATE:
            return _days(text) * _MICROSECONDS_PER_DAY if text not in _ENDS else _ENDS[text]
        case _:
            return _ENDS[text] if text in _ENDS else _microseconds(text)


_ENDS: Final = {b"infinity": OPEN_ABOVE, b"-infinity": OPEN_BELOW}
_FIRST_OF_MARCH_1970: Final = 719_468
"""Days from the first of March of the year 0 to the epoch; years that begin in March end with the leap day."""


def _days(text: bytes) -> int:
    """Days since 1970 of a date, `2026-11-24` or `0044-03-15 BC`, in the Gregorian calendar throughout."""
    before_christ = text.endswith(b" BC")
    year, month, day = map(int, text.removesuffix(b" BC").split(b"-"))
    if before_christ:
        year = 1 - year
    if month <= 2:
        year, month = year - 1, month + 12
    days_of_years = 365 * year + year // 4 - year // 100 + year // 400
    return days_of_years + (153 * (month - 3) + 2) // 5 + day - 1 - _FIRST_OF_MARCH_1970


def _microseconds(text: bytes) -> int:
    """Microseconds since 1970 of a timestamp in UTC, `2026-11-24 02:28:56.25+00`, with or without its zone."""
    date, _, rest = text.partition(b" ")
    suffix = b" BC" if rest.endswith(b" BC") else b""
    clock = rest.removesuffix(b" BC").removesuffix(b"+00")
    hours, minutes, seconds = clock.split(b":")
    whole, _, fraction = seconds.partition(b".")
    in_day = (int(hours) * 60 + int(minutes)) * 60 + int(whole)
    return _days(date + suffix) * _MICROSECONDS_PER_DAY + in_day * 1_000_000 + int(fraction.ljust(6, b"0"))


def _uuid_floor(microseconds: int) -> uuid.UUID:
    """The lowest UUID of a millisecond, as TimescaleDB writes it into check constraints (src/uuid.c@2.29.2)."""
    milliseconds = min(max(-(-microseconds // 1000), 0), _UUID_MILLISECONDS - 1)
    return uuid.UUID(int=milliseconds << 80)


def within(column: str, time: TimeKind, span: Span) -> Iterator[sql.Composable]:
    """The conditions that keep a time column inside a span; none for a side that is open."""
    name = sql.Identifier(column)
    if span.lower != OPEN_BELOW:
        yield sql.SQL("{} >= {}").format(name, literal(time, span.lower))
    if span.upper != OPEN_ABOVE:
        yield sql.SQL("{} < {}").format(name, literal(time, span.upper))


def inside_box(hypertable: Hypertable, chunk: Chunk, readable: frozenset[str]) -> Iterator[sql.Composable]:
    """The conditions that name a chunk's rows by value, for reading them through the hypertable.

    Dimensions whose column our role may not read cannot be named and are left out: where two chunks differ in nothing
    else, such a role cannot tell their rows apart (`box_is_nameable`).
    """
    for dimension, span in zip(hypertable.dimensions, chunk.box, strict=True):
        if dimension.column in readable:
            yield from _inside(dimension, span)


def box_is_nameable(hypertable: Hypertable, readable: frozenset[str]) -> bool:
    """Whether a role that may read these columns can name every dimension of a chunk's box."""
    return all(dimension.column in readable for dimension in hypertable.dimensions)


def _inside(dimension: Dimension, span: Span) -> Iterator[sql.Composable]:
    if dimension.function is None and dimension.time is not None and dimension.time is not TimeKind.OPAQUE:
        yield from within(dimension.column, dimension.time, span)
        return
    if dimension.function is None:
        return
    position = sql.SQL("{}({})").format(sql.Identifier(*dimension.function), sql.Identifier(dimension.column))
    if dimension.time is not None:
        position = sql.SQL("_timescaledb_functions.time_to_internal({})").format(position)
    if span.lower != OPEN_BELOW:
        yield sql.SQL("{} >= {}").format(position, sql.Literal(span.lower))
    if span.upper != OPEN_ABOVE:
        yield sql.SQL("{} < {}").format(position, sql.Literal(span.upper))
