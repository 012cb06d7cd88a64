"""Which changes are news, by what of a chunk or of a table's keys is read, and when."""

from __future__ import annotations

from dataclasses import replace

from source_timescaledb.cdc.coverage import (
    ChunkJudge,
    Coverage,
    KeyJudge,
    Skipped,
    Verdict,
    WholeJudge,
)
from source_timescaledb.cdc.keys import Placement
from source_timescaledb.cdc.visibility import Snapshot
from source_timescaledb.hypertables.model import (
    OPEN_ABOVE,
    OPEN_BELOW,
    Chunk,
    ChunkStatus,
    Dimension,
    Hypertable,
    QualifiedName,
    Span,
    TimeKind,
)
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.snapshot.key_plan import KeyPlan
from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.snapshot.plan import WholePlan
from source_timescaledb.snapshot.slices import ChunkSlice, Slice
from source_timescaledb.state.model import ChunkProgress, Key

TABLE = Hypertable(
    1, 100, QualifiedName("public", "metrics"), (Dimension(1, "time", TimeKind.INTEGER, None),)
)
SNAPSHOT = "100:110:105"
"""Sees 99 and 104, but not 105 and 110."""


def chunk(number: int, lower: int, upper: int) -> Chunk:
    name = QualifiedName("_timescaledb_internal", f"_hyper_1_{number}_chunk")
    return Chunk(
        number, 100 + number, name, ChunkStatus(0), (Span(lower, upper),), None, tiered=False, rows=0, pages=0
    )


def plan_of(*chunks: Chunk, progress: ChunkProgress | None = None) -> ChunkPlan:
    return ChunkPlan(TABLE, chunks, Pace(limit=1.0), progress=progress)


def read(coverage: Coverage, count: int = 1) -> None:
    """Read so many slices."""
    for _ in range(count):
        assert coverage.plan is not None
        slice_ = coverage.plan.take(_no_boundary)
        assert slice_ is not None
        confirm(coverage, slice_)


def confirm(coverage: Coverage, slice_: Slice) -> None:
    assert coverage.plan is not None
    coverage.plan.confirm(slice_)
    coverage.add(slice_, SNAPSHOT)


def _no_boundary(_lower: Key | None, _upper: Key | None, _rows: int) -> Key | None:
    return None


def placing(bounds: tuple[Key, ...]) -> Placement:
    return Placement(bounds, lambda _bounds, _keys: [], (int,))


def covering(plan: ChunkPlan | KeyPlan | WholePlan | None, *, exposed: bool = False) -> Coverage:
    return Coverage(plan, Skipped(), exposed=exposed)


def test_changes_of_an_unread_chunk_are_left_for_its_snapshot_and_remembered() -> None:
    coverage = covering(plan_of(chunk(1, 0, 10)))
    judge = coverage.of_chunk(1)
    assert isinstance(judge, ChunkJudge)

    assert not judge.is_news(7, 5)

    assert coverage.skipped.unseen == {7}


def test_changes_of_a_fresh_chunk_are_news_if_its_snapshot_does_not_see_them() -> None:
    coverage = covering(plan_of(chunk(1, 0, 10)))
    read(coverage)
    judge = coverage.of_chunk(1)
    assert isinstance(judge, ChunkJudge)

    assert [judge.is_news(xid, 5) for xid in (99, 104, 105, 110)] == [False, False, True, True]
    assert coverage.skipped.unseen == set()


def news(judge: object, time: int, *, xid: int = 99) -> bool:
    """Whether a change of a row with this time is, by a transaction that slices have seen unless told otherwise."""
    assert isinstance(judge, ChunkJudge)
    return judge.is_news(xid, time)


def look(coverage: Coverage, *chunks: Chunk) -> None:
    """Let the plan know of all chunks there are now."""
    assert isinstance(coverage.plan, ChunkPlan)
    coverage.plan.adopt(chunks)


def test_all_changes_of_a_settled_chunk_are_news() -> None:
    coverage = covering(plan_of(chunk(1, 0, 10), chunk(2, 10, 20)))
    read(coverage)
    coverage.settle()

    assert news(coverage.of_chunk(1), 5)
    assert not news(coverage.of_chunk(2), 15)
    read(coverage)
    coverage.settle()
    assert news(coverage.of_chunk(1), 5)
    assert not news(coverage.of_chunk(1), 25), "so it has taken in a chunk that nobody has seen"
    look(coverage, chunk(1, 0, 10), chunk(2, 10, 20))
    assert coverage.of_chunk(1) is Verdict.NEWS


