"""Internal integers as SQL literals."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from source_timescaledb.hypertables.bounds import (
    box_is_nameable,
    inside_box,
    internal_time,
    literal,
    within,
)
from source_timescaledb.hypertables.model import (
    EVERYTHING,
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
