"""The order of a hypertable's slices, and what a later process needs to go on."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.hypertables.model import (
    OPEN_BELOW,
    Chunk,
    ChunkStatus,
    Dimension,
    Hypertable,
    QualifiedName,
    Span,
    TimeKind,
)
from source_timescaledb.hypertables.spans import subtract, unite
from source_timescaledb.snapshot.chunk_plan import RUN_AHEAD, ChunkPlan
from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.snapshot.slices import ChunkSlice
from source_timescaledb.snapshot.territory import MOST_SPANS
from source_timescaledb.state.model import ChunkProgress, Key

TABLE = Hypertable(
    id=7,
    oid=700,
    name=QualifiedName("public", "metrics"),
    dimensions=(Dimension(1, "time", TimeKind.TIMESTAMPTZ, None),),
)


def chunk(number: int, lower: int, upper: int, *, pages: int = 0) -> Chunk:
    return Chunk(
        id=number,
        oid=1000 + number,
        name=QualifiedName("_timescaledb_internal", f"_hyper_7_{number}_chunk"),
        status=ChunkStatus.PLAIN,
        box=(Span(lower, upper),),
        compressed=None,
        tiered=False,
        rows=-1,
        pages=pages,
    )


def weeks(count: int) -> list[Chunk]:
    return [chunk(number, 100 * number, 100 * number + 100) for number in range(1, count + 1)]


def no_boundary(_lower: Key | None, _upper: Key | None, _rows: int) -> Key | None:
    raise AssertionError("a hypertable's bounds are not asked of the server")


def take(plan: ChunkPlan) -> ChunkSlice | None:
    slice_ = plan.take(no_boundary)
    assert slice_ is None or isinstance(slice_, ChunkSlice)
    return slice_


def read_all(plan: ChunkPlan) -> list[tuple[int, Span]]:
    seen = []
    while (slice_ := take(plan)) is not None:
        seen.append((slice_.chunk.id, slice_.span))
        plan.confirm(slice_)
    return seen


def read_some(plan: ChunkPlan, count: int) -> None:
    for _ in range(count):
        slice_ = take(plan)
        assert slice_ is not None
        plan.confirm(slice_)


def read_all_but_the_gone(plan: ChunkPlan, there: list[Chunk]) -> None:
    """Read what is there, and look whenever something was not."""
    chunks = {one.id: one for one in there}
    while (slice_ := take(plan)) is not None:
        if slice_.chunk.id in chunks:
            plan.confirm(replace(slice_, chunk=chunks[slice_.chunk.id]))
        else:
            plan.vanish(slice_)
        if plan.bereft:
            plan.adopt(there)


def test_chunks_are_read_by_range_and_then_by_id() -> None:
    plan = ChunkPlan(TABLE, [chunk(3, 0, 100), chunk(1, 100, 200), chunk(2, 0, 100)], Pace(limit=1))

    assert [number for number, _ in read_all(plan)] == [2, 3, 1]


def test_newest_first_is_the_reverse_order() -> None:
    plan = ChunkPlan(TABLE, weeks(3), Pace(limit=1), newest_first=True)

    assert [number for number, _ in read_all(plan)] == [3, 2, 1]


def test_a_chunk_without_a_known_pace_is_one_slice() -> None:
    plan = ChunkPlan(TABLE, weeks(1), Pace(limit=1))

    assert read_all(plan) == [(1, Span(100, 200))]


def test_a_paced_chunk_is_cut_into_ranges_that_cover_it() -> None:
    plan = ChunkPlan(TABLE, weeks(1), Pace(limit=1, first=40))

    first, second, third = take(plan), take(plan), take(plan)

    assert [slice_.span for slice_ in (first, second, third) if slice_] == [
        Span(100, 140),
        Span(140, 180),
        Span(180, 200),
    ]


def test_a_chunk_that_statistics_call_small_is_not_cut() -> None:
    plan = ChunkPlan(TABLE, [chunk(1, 0, 100, pages=2)], Pace(limit=1, first=10))

    assert read_all(plan) == [(1, Span(0, 100))]


def test_a_chunk_open_below_is_not_cut() -> None:
    plan = ChunkPlan(TABLE, [chunk(1, OPEN_BELOW, 100)], Pace(limit=1, first=10))

    assert read_all(plan) == [(1, Span(OPEN_BELOW, 100))]


def test_a_chunk_behind_a_custom_partitioning_function_is_not_cut() -> None:
    opaque = Hypertable(8, 800, TABLE.name, (Dimension(1, "label", TimeKind.OPAQUE, None),))
    plan = ChunkPlan(opaque, weeks(1), Pace(limit=1, first=10))

    assert read_all(plan) == [(1, Span(100, 200))]


def test_a_range_given_back_is_taken_again_before_anything_later() -> None:
    plan = ChunkPlan(TABLE, weeks(1), Pace(limit=1, first=50))
    first = take(plan)
    assert first is not None

    plan.give_back(first)

    assert take(plan) == first


def test_progress_counts_only_what_was_confirmed() -> None:
    plan = ChunkPlan(TABLE, weeks(3), Pace(limit=1))

    take(plan)

    assert plan.progress.after is None
    assert plan.progress.open == {}


def test_a_slice_confirmed_out_of_order_is_remembered_beyond_the_position() -> None:
    plan = ChunkPlan(TABLE, weeks(2), Pace(limit=1))
    first, second = take(plan), take(plan)
    assert first is not None
    assert second is not None

    plan.confirm(second)

    assert plan.progress.after is None
    assert plan.progress.open == {2: (Span(200, 300),)}


def test_the_position_passes_finished_chunks_once_the_oldest_is_finished() -> None:
    plan = ChunkPlan(TABLE, weeks(3), Pace(limit=1))
    first, second = take(plan), take(plan)
    assert first is not None
    assert second is not None

    plan.confirm(second)
    finished = plan.confirm(first)

    assert finished
    assert plan.progress.after == (200, 2)
    assert plan.progress.open == {}


def test_confirming_a_part_of_a_chunk_does_not_finish_it() -> None:
    plan = ChunkPlan(TABLE, weeks(1), Pace(limit=1, first=50))
    first = take(plan)
    assert first is not None

    assert not plan.confirm(first)


def test_readers_run_a_bounded_number_of_chunks_ahead() -> None:
    plan = ChunkPlan(TABLE, weeks(RUN_AHEAD + 5), Pace(limit=1))

    taken = [take(plan) for _ in range(RUN_AHEAD + 5)]

    assert sum(slice_ is not None for slice_ in taken) == RUN_AHEAD
    assert not plan.exhausted


def test_a_chunk_born_later_follows_by_id_whatever_its_range() -> None:
    plan = ChunkPlan(TABLE, weeks(2), Pace(limit=1))
    read_all(plan)

    born = plan.extend([*weeks(2), chunk(4, 0, 100), chunk(3, 500, 600)])

    assert born == 2
    assert [number for number, _ in read_all(plan)] == [3, 4]
    assert plan.progress.late_after == 4


def taken(plan: ChunkPlan) -> ChunkSlice:
    slice_ = take(plan)
    assert slice_ is not None
    return slice_


def test_a_vanished_chunk_leaves_nothing_to_read() -> None:
    chunks = weeks(2)
    plan = ChunkPlan(TABLE, chunks, Pace(limit=1))

    assert plan.vanish(taken(plan))

    assert [number for number, _ in read_all(plan)] == [2]
    assert plan.bereft
    assert plan.adopt(chunks[1:]) == 0
    assert plan.exhausted
    assert not plan.bereft


def test_what_a_merged_chunk_has_left_unread_is_read_in_the_one_that_took_it_in() -> None:
    plan = ChunkPlan(TABLE, weeks(3), Pace(limit=1))
    plan.confirm(taken(plan))
    plan.vanish(taken(plan))
    read_all(plan)
    assert plan.exhausted

    assert plan.adopt([chunk(1, 100, 300), chunk(3, 300, 400)]) == 1

    assert plan.unread(1) == [Span(200, 300)]
    assert not plan.untouched(1)
    assert read_all(plan) == [(1, Span(200, 300))]
    assert plan.progress.after == (300, 3), "the position does not go back"


def test_a_chunk_that_is_not_read_yet_reads_what_it_has_taken_in_as_well() -> None:
    plan = ChunkPlan(TABLE, weeks(2), Pace(limit=1))
    plan.vanish(taken(plan))

    plan.adopt([chunk(2, 100, 300)])

    assert plan.untouched(2)
    assert [span for _, span in read_all(plan)] == [Span(100, 300)]


def test_what_came_with_a_chunk_that_was_born_and_merged_between_two_looks_is_read() -> None:
    plan = ChunkPlan(TABLE, weeks(2), Pace(limit=1))
    read_all(plan)
    assert plan.bereft, "all that is known is read, so it looks once more"

    assert plan.adopt([chunk(1, 100, 200), chunk(2, 200, 400)]) == 1

    assert read_all(plan) == [(2, Span(300, 400))]
    assert plan.adopt([chunk(1, 100, 200), chunk(2, 200, 400)]) == 0
    assert not plan.bereft


def test_a_chunk_born_where_one_was_dropped_has_not_taken_it_in() -> None:
    plan = ChunkPlan(TABLE, weeks(1), Pace(limit=1))
    plan.vanish(taken(plan))
    born = chunk(2, 100, 200)
    plan.extend([born])
    read_all(plan)

    assert plan.adopt([born]) == 0


def test_a_resumed_plan_reads_what_finished_chunks_have_taken_in() -> None:
    plan = ChunkPlan(TABLE, weeks(4), Pace(limit=1))
    plan.confirm(taken(plan))
    plan.confirm(taken(plan))
    merged = [chunk(1, 100, 200), chunk(2, 200, 400), chunk(4, 400, 500)]

    resumed = ChunkPlan(TABLE, merged, Pace(limit=1), progress=plan.progress)

    assert resumed.unread(2) == [Span(300, 400)]
    assert read_all(resumed) == [(4, Span(400, 500)), (2, Span(300, 400))]
    assert read_all(ChunkPlan(TABLE, merged, Pace(limit=1), progress=resumed.progress)) == []


def test_newest_first_a_finished_chunk_that_took_in_an_older_one_is_read_again() -> None:
    plan = ChunkPlan(TABLE, weeks(4), Pace(limit=1), newest_first=True)
    plan.confirm(taken(plan))
    plan.confirm(taken(plan))

    resumed = ChunkPlan(
        TABLE, [chunk(1, 100, 200), chunk(3, 200, 400)], Pace(limit=1), progress=plan.progress
    )

    assert read_all(resumed) == [(3, Span(200, 400)), (1, Span(100, 200))]


def test_a_chunk_that_nobody_has_seen_is_found_in_the_one_that_took_it_in() -> None:
    plan = ChunkPlan(TABLE, weeks(2), Pace(limit=1))
    read_all(plan)

    resumed = ChunkPlan(
        TABLE, [chunk(1, 100, 200), chunk(2, 200, 400)], Pace(limit=1), progress=plan.progress
    )

    assert read_all(resumed) == [(2, Span(300, 400))]


def test_a_chunk_that_was_split_off_and_merged_again_before_it_was_read_is_read() -> None:
    plan = ChunkPlan(TABLE, weeks(2), Pace(limit=1))
    first = taken(plan)
    plan.extend([chunk(3, 250, 300)])
    plan.confirm(first)
    plan.confirm(taken(plan))
    assert plan.progress.after == (200, 2), "both are finished, and the one that was split off is not"

    resumed = ChunkPlan(TABLE, weeks(2), Pace(limit=1), progress=plan.progress)

    assert read_all(resumed) == [(2, Span(250, 300))]


def test_a_chunk_that_covers_what_another_covered_is_told_once() -> None:
    plan = ChunkPlan(TABLE, weeks(2), Pace(limit=1))
    read_all(plan)
    split = chunk(3, 250, 300)

    plan.extend([split, chunk(4, 300, 400)])
    assert plan.displacing == [split]

    resumed = ChunkPlan(TABLE, [*weeks(2), split], Pace(limit=1), progress=plan.progress)
    assert resumed.displacing == []


def test_a_chunk_that_was_split_off_between_two_syncs_is_told() -> None:
    plan = ChunkPlan(TABLE, weeks(2), Pace(limit=1))
    read_all(plan)
    split = chunk(3, 250, 300)

    resumed = ChunkPlan(
        TABLE, [chunk(1, 100, 200), chunk(2, 200, 250), split], Pace(limit=1), progress=plan.progress
    )

    assert resumed.displacing == [split]


def scattered(count: int) -> list[Chunk]:
    """More chunks with gaps between them than a state keeps ranges: the first gaps are closed in it."""
    return [chunk(number, 200 * number, 200 * number + 100) for number in range(1, count + 1)]


def test_a_chunk_that_is_born_in_a_gap_that_the_state_closed_is_read_and_has_what_nobody_had() -> None:
    many = scattered(MOST_SPANS + 20)
    plan = ChunkPlan(TABLE, many, Pace(limit=1))
    read_all(plan)
    born = chunk(99, 900, 1000)

    resumed = ChunkPlan(TABLE, [*many, born], Pace(limit=1), progress=plan.progress)

    assert resumed.space(99) == "", "its rows are told from others by their time"
    assert (resumed.displacing, resumed.doubtful) == ([], [])
    assert read_all(resumed) == [(99, born.span)]


def test_where_a_state_has_closed_gaps_a_chunk_that_is_new_may_have_been_split_off() -> None:
    many = scattered(MOST_SPANS + 20)
    plan = ChunkPlan(TABLE, many, Pace(limit=1))
    read_all(plan)
    split = chunk(99, 850, 900)
    narrower = [chunk(4, 800, 850) if one.id == 4 else one for one in many]

    resumed = ChunkPlan(TABLE, [*narrower, split], Pace(limit=1), progress=plan.progress)

    assert (resumed.displacing, resumed.doubtful) == ([], [split])
    assert read_all(resumed) == [(99, split.span)]
    assert len(plan.progress.model_dump_json()) <= 2048


def test_a_chunk_that_was_split_off_and_read_leaves_no_gap() -> None:
    plan = ChunkPlan(TABLE, weeks(2), Pace(limit=1))
    read_all(plan)
    plan.extend([chunk(3, 250, 300)])
    assert read_all(plan) == [(3, Span(250, 300))]

    assert read_all(ChunkPlan(TABLE, weeks(2), Pace(limit=1), progress=plan.progress)) == []


def test_a_chunk_that_was_left_half_read_when_it_was_merged_is_read_again_after_a_kill() -> None:
    plan = ChunkPlan(TABLE, weeks(3), Pace(limit=1))
    plan.confirm(taken(plan))
    plan.vanish(taken(plan))

    resumed = ChunkPlan(
        TABLE, [chunk(1, 100, 300), chunk(3, 300, 400)], Pace(limit=1), progress=plan.progress
    )

    assert sorted(read_all(resumed)) == [(1, Span(200, 300)), (3, Span(300, 400))]


def test_a_state_without_the_time_of_finished_chunks_says_nothing_of_their_growth() -> None:
    plan = ChunkPlan(TABLE, weeks(2), Pace(limit=1))
    read_all(plan)
    before = plan.progress.model_copy(update={"finished": None})

    assert read_all(ChunkPlan(TABLE, [chunk(1, 0, 300)], Pace(limit=1), progress=before)) == []


def test_a_window_leaves_out_chunks_before_it_and_clips_the_one_it_cuts() -> None:
    plan = ChunkPlan(TABLE, weeks(3), Pace(limit=1), window=Span(250, 10_000))

    assert read_all(plan) == [(2, Span(250, 300)), (3, Span(300, 400))]


def test_a_resumed_plan_keeps_the_window_it_began_with() -> None:
    begun = ChunkPlan(TABLE, weeks(3), Pace(limit=1), window=Span(250, 10_000)).progress

    resumed = ChunkPlan(TABLE, weeks(3), Pace(limit=1), window=Span(390, 10_000), progress=begun)

    assert read_all(resumed) == [(2, Span(250, 300)), (3, Span(300, 400))]


def test_the_progress_of_fifty_thousand_chunks_fits_in_four_kibibytes() -> None:
    day = 86_400_000_000
    start = 1_700_000_000_000_000
    chunks = [chunk(n, start + n * day, start + n * day + day) for n in range(1, 50_001)]
    plan = ChunkPlan(TABLE, chunks, Pace(limit=1, first=day / 3))
    for _ in range(60_000):
        if (slice_ := take(plan)) is not None:
            plan.confirm(slice_)
    held_up = take(plan)
    while (slice_ := take(plan)) is not None:
        plan.confirm(slice_)

    assert held_up is not None
    assert len(plan.progress.model_dump_json()) <= 4096


def test_chunks_that_share_time_are_read_once_where_time_alone_tells_rows_apart() -> None:
    chunks = [chunk(1, 0, 100), chunk(2, 0, 100), chunk(3, 50, 150)]
    plan = ChunkPlan(TABLE, chunks, Pace(limit=1), by_time_alone=True)

    assert read_all(plan) == [(1, Span(0, 100)), (3, Span(100, 150))]


def test_a_resumed_plan_by_time_alone_remembers_what_is_behind_it() -> None:
    chunks = [chunk(1, 0, 100), chunk(2, 0, 100), chunk(3, 100, 200)]
    plan = ChunkPlan(TABLE, chunks, Pace(limit=1), by_time_alone=True)
    first = take(plan)
    assert first is not None
    plan.confirm(first)

    resumed = ChunkPlan(TABLE, chunks, Pace(limit=1), by_time_alone=True, progress=plan.progress)

    assert read_all(resumed) == [(3, Span(100, 200))]


@given(
    cuts=st.lists(st.integers(1, 30), min_size=1, max_size=60),
    stop_after=st.integers(0, 59),
    dropped=st.sets(st.integers(1, 6)),
    newest_first=st.booleans(),
)
def test_what_is_confirmed_and_what_a_resumed_plan_reads_is_everything_once(
    cuts: list[int], stop_after: int, dropped: set[int], newest_first: bool
) -> None:
    """Any prefix of confirmed slices, in any order of width, plus the rest after a restart covers each chunk once."""
    chunks = weeks(6)
    plan = ChunkPlan(TABLE, chunks, Pace(limit=1, first=float(cuts[0])), newest_first=newest_first)
    confirmed: list[tuple[int, Span]] = []
    out: list[ChunkSlice] = []
    for step, width in enumerate(cuts[:stop_after]):
        plan.pace = Pace(limit=1, first=float(width))
        if (slice_ := take(plan)) is not None:
            out.append(slice_)
        if out and step % 3:
            last = out.pop()
            plan.confirm(last)
            confirmed.append((last.chunk.id, last.span))
    progress = ChunkProgress.model_validate_json(plan.progress.model_dump_json())

    left = [known for known in chunks if known.id not in dropped]
    resumed = read_all(
        ChunkPlan(TABLE, left, Pace(limit=1, first=17.0), newest_first=newest_first, progress=progress)
    )

    for known in left:
        pieces = [span for number, span in confirmed + resumed if number == known.id]
        assert sum(span.upper - span.lower for span in pieces) == 100
        assert unite(pieces) == [known.span]


@given(
    st.tuples(st.integers(0, 50), st.integers(50, 100)),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=6),
)
def test_subtracting_ranges_leaves_exactly_the_other_points(
    span: tuple[int, int], finished: list[tuple[int, int]]
) -> None:
    spans = [Span(min(pair), max(pair)) for pair in finished]

    left = subtract(Span(*span), spans)

    covered = {point for piece in spans for point in range(*piece)}
    assert [point for piece in left for point in range(*piece)] == [
        point for point in range(*span) if point not in covered
    ]


def test_what_a_chunk_had_lost_when_its_slice_was_read_is_read_where_it_went() -> None:
    plan = ChunkPlan(TABLE, [chunk(1, 0, 100)], Pace(limit=1))
    slice_ = take(plan)
    assert slice_ is not None
    plan.confirm(replace(slice_, chunk=chunk(1, 0, 40)))

    assert plan.bereft
    assert plan.adopt([chunk(1, 0, 100)]) == 1, "it was split off, and is back"
    assert read_all(plan) == [(1, Span(40, 100))]
    assert plan.progress.finished == {"": ((0, 100),)}


def test_a_chunk_that_has_taken_in_several_does_not_count_as_read_what_is_unread_of_the_others() -> None:
    plan = ChunkPlan(TABLE, weeks(4), Pace(limit=1))
    read_some(plan, 1)
    gone = take(plan)
    assert gone is not None
    plan.vanish(gone)
    merged = [chunk(1, 100, 500)]
    plan.adopt(merged)
    assert plan.progress.open == {1: ((100, 200),)}

    later = ChunkPlan(TABLE, merged, Pace(limit=1), progress=plan.progress)
    assert read_all(later) == [(1, Span(200, 500))]

    read_all_but_the_gone(plan, merged)
    assert plan.exhausted
    assert plan.progress.finished == {"": ((100, 500),)}


def test_chunks_that_are_finished_are_not_left_although_others_come_before_them() -> None:
    plan = ChunkPlan(TABLE, weeks(100), Pace(limit=1), newest_first=True, window=Span(9_900, 20_000))
    assert plan.chunks_left == 2
    read_all(plan)
    assert plan.chunks_left == 0
    plan.extend([chunk(101, 10_100, 10_200)])
    assert plan.chunks_left == 1
