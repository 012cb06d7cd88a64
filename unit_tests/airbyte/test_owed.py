"""What a read owes while chunks are born: what there was when it began, wherever it is by then, and no more."""

from __future__ import annotations

from collections.abc import Iterable

from source_timescaledb.airbyte.goal import FEW, Goal
from source_timescaledb.airbyte.owed import ChunksOwed
from source_timescaledb.hypertables.model import Chunk
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.snapshot.pace import Pace
from unit_tests.snapshot.test_chunk_plan import TABLE, chunk, take, weeks

LATER = 100_000
MANY = 10 * FEW
ROUNDS = 5 * MANY


def births(first: int, count: int) -> list[Chunk]:
    """Chunks that share no time with any other."""
    return [
        chunk(number, LATER + 100 * number, LATER + 100 * number + 100)
        for number in range(first, first + count)
    ]


def read(plan: ChunkPlan, looks: Iterable[list[Chunk]], *, gone: int = 0) -> tuple[list[int], int]:
    """Read a chunk after each look at the catalog, of which the last stays true: which were read, and how many are left.

    One chunk may be gone before it is read.
    """
    goal, read, listings = Goal([ChunksOwed(plan)]), list[int](), [*looks]
    for turn in range(ROUNDS):
        listed = listings[min(turn, len(listings) - 1)]
        plan.extend(listed)
        plan.adopt(listed)
        if goal.reached():
            return read, goal.left
        slice_ = take(plan)
        assert slice_ is not None
        if slice_.chunk.id == gone:
            plan.vanish(slice_)
        else:
            plan.confirm(slice_)
            read.append(slice_.chunk.id)
    raise AssertionError("The read goes on and on.")


def test_all_that_is_there_is_read_and_nothing_is_left() -> None:
    assert read(ChunkPlan(TABLE, weeks(MANY), Pace(limit=1)), [weeks(MANY)]) == ([*range(1, MANY + 1)], 0)


def test_a_read_with_nothing_to_read_has_ended() -> None:
    assert read(ChunkPlan(TABLE, [], Pace(limit=1)), [[]]) == ([], 0)


def test_chunks_that_are_born_are_left_where_they_are_too_many() -> None:
    there = weeks(2)

    done, left = read(ChunkPlan(TABLE, there, Pace(limit=1)), [there, [*there, *births(3, MANY)]])

    assert done == [1, 2]
    assert left == MANY


def test_what_was_split_off_is_read_however_many_chunks_are_born_before_it() -> None:
    there = weeks(2)
    split_off = chunk(MANY + 3, 250, 300)

    done, _ = read(ChunkPlan(TABLE, there, Pace(limit=1)), [there, [*there, *births(3, MANY), split_off]])

    assert {1, 2, split_off.id} <= {*done}


def test_what_was_taken_in_is_read_however_many_chunks_are_born_before_it() -> None:
    there = weeks(2)
    born = births(3, MANY)
    wider = chunk(1, 100, 300)

    done, _ = read(ChunkPlan(TABLE, there, Pace(limit=1)), [there, [*there, *born], [wider, *born]], gone=2)

    assert done.count(1) == 2
