"""The clock grows with every change and every slice, and follows the log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.cdc.clock import OrderClock
from source_timescaledb.lsn import Lsn


@given(start=st.integers(0, 2**40), positions=st.lists(st.integers(0, 2**40), min_size=1))
def test_it_never_stands_still_and_is_never_behind_the_change(start: int, positions: list[int]) -> None:
    clock = OrderClock(start)

    times = [clock.tick(position) for position in positions]

    assert all(earlier < later for earlier, later in zip([start, *times], times, strict=False))
    assert all(time >= position for time, position in zip(times, positions, strict=True))


def test_a_new_process_starts_past_all_that_an_old_one_may_have_given_out() -> None:
    clock = OrderClock(100)

    clock.raise_to(Lsn(5000))
    clock.raise_to(Lsn(200))

    assert clock.tick() == 5001