def test_a_row_that_came_from_an_unread_chunk_by_a_merge_is_left_for_the_slice_that_will_have_it() -> None:
    coverage = covering(plan_of(chunk(1, 0, 10), chunk(2, 10, 20), chunk(3, 20, 30)))
    read(coverage)
    coverage.settle()
    plan = coverage.plan
    assert isinstance(plan, ChunkPlan)

    assert not news(coverage.of_chunk(1), 15), "nobody knows yet that chunk 2 has become part of chunk 1"
    gone = plan.take(_no_boundary)
    assert isinstance(gone, ChunkSlice)
    plan.vanish(gone)
    coverage.add(gone, "")
    assert not news(coverage.of_chunk(1), 15), "chunk 2 is known to be gone, and not yet where to"
    assert not news(coverage.of_dropped_chunk(2), 15)
    plan.adopt([chunk(1, 0, 20), chunk(3, 20, 30)])
    assert not news(coverage.of_chunk(1), 15)
    assert news(coverage.of_chunk(1), 5)

    read(coverage, 2)
    assert [news(coverage.of_chunk(1), 15, xid=xid) for xid in (104, 105)] == [False, True]


def test_a_row_told_of_a_fresh_chunk_that_was_merged_since_is_judged_by_the_slice_that_has_read_it() -> None:
    coverage = covering(plan_of(chunk(1, 0, 10), chunk(2, 10, 20), chunk(3, 20, 30)))
    read(coverage, 2)

    assert [news(coverage.of_chunk(1), 15, xid=xid) for xid in (104, 105)] == [False, True]


def test_a_chunk_that_was_split_off_is_judged_by_itself_and_its_rows_in_the_other_one_by_that() -> None:
    coverage = covering(plan_of(chunk(1, 0, 10), chunk(2, 10, 20)))
    read(coverage)
    coverage.settle()
    plan = coverage.plan
    assert isinstance(plan, ChunkPlan)
    plan.extend([chunk(3, 5, 10)])

    assert news(coverage.of_chunk(1), 7), "it was read there"
    assert not news(coverage.of_chunk(3), 7)


def test_chunks_that_share_their_time_are_told_apart_by_their_other_dimensions() -> None:
    table = replace(TABLE, dimensions=(*TABLE.dimensions, Dimension(2, "device", TimeKind.INTEGER, None)))
    halves = [chunk(number, 0, 10)._replace(box=(Span(0, 10), Span(number, number + 1))) for number in (1, 2)]
    coverage = covering(ChunkPlan(table, halves, Pace(limit=1.0)))
    read(coverage)
    coverage.settle()

    assert news(coverage.of_chunk(1), 5)
    assert not news(coverage.of_chunk(2), 5)


def test_infinity_lies_in_the_chunk_that_is_open_above_and_minus_infinity_in_the_one_open_below() -> None:
    coverage = covering(plan_of(chunk(1, OPEN_BELOW, 0), chunk(2, 10, OPEN_ABOVE)))

    for number, time in ((1, OPEN_BELOW), (2, OPEN_ABOVE)):
        judge = coverage.of_chunk(number)
        assert isinstance(judge, ChunkJudge)
        assert not judge.is_news(7, time)


def test_a_chunk_that_is_not_known_yet_is_unread() -> None:
    judge = covering(plan_of(chunk(1, 0, 10))).of_chunk(9)

    assert isinstance(judge, ChunkJudge)
    assert not judge.is_news(7, 5)


def test_a_dropped_chunk_that_a_new_stream_never_had_is_none_of_its_business() -> None:
    coverage = covering(plan_of(chunk(5, 0, 10)))

    assert not news(coverage.of_dropped_chunk(2), 15)
    assert not news(coverage.of_dropped_chunk(9), 15)
    assert not coverage.has_read(2, 99), "so a TRUNCATE there took nothing that was told"


def test_a_dropped_chunk_is_history_for_a_stream_that_was_followed_before() -> None:
    progress = ChunkProgress(hypertable=1, through=4, after=(0, 4), last_chunk=4)
    coverage = covering(plan_of(chunk(4, 0, 10), progress=progress))

    assert coverage.of_dropped_chunk(2) is Verdict.NEWS
    assert coverage.of_dropped_chunk(9) is Verdict.NEWS


def test_a_stream_that_had_nothing_to_read_was_followed_nevertheless() -> None:
    progress = ChunkProgress(hypertable=1, through=0)
    coverage = Coverage(plan_of(progress=progress), Skipped(), exposed=False, complete=True)

    assert coverage.of_dropped_chunk(1) is Verdict.NEWS


def test_rows_of_a_chunk_that_was_born_and_merged_between_two_syncs_are_left_to_the_chunk_that_has_them() -> (
    None
):
    progress = ChunkProgress(hypertable=1, through=1, after=(0, 1), last_chunk=1, finished={"": ((0, 10),)})
    coverage = Coverage(plan_of(chunk(1, 0, 20), progress=progress), Skipped(), exposed=False, complete=True)

    assert not news(coverage.of_dropped_chunk(2), 15), "chunk 1 has it, where its DELETE is passed over, too"
    assert not news(coverage.of_chunk(1), 15)
    assert news(coverage.of_dropped_chunk(2), 25), "that was in a chunk that nobody has"


