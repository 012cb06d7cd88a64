"""A row that is missing is never excused, a row too many only where that is documented."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest

from integration_tests.truth import Row
from oracle.judging import Deviation, compare, named_periods, without_twins
from oracle.workload import DROPPED_BEFORE, HIDDEN_DEVICE, Policy

OLD: Row = (DROPPED_BEFORE - timedelta(hours=1), 1)
NEW: Row = (DROPPED_BEFORE, 1)


def judged(
    stored: list[Row],
    held: list[Row],
    policy: Policy = Policy.EVERYTHING,
    *,
    may_repeat: bool = False,
    table: str = "readings",
) -> Deviation | None:
    return compare(table, "habit", Counter(stored), Counter(held), policy, may_repeat=may_repeat)


def counts(deviation: Deviation | None) -> tuple[int, int]:
    assert deviation is not None
    return deviation.missing, deviation.surplus


@pytest.mark.parametrize("policy", Policy)
def test_the_same_rows_are_right(policy: Policy) -> None:
    assert judged([OLD, NEW, NEW], [NEW, OLD, NEW], policy) is None


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("may_repeat", [False, True])
def test_a_row_that_is_missing_is_wrong_whatever_the_policy(policy: Policy, may_repeat: bool) -> None:
    assert counts(judged([OLD, NEW, NEW], [OLD, NEW], policy, may_repeat=may_repeat)) == (1, 0)


def test_a_row_too_many_is_wrong() -> None:
    assert counts(judged([NEW], [NEW, NEW])) == (0, 1)
    assert counts(judged([NEW], [NEW, OLD])) == (0, 1)


def test_a_row_may_be_repeated_where_that_is_allowed_but_not_invented() -> None:
    assert judged([NEW], [NEW, NEW], may_repeat=True) is None
    assert counts(judged([NEW], [NEW, OLD], may_repeat=True)) == (0, 1)


def test_dropped_history_is_kept_and_nothing_else() -> None:
    assert judged([NEW], [NEW, OLD], Policy.DROPS) is None
    assert counts(judged([NEW], [NEW, NEW], Policy.DROPS)) == (0, 1)
    assert counts(judged([], [("text key", 1)], Policy.DROPS, table="parts")) == (0, 1)
    assert counts(judged([], [OLD], Policy.DROPS, table="hourly")) == (0, 1)


def test_truncated_rows_are_kept_and_no_bucket_of_theirs() -> None:
    assert judged([], [NEW, OLD], Policy.TRUNCATES) is None
    assert counts(judged([], [OLD], Policy.TRUNCATES, table="hourly")) == (0, 1)


def test_rows_that_may_have_been_deleted_without_a_trace_are_kept_and_no_others() -> None:
    hidden: Row = (NEW[0], HIDDEN_DEVICE)

    assert judged([], [hidden], Policy.HIDDEN) is None
    assert counts(judged([], [hidden, NEW], Policy.HIDDEN)) == (0, 1)
    assert counts(judged([], [hidden], Policy.HIDDEN, table="events")) == (0, 1)


def test_a_row_of_a_chunk_that_was_named_may_be_kept_and_none_beside_it() -> None:
    periods = [(NEW[0], NEW[0] + timedelta(hours=1))]

    def found(row: Row) -> Deviation | None:
        return compare(
            "readings",
            "habit",
            Counter(),
            Counter([row]),
            Policy.EVERYTHING,
            may_repeat=False,
            reshaped=periods,
        )

    assert found(NEW) is None
    assert counts(found(OLD)) == (0, 1)
    assert counts(found((periods[0][1], 1))) == (0, 1)


def test_the_times_of_chunks_are_taken_from_what_syncs_say_of_a_table() -> None:
    said = (
        "WARNING: Chunks of public.readings are new and hold what another chunk held before (it was split): s.c1, from "
        "2024-01-01 12:00:00 up to 2024-01-02 00:00:00, s.c2, from 2024-01-03 00:00:00 up to 2024-01-03 06:30:00.500000. "
        "Rows of theirs that were deleted vanished."
    )

    first, second = named_periods("readings", ["INFO: nothing", said])

    assert first == (datetime(2024, 1, 1, 12, tzinfo=timezone.utc), datetime(2024, 1, 2, tzinfo=timezone.utc))
    assert second[1] == datetime(2024, 1, 3, 6, 30, 0, 500_000, tzinfo=timezone.utc)
    assert named_periods("events", [said]) == []


def test_of_a_key_that_the_source_has_twice_either_row_will_do() -> None:
    one, other = (1, "a"), (1, "b")
    stored = Counter([one, other, (2, "c")])

    for row in (one, other):
        assert without_twins(stored, Counter([row, (2, "c")]), [0]) == (
            Counter([(2, "c")]),
            Counter([(2, "c")]),
            1,
        )


def test_a_twin_is_no_excuse_for_both_missing_nor_for_a_third() -> None:
    stored = Counter([(1, "a"), (1, "b")])

    assert without_twins(stored, Counter(), [0]) == (stored, Counter(), 1)
    held = Counter([(1, "a"), (1, "x")])
    assert without_twins(stored, held, [0]) == (stored, held, 1)


def test_without_a_key_there_are_no_twins() -> None:
    rows = Counter([(1, "a"), (1, "a")])

    assert without_twins(rows, rows, []) == (rows, rows, 0)


def test_a_deviation_shows_some_of_its_rows() -> None:
    deviation = judged([NEW], [OLD])

    assert "1 rows missing, 1 too many" in str(deviation)
    assert repr(OLD[0]) in str(deviation)
