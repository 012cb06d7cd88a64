"""The slices of a plain table by its key, with a list of numbers standing in for the table's index."""

from __future__ import annotations

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.snapshot.key_plan import RUN_AHEAD, KeyPlan
from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.snapshot.plan import FindBoundary
from source_timescaledb.snapshot.slices import KeySlice
from source_timescaledb.state.model import Key, KeyProgress


def index_of(numbers: list[int]) -> FindBoundary:
    """What the server answers: the key so many rows past a bound."""

    def boundary(lower: Key | None, upper: Key | None, rows: int) -> Key | None:
        start = 0 if lower is None else bisect_left(numbers, int(lower[0]))
        end = len(numbers) if upper is None else bisect_left(numbers, int(upper[0]))
        return (str(numbers[start + rows]),) if start + rows < end else None

    return boundary


def rows_of(slice_: KeySlice, numbers: list[int]) -> list[int]:
    return [
        number
        for number in numbers
        if (slice_.lower is None or number >= int(slice_.lower[0]))
        and (slice_.upper is None or number < int(slice_.upper[0]))
    ]


def take(plan: KeyPlan, numbers: list[int]) -> KeySlice | None:
    slice_ = plan.take(index_of(numbers))
    assert slice_ is None or isinstance(slice_, KeySlice)
    return slice_


def test_an_empty_table_is_one_slice_without_bounds() -> None:
    plan = KeyPlan(("id",), Pace(limit=1))

    slice_ = take(plan, [])

    assert slice_ is not None
    assert (slice_.lower, slice_.upper) == (None, None)
    assert plan.confirm(slice_)
    assert plan.exhausted


def test_slices_follow_each_other_without_gap_or_overlap() -> None:
    numbers = list(range(0, 70, 7))
    plan = KeyPlan(("id",), Pace(limit=1, first=4))

    slices = [take(plan, numbers) for _ in range(3)]

    assert [rows_of(slice_, numbers) for slice_ in slices if slice_] == [
        [0, 7, 14, 21],
        [28, 35, 42, 49],
        [56, 63],
    ]


def test_a_range_given_back_joins_what_follows_it() -> None:
    numbers = list(range(10))
    plan = KeyPlan(("id",), Pace(limit=1, first=4))
    first = take(plan, numbers)
    assert first is not None

    plan.give_back(first)
    plan.pace = Pace(limit=1, first=6)
    again = take(plan, numbers)

    assert again is not None
    assert rows_of(again, numbers) == [0, 1, 2, 3, 4, 5]


def test_readers_run_a_bounded_number_of_ranges_ahead() -> None:
    numbers = list(range(1000))
    plan = KeyPlan(("id",), Pace(limit=1, first=1))

    taken = [take(plan, numbers) for _ in range(RUN_AHEAD + 5)]

    assert sum(slice_ is not None for slice_ in taken) <= RUN_AHEAD


def test_nothing_confirmed_is_no_progress() -> None:
    plan = KeyPlan(("id",), Pace(limit=1, first=2))

    take(plan, list(range(10)))

    assert plan.progress is None


@given(
    numbers=st.sets(st.integers(0, 200), max_size=60).map(sorted),
    moves=st.lists(st.tuples(st.sampled_from(["take", "confirm", "back"]), st.integers(1, 9)), max_size=60),
)
def test_what_is_confirmed_and_what_a_resumed_plan_reads_is_every_row_once(
    numbers: list[int], moves: list[tuple[str, int]]
) -> None:
    plan = KeyPlan(("id",), Pace(limit=1, first=3))
    out: list[KeySlice] = []
    emitted: list[int] = []
    for move, size in moves:
        if move == "take":
            plan.pace = Pace(limit=1, first=float(size))
            if (slice_ := take(plan, numbers)) is not None:
                out.append(slice_)
        elif out:
            slice_ = out.pop(size % len(out))
            if move == "confirm":
                plan.confirm(slice_)
                emitted += rows_of(slice_, numbers)
            else:
                plan.give_back(slice_)
    finished = plan.exhausted
    progress = plan.progress and KeyProgress.model_validate_json(plan.progress.model_dump_json())

    resumed = KeyPlan(("id",), Pace(limit=1, first=5), progress)
    while not finished and (slice_ := take(resumed, numbers)) is not None:
        emitted += rows_of(slice_, numbers)
        resumed.confirm(slice_)

    assert sorted(emitted) == numbers
