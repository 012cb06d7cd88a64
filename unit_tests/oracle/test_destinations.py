"""A destination keeps what its habit says."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from oracle.destinations import Destination, Habit, counted_records
from source_timescaledb.cdc.followed import DELETED_AT, LSN, UPDATED_AT
from testkit.protocol import Output


def record(stream: str, clock: int, *, deleted: bool = False, **data: Any) -> bytes:
    change = {
        LSN: clock,
        UPDATED_AT: "2024-01-01T00:00:00Z",
        DELETED_AT: "2024-01-01T00:00:00Z" if deleted else None,
    }
    message = {"stream": stream, "namespace": "public", "emitted_at": 1, "data": {**data, **change}}
    return orjson.dumps({"type": "RECORD", "record": message})


STATE = orjson.dumps({"type": "STATE", "state": {"type": "GLOBAL", "global": {"stream_states": []}}})


def heard(habit: Habit, *lines: bytes, key: tuple[str, ...] = ("id",)) -> list[dict[str, Any]]:
    destination = Destination(habit, {"parts": key})
    destination.hear(Output(list(lines)))
    return destination.copies["parts"].rows()


@pytest.mark.parametrize("habit", Habit)
def test_the_newest_version_of_a_row_is_kept(habit: Habit) -> None:
    lines = record("parts", 1, id="a", value=1), record("parts", 2, id="a", value=2), STATE

    assert heard(habit, *lines) == [{"id": "a", "value": 2}]


@pytest.mark.parametrize(("habit", "value"), [(Habit.CLOCK, 2), (Habit.COUNTED, 2), (Habit.ARRIVAL, 1)])
def test_what_comes_late_loses_by_the_clock_and_wins_by_arrival(habit: Habit, value: int) -> None:
    lines = record("parts", 2, id="a", value=2), record("parts", 1, id="a", value=1), STATE

    assert heard(habit, *lines) == [{"id": "a", "value": value}]


def test_of_two_records_with_one_clock_the_later_is_lost() -> None:
    lines = record("parts", 1, id="a", value=1), record("parts", 1, id="a", value=2)

    assert heard(Habit.CLOCK, *lines) == [{"id": "a", "value": 1}]


def test_a_deleted_row_is_gone_and_stays_gone() -> None:
    lines = record("parts", 2, id="a", value=1, deleted=True), record("parts", 1, id="a", value=1)

    assert heard(Habit.CLOCK, *lines) == []


def test_what_stands_before_a_state_that_was_lost_is_not_counted() -> None:
    destination = Destination(Habit.COUNTED, {"parts": ("id",)})

    destination.hear(
        Output([record("parts", 1, id="a", value=1), STATE, record("parts", 2, id="a", value=2), STATE]),
        kept=1,
    )

    assert destination.copies["parts"].rows() == [{"id": "a", "value": 1}]


def test_what_no_state_counts_is_dropped_or_kept() -> None:
    lines = record("parts", 1, id="a"), STATE, record("parts", 2, id="b")

    assert heard(Habit.COUNTED, *lines) == [{"id": "a"}]
    assert heard(Habit.CLOCK, *lines) == [{"id": "a"}, {"id": "b"}]


def test_without_a_key_every_record_is_kept() -> None:
    lines = record("parts", 1, id="a"), record("parts", 2, id="a")

    assert heard(Habit.CLOCK, *lines, key=()) == [{"id": "a"}, {"id": "a"}]


def test_records_are_counted_by_stream_up_to_the_last_state() -> None:
    lines = [record("parts", 1), record("events", 2), STATE, record("events", 3)]

    assert counted_records(Output(lines)) == {"parts": 1, "events": 1}
    assert counted_records(Output(lines[:2])) == {}
