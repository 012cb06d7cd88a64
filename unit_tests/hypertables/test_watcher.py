"""How long a watcher leaves a server alone that fails it."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.hypertables.watcher import CHANNEL, LONGEST_PAUSE_SECONDS, Births, pause_after

PAGE = Path(__file__).parents[2] / "docs" / "source-timescaledb.md"


def lower(low: float, _high: float) -> float:
    return low


def upper(_low: float, high: float) -> float:
    return high


def test_each_failure_doubles_the_pause_between_half_of_its_bound_and_all_of_it() -> None:
    assert [pause_after(failures, 5, upper) for failures in range(1, 5)] == [5, 10, 20, 40]
    assert [pause_after(failures, 5, lower) for failures in range(1, 5)] == [2.5, 5, 10, 20]


@given(st.integers(1, 10**9), st.floats(0.2, 3600))
def test_no_pause_is_longer_than_the_longest_or_the_time_between_two_looks(
    failures: int, seconds: float
) -> None:
    longest = pause_after(failures, seconds, upper)

    assert min(seconds, LONGEST_PAUSE_SECONDS) <= longest <= max(seconds, LONGEST_PAUSE_SECONDS)


def test_without_a_watcher_nothing_is_born() -> None:
    assert not Births(None, {1: 0})()


def test_the_channel_is_the_one_that_users_are_told_of() -> None:
    assert f"NOTIFY {CHANNEL};" in PAGE.read_text()
