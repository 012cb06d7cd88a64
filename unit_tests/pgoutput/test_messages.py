from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.encoder import encode
from source_timescaledb.pgoutput.decoder import decode
from source_timescaledb.pgoutput.messages import Column, Relation, ReplicaIdentity, utc_text
from unit_tests.pgoutput.strategies import RELATIONS

EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("commit_time", "text"),
    [
        (0, "2000-01-01T00:00:00.000000Z"),
        (848_803_685_561_973, "2026-11-24T02:48:05.561973Z"),
        (-1, "1999-12-31T23:59:59.999999Z"),
    ],
)
def test_a_time_is_written_in_utc_with_its_microseconds(commit_time: int, text: str) -> None:
    assert utc_text(commit_time) == text


@given(time=st.datetimes(timezones=st.just(timezone.utc)))
def test_every_time_of_the_calendar_keeps_its_value(time: datetime) -> None:
    text = utc_text((time - EPOCH) // timedelta(microseconds=1))

    assert datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z") == time
    assert len(text) == 27


@pytest.mark.parametrize("commit_time", [2**63 - 1, -(2**63)])
def test_a_time_outside_the_calendar_is_an_overflow(commit_time: int) -> None:
    with pytest.raises(OverflowError):
        utc_text(commit_time)


@given(relation=RELATIONS)
def test_a_relation_that_is_sent_again_is_the_same_fact(relation: Relation) -> None:
    first, second = decode(encode(relation)), decode(encode(relation))

    assert first == second
    assert hash(first) == hash(second)


@pytest.mark.parametrize(
    "column",
    [
        Column("b", True, 23, -1),
        Column("a", False, 23, -1),
        Column("a", True, 20, -1),
        Column("a", True, 23, 8),
    ],
)
def test_a_relation_whose_column_changes_is_another(column: Column) -> None:
    def relation(*columns: Column) -> Relation:
        return Relation(1, "s", "t", ReplicaIdentity.DEFAULT, columns)

    before = Column("a", True, 23, -1)

    assert relation(column) != relation(before)
    assert relation(before, column) != relation(column, before)
