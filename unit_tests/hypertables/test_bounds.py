"""Internal integers as SQL literals."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.hypertables.bounds import (
    box_is_nameable,
    inside_box,
    internal_of,
    internal_time,
    literal,
    within,
)
from source_timescaledb.hypertables.model import (
    EVERYTHING,
    OPEN_ABOVE,
    OPEN_BELOW,
    Chunk,
    ChunkStatus,
    Dimension,
    Hypertable,
    QualifiedName,
    Span,
    TimeKind,
)

DAY = 86_400_000_000


def text(*conditions: object) -> list[str]:
    return [condition.as_string(None) for condition in conditions]  # type: ignore[attr-defined]  # all Composable


def test_a_moment_without_a_zone_is_utc() -> None:
    assert internal_time(datetime(1970, 1, 2)) == DAY  # noqa: DTZ001 - that is the point


def test_a_moment_in_another_zone_is_the_same_moment() -> None:
    plus_two = timezone(timedelta(hours=2))

    assert internal_time(datetime(1970, 1, 1, 2, tzinfo=plus_two)) == 0


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (TimeKind.TIMESTAMPTZ, DAY + 1, "(timestamptz 'epoch' + interval '1 days 0.000001 seconds')"),
        (TimeKind.TIMESTAMP, -1, "(timestamp 'epoch' + interval '-1 days 86399.999999 seconds')"),
        (TimeKind.DATE, 2 * DAY, "(date 'epoch' + 2)"),
        (TimeKind.DATE, 2 * DAY + 1, "(date 'epoch' + 3)"),
        (TimeKind.INTEGER, -5, "(-5)"),
        (TimeKind.UUID, 1_700_000_000_000_000, "'018bcfe5-6800-0000-0000-000000000000'::uuid"),
    ],
)
def test_a_literal_is_exact(kind: TimeKind, value: int, expected: str) -> None:
    assert text(literal(kind, value)) == [expected]


def test_an_open_side_has_no_condition() -> None:
    assert list(within("time", TimeKind.INTEGER, EVERYTHING)) == []


def test_a_column_with_a_quote_in_its_name_is_quoted() -> None:
    assert text(*within('a"b', TimeKind.INTEGER, Span(1, 2))) == ['"a""b" >= (1)', '"a""b" < (2)']


HASH = Dimension(2, "device", None, QualifiedName("_timescaledb_functions", "get_partition_hash"))
TABLE = Hypertable(1, 10, QualifiedName("public", "m"), (Dimension(1, "time", TimeKind.INTEGER, None), HASH))
CHUNK = Chunk(
    id=1,
    oid=11,
    name=QualifiedName("i", "c"),
    status=ChunkStatus.PLAIN,
    box=(Span(0, 10), Span(EVERYTHING.lower, 1073741823)),
    compressed=None,
    tiered=False,
    rows=0,
    pages=0,
)


def test_a_box_is_named_in_every_dimension() -> None:
    assert text(*inside_box(TABLE, CHUNK, frozenset({"time", "device"}))) == [
        '"time" >= (0)',
        '"time" < (10)',
        '"_timescaledb_functions"."get_partition_hash"("device") < 1073741823',
    ]


def test_a_dimension_the_role_may_not_read_cannot_be_named() -> None:
    assert text(*inside_box(TABLE, CHUNK, frozenset({"time"}))) == ['"time" >= (0)', '"time" < (10)']
    assert not box_is_nameable(TABLE, frozenset({"time"}))
    assert box_is_nameable(TABLE, frozenset({"time", "device"}))


@given(st.datetimes())
def test_a_timestamp_as_the_server_writes_it_is_its_microseconds(moment: datetime) -> None:
    text = moment.isoformat(sep=" ").encode()

    assert internal_of(TimeKind.TIMESTAMP, text) == internal_time(moment)
    assert internal_of(TimeKind.TIMESTAMPTZ, text + b"+00") == internal_time(moment)


@given(st.dates())
def test_a_date_as_the_server_writes_it_is_its_midnight(day: date) -> None:
    midnight = datetime.combine(day, time())

    assert internal_of(TimeKind.DATE, day.isoformat().encode()) == internal_time(midnight)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (TimeKind.INTEGER, b"-42", -42),
        (TimeKind.DATE, b"0001-01-01", -719_162 * 86_400_000_000),
        (TimeKind.DATE, b"0001-12-31 BC", -719_163 * 86_400_000_000),
        (TimeKind.DATE, b"4714-11-24 BC", -2_440_588 * 86_400_000_000),
        (TimeKind.TIMESTAMP, b"0001-12-31 23:59:59.5 BC", -719_162 * 86_400_000_000 - 500_000),
        (
            TimeKind.TIMESTAMPTZ,
            b"294276-12-31 23:59:59.999999+00",
            9_223_371_331_199_999_999 + 946_684_800_000_000,
        ),
        (TimeKind.TIMESTAMPTZ, b"infinity", OPEN_ABOVE),
        (TimeKind.TIMESTAMP, b"-infinity", OPEN_BELOW),
        (TimeKind.UUID, b"0193594c-3a00-7000-8000-000000000000", 0x0193594C3A00 * 1000),
    ],
)
def test_values_that_no_datetime_holds_are_exact_too(kind: TimeKind, text: bytes, expected: int) -> None:
    assert internal_of(kind, text) == expected