def test_a_row_written_to_a_chunk_that_was_split_off_and_merged_again_is_told() -> None:
    coverage = covering(plan_of(chunk(1, 0, 10)))
    read(coverage)
    coverage.settle()

    assert news(coverage.of_dropped_chunk(2), 5)


def test_a_stream_is_exposed_while_rows_that_were_told_before_are_unread_if_it_has_a_key() -> None:
    for keyed in (True, False):
        coverage = Coverage(plan_of(chunk(1, 0, 10)), Skipped(), exposed=False, keyed=keyed)
        read(coverage)
        coverage.settle()
        plan = coverage.plan
        assert isinstance(plan, ChunkPlan)
        plan.extend([chunk(2, 5, 10)])
        coverage.expose()
        assert coverage.exposed == keyed
        read(coverage)
        coverage.settle()
        assert not coverage.exposed


def test_a_chunk_that_was_dropped_after_a_new_stream_read_it_is_history_too() -> None:
    coverage = covering(plan_of(chunk(1, 0, 10), chunk(2, 10, 20)))
    read(coverage)
    coverage.settle()

    assert news(coverage.of_dropped_chunk(1), 5)


def test_of_an_exposed_stream_what_is_read_is_news_whatever_its_snapshot_saw_and_the_rest_is_left_to_be_read() -> (
    None
):
    coverage = covering(plan_of(chunk(1, 0, 10), chunk(2, 10, 20)), exposed=True)
    assert [news(coverage.of_chunk(number), 5) for number in (1, 7)] == [False, False]
    assert not news(coverage.of_dropped_chunk(7), 15)
    assert coverage.skipped.unseen == {99}

    read(coverage)

    assert [news(coverage.of_chunk(1), time, xid=99) for time in (5, 15)] == [True, False]
    read(coverage)
    coverage.settle()
    assert not coverage.exposed


def test_a_truncate_of_an_exposed_stream_may_have_taken_rows_that_were_told() -> None:
    coverage = covering(plan_of(chunk(1, 0, 10)), exposed=True)

    assert coverage.has_read(1, 99)


def test_a_truncate_takes_nothing_from_an_unread_chunk_or_one_whose_snapshot_sees_it() -> None:
    coverage = covering(plan_of(chunk(1, 0, 10), chunk(2, 10, 20)))
    read(coverage)

    assert not coverage.has_read(2, 110)
    assert not coverage.has_read(1, 99)
    assert coverage.has_read(1, 110)

    coverage.settle()

    assert coverage.has_read(1, 99)


def test_a_truncate_takes_what_an_earlier_process_has_read_of_a_chunk() -> None:
    progress = ChunkProgress(hypertable=1, through=2, open={2: ((10, 15),)}, last_chunk=2)
    coverage = covering(plan_of(chunk(1, 0, 10), chunk(2, 10, 20), progress=progress))

    assert coverage.has_read(2, 50)
    assert not coverage.has_read(1, 50)


def test_keys_are_judged_by_the_slice_they_lie_in() -> None:
    plan = KeyPlan(("id",), Pace(limit=1.0), holding=True)
    coverage = covering(plan)
    first = plan.take(lambda _lower, _upper, _rows: ("10",))
    assert first is not None
    confirm(coverage, first)
    coverage.settle()
    second = plan.take(lambda _lower, _upper, _rows: ("20",))
    assert second is not None
    confirm(coverage, second)

    judge = coverage.of_table(placing)

    assert isinstance(judge, KeyJudge)
    assert [judge.is_news(104, (key,)) for key in ("5", "10", "15", "20", "99")] == [
        True,
        False,
        False,
        False,
        False,
    ]
    assert [judge.is_news(105, (key,)) for key in ("5", "10", "15", "20", "99")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert coverage.skipped.unseen == {104, 105}
    assert judge.has_read(99)


def test_a_table_read_in_one_query_is_unread_then_fresh_then_settled() -> None:
    coverage = covering(WholePlan(Pace(limit=1.0)))
    assert coverage.of_table(placing) is Verdict.UNREAD

    read(coverage)
    judge = coverage.of_table(placing)
    assert isinstance(judge, WholeJudge)
    assert [judge.is_news(xid) for xid in (104, 105)] == [False, True]

    coverage.settle()
    assert coverage.of_table(placing) is Verdict.NEWS


def test_no_snapshot_is_accepted_that_does_not_see_what_was_skipped() -> None:
    skipped = Skipped(begun=100)
    skipped.add(105)

    assert not skipped.accept(Snapshot.parse(SNAPSHOT))
    assert skipped.accept(Snapshot.parse("106:110:"))
    assert not Skipped(begun=101).accept(Snapshot.parse(SNAPSHOT))
