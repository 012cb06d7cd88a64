"""How wide the next slice may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.snapshot.pace import PATIENCE, TARGET_BYTES, Pace, SliceCost


def test_the_first_slice_is_as_wide_as_it_comes() -> None:
    assert Pace(limit=1.0).width is None


def test_a_slice_of_half_the_target_lets_the_next_be_twice_as_wide() -> None:
    pace = Pace(limit=1.0)

    pace.finished(SliceCost(width=100, size=TARGET_BYTES // 2, seconds=0.01))

    assert pace.width == pytest.approx(200, rel=0.01)


def test_one_step_grows_at_most_fourfold() -> None:
    pace = Pace(limit=1.0)

    pace.finished(SliceCost(width=100, size=0, seconds=0.0))

    assert pace.width == 400


def test_a_slow_slice_narrows_the_next_even_if_it_was_small() -> None:
    pace = Pace(limit=1.0)

    pace.finished(SliceCost(width=100, size=10, seconds=0.7))

    assert pace.width == pytest.approx(50)


def test_an_overrun_cuts_the_width_to_an_eighth_of_what_was_tried() -> None:
    pace = Pace(limit=1.0)

    pace.overran(800, by_time=True)

    assert pace.width == 100


def test_two_readers_that_overrun_at_the_same_width_cut_it_once() -> None:
    pace = Pace(limit=1.0)

    pace.overran(800, by_time=False)
    pace.overran(800, by_time=False)

    assert pace.width == 100


def test_the_deadline_stays_below_the_limit() -> None:
    assert Pace(limit=1.0).deadline < 1.0


def test_when_narrowing_never_helps_the_limit_is_raised_instead() -> None:
    pace = Pace(limit=1.0)

    for _ in range(PATIENCE):
        pace.overran(pace.width or 8.0**PATIENCE, by_time=True)

    assert pace.raised
    assert pace.deadline > 1.0


def test_slices_that_are_only_too_large_never_raise_the_time_limit() -> None:
    pace = Pace(limit=1.0)

    for _ in range(2 * PATIENCE):
        pace.overran(pace.width or 1e9, by_time=False)

    assert not pace.raised


def test_a_finished_slice_forgives_the_overruns_before_it() -> None:
    pace = Pace(limit=1.0)

    for _ in range(PATIENCE - 1):
        pace.overran(1e6, by_time=True)
    pace.finished(SliceCost(width=10, size=10, seconds=0.1))
    pace.overran(1e6, by_time=True)

    assert not pace.raised


def slices_until_the_end(fixed: float, per_width: float) -> int:
    """How many slices, thrown away or not, it takes to read a relation of width 1 that costs so much."""
    pace = Pace(limit=1.0)
    read, slices = 0.0, 0
    while read < 1 and slices < 1000:
        width = min(pace.width or 1.0, 1 - read)
        seconds = fixed + per_width * width
        slices += 1
        if seconds > pace.deadline:
            pace.overran(width, by_time=True)
        else:
            pace.finished(SliceCost(width, 10, seconds))
            read += width
    return slices


@given(fixed=st.floats(0, 5), per_width=st.floats(0, 20))
def test_a_fixed_cost_of_any_size_does_not_keep_a_read_from_its_end(fixed: float, per_width: float) -> None:
    assert slices_until_the_end(fixed, per_width) < 250


def test_the_limit_stays_where_the_fixed_cost_leaves_room_below_it() -> None:
    pace = Pace(limit=1.0)

    for width in (2.0, 1.0, 2.0, 1.0):
        pace.finished(SliceCost(width, 10, 0.5 + 0.05 * width))

    assert not pace.raised
    assert pace.width == pytest.approx(4.0)


def test_one_fast_slice_shows_that_nothing_is_fixed() -> None:
    pace = Pace(limit=1.0)

    for width in (2.0, 1.0, 2.0, 1.0):
        pace.finished(SliceCost(width, 10, 0.5 + 0.05 * width))
    pace.finished(SliceCost(1.0, 10, 0.001))
    pace.finished(SliceCost(1.0, 10, 0.7))

    assert pace.width == pytest.approx(0.5, rel=0.01)
