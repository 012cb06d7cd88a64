"""From messages to records: both halves of an UPDATE, values that were not sent, truncates, markers, positions."""

from __future__ import annotations

from typing import Any

import pytest

from source_timescaledb.cdc.coverage import Coverage, Skipped
from source_timescaledb.cdc.followed import FollowedStream
from source_timescaledb.cdc.route import Owner
from source_timescaledb.cdc.transaction import MisplacedMessage
from source_timescaledb.errors import ConfigurationError, DefectError, UnavailableError
from source_timescaledb.hypertables.model import OPEN_BELOW, Chunk, ChunkStatus, QualifiedName, Span
from source_timescaledb.lsn import Lsn
from source_timescaledb.pgoutput.messages import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    OldKind,
    ReplicaIdentity,
    Truncate,
    Update,
)
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.snapshot.key_plan import KeyPlan
from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.snapshot.plan import WholePlan
from unit_tests.cdc.feed import TABLE_OID, Feed, MemoryCatalog, described, stream_of

FULL = ReplicaIdentity.FULL


def told(feed: Feed) -> list[tuple[Any, Any, bool]]:
    """Each record's number and note, and whether its row is there."""
    rows = [record["data"] for record in feed.records()]
    return [(row["id"], row["note"], row["_ab_cdc_deleted_at"] is None) for row in rows]


def updated(new: tuple[Any, ...], old: tuple[Any, ...] | None = None, kind: OldKind = OldKind.NONE) -> Update:
    return Update(TABLE_OID, old, kind, new)


def test_an_update_of_a_row_that_keeps_its_key_tells_the_new_row() -> None:
    feed = Feed(stream_of())
    feed.transaction(described(), updated((b"1", b"new")))

    assert told(feed) == [(1, "new", True)]


def test_an_update_of_a_key_tells_that_the_old_one_is_gone() -> None:
    feed = Feed(stream_of())
    feed.transaction(described(), updated((b"2", b"new"), (b"1", None), OldKind.KEY))

    assert told(feed) == [(1, None, False), (2, "new", True)]


def test_a_full_old_row_with_the_same_key_is_not_told() -> None:
    feed = Feed(stream_of())
    feed.transaction(described(identity=FULL), updated((b"1", b"new"), (b"1", b"old"), OldKind.FULL))

    assert told(feed) == [(1, "new", True)]


def test_without_a_key_an_update_is_one_row_less_and_one_more_even_if_they_are_equal() -> None:
    feed = Feed(stream_of(key=()))
    feed.transaction(described(identity=FULL), updated((b"1", b"same"), (b"1", b"same"), OldKind.FULL))

    assert told(feed) == [(1, "same", False), (1, "same", True)]


def test_a_value_that_was_not_sent_comes_from_the_old_row_where_that_is_whole() -> None:
    feed = Feed(stream_of())
    feed.transaction(described(identity=FULL), updated((b"1", UNCHANGED), (b"1", b"old"), OldKind.FULL))

    assert told(feed) == [(1, "old", True)]
    assert feed.wanted == []


def test_a_value_that_was_not_sent_is_looked_up_and_the_order_is_kept() -> None:
    feed = Feed(stream_of())
    feed.transaction(
        described(),
        Insert(TABLE_OID, (b"1", b"first")),
        updated((b"2", UNCHANGED)),
        Insert(TABLE_OID, (b"3", b"third")),
    )

    assert told(feed) == [(1, "first", True), (2, "looked up", True), (3, "third", True)]
    assert [one.positions for one in feed.wanted] == [[1]]


def test_a_value_that_cannot_be_looked_up_for_a_while_is_told_by_whoever_goes_on() -> None:
    feed = Feed(stream_of())
    feed.unreachable = True
    feed.transaction(described(), Insert(TABLE_OID, (b"1", b"first")), updated((b"2", UNCHANGED)))
    with pytest.raises(UnavailableError):
        feed.records()
    feed.unreachable = False
    feed.changes.reconnect(feed)

    assert told(feed) == [(1, "first", True), (2, "looked up", True)]


def test_a_value_of_a_row_that_is_gone_is_null_with_a_note() -> None:
    feed = Feed(stream_of())
    feed.found = None
    feed.transaction(described(), updated((b"2", UNCHANGED)))

    (record,) = feed.records()

    assert record["data"]["note"] is None
    assert [change["field"] for change in record["meta"]["changes"]] == ["note"]


def test_a_value_that_nobody_selected_is_not_looked_up() -> None:
    feed = Feed(stream_of())
    feed.transaction(described(columns=("id", "note", "big")), updated((b"2", b"note", UNCHANGED)))

    assert told(feed) == [(2, "note", True)]
    assert feed.wanted == []


def test_a_large_key_is_taken_from_the_old_key() -> None:
    feed = Feed(stream_of(key=("note",)))
    feed.transaction(described(key=("note",)), updated((b"2", UNCHANGED), (None, b"large"), OldKind.KEY))

    assert told(feed) == [(2, "large", True)]


@pytest.mark.parametrize(
    "change", [updated((b"1", b"x")), Delete(TABLE_OID, (None, b"x"), OldKind.KEY)], ids=["update", "delete"]
)
def test_an_identity_without_the_key_cannot_tell_which_row_it_was(change: Update | Delete) -> None:
    feed = Feed(stream_of())
    feed.transaction(
        described(identity=ReplicaIdentity.INDEX, key=("note",)), Insert(TABLE_OID, (b"1", b"a"))
    )
    assert told(feed) == [(1, "a", True)]
    feed.transaction(change)

    with pytest.raises(ConfigurationError, match="leaves out columns of its key"):
        feed.records()


def test_an_unread_table_is_not_told_and_nothing_of_it_stops_the_sync() -> None:
    stream = stream_of(plan=WholePlan(Pace(limit=1.0)))
    feed = Feed(stream, fails=True)
    feed.transaction(
        described(identity=ReplicaIdentity.INDEX, key=("note",)),
        Insert(TABLE_OID, (b"1", b"a")),
        updated((b"1", UNCHANGED)),
        Delete(TABLE_OID, (None, b"x"), OldKind.KEY),
        Truncate((TABLE_OID,), cascade=False, restart_identity=False),
        xid=77,
    )

    assert told(feed) == []
    assert stream.coverage.skipped.unseen == {77}


def test_the_halves_of_an_update_are_judged_each_by_its_own_slice() -> None:
    plan = KeyPlan(("id",), Pace(limit=1.0), holding=True)
    stream = stream_of(plan=plan)
    first = plan.take(lambda _lower, _upper, _rows: ("10",))
    assert first is not None
    plan.confirm(first)
    stream.coverage.add(first, "100:100:")
    feed = Feed(stream)
    feed.transaction(
        described(),
        updated((b"20", b"leaves what was read"), (b"5", None), OldKind.KEY),
        updated((b"6", b"comes into it"), (b"21", None), OldKind.KEY),
        xid=200,
    )

    assert told(feed) == [(5, None, False), (6, "comes into it", True)]


def unread_chunk(*, exposed: bool) -> tuple[FollowedStream, MemoryCatalog]:
    """A hypertable whose one chunk is unread; of an exposed one a killed process may have told rows."""
    name = QualifiedName("_timescaledb_internal", "_hyper_1_4_chunk")
    span = Span(OPEN_BELOW, 10)
    chunk = Chunk(4, TABLE_OID, name, ChunkStatus(0), (span,), None, tiered=False, rows=0, pages=0)
    stream = stream_of(chunked=True)
    assert stream.hypertable is not None
    plan = ChunkPlan(stream.hypertable, [chunk], Pace(limit=1.0))
    stream.coverage = Coverage(plan, Skipped(), exposed=exposed)
    return stream, MemoryCatalog({TABLE_OID: Owner(stream, 4)})


def test_of_what_a_killed_process_may_have_told_every_removal_is_and_nothing_new_that_will_be_read() -> None:
    stream, catalog = unread_chunk(exposed=True)
    feed = Feed(stream, catalog=catalog)
    feed.transaction(
        described(),
        Insert(TABLE_OID, (b"1", b"new")),
        updated((b"2", b"changed")),
        updated((b"3", b"moved"), (b"4", None), OldKind.KEY),
        Delete(TABLE_OID, (b"5", None), OldKind.KEY),
        xid=77,
    )

    assert told(feed) == [(4, None, False), (5, None, False)]
    assert stream.coverage.skipped.unseen == {77}, "no snapshot counts that does not see the removals either"


def test_a_truncate_is_told_of_what_a_killed_process_may_have_told() -> None:
    stream, catalog = unread_chunk(exposed=True)
    feed = Feed(stream, catalog=catalog)
    feed.transaction(described(), Truncate((TABLE_OID,), cascade=False, restart_identity=False), xid=77)

    assert told(feed) == []
    assert stream.truncated == 1


@pytest.mark.parametrize(
    "change", [updated((b"1", b"x")), Delete(TABLE_OID, (None, b"x"), OldKind.KEY)], ids=["update", "delete"]
)
def test_an_identity_without_the_key_is_refused_where_removals_have_to_be_told(change: Message) -> None:
    stream, catalog = unread_chunk(exposed=True)
    feed = Feed(stream, catalog=catalog)
    feed.transaction(described(identity=ReplicaIdentity.INDEX, key=("note",)), change)

    with pytest.raises(ConfigurationError, match="leaves out columns of its key"):
        feed.records()


def test_rows_between_compression_markers_are_not_told() -> None:
    feed = Feed(stream_of())

    def marker(end: str) -> LogicalMessage:
        return LogicalMessage(True, Lsn(1), f"::timescaledb-decompression-{end}", b"")

    feed.transaction(
        described(),
        marker("start"),
        Insert(TABLE_OID, (b"1", b"moved")),
        Delete(TABLE_OID, (b"1", None), OldKind.KEY),
        updated((b"1", b"moved")),
        Truncate((TABLE_OID,), cascade=False, restart_identity=False),
        marker("end"),
        Insert(TABLE_OID, (b"2", b"real")),
    )

    assert told(feed) == [(2, "real", True)]


def test_a_truncate_is_counted_or_stops_the_sync() -> None:
    stream = stream_of()
    truncate = Truncate((TABLE_OID,), cascade=False, restart_identity=False)
    feed = Feed(stream)
    feed.transaction(described(), truncate)
    assert told(feed) == []
    assert stream.truncated == 1

    feed = Feed(stream, fails=True)
    feed.transaction(described(), truncate)
    with pytest.raises(ConfigurationError, match="TRUNCATE"):
        feed.records()


def test_a_truncate_of_a_hypertables_own_table_takes_nothing_and_one_of_its_chunks_counts_once() -> None:
    stream = stream_of("metrics", chunked=True)
    owners = {TABLE_OID: Owner(stream, None), 7: Owner(stream, 1), 8: Owner(stream, 2)}
    feed = Feed(stream, catalog=MemoryCatalog(owners))
    relations = [described(oid, f"t{oid}") for oid in owners]
    feed.transaction(*relations, Truncate((TABLE_OID,), cascade=False, restart_identity=False))
    assert told(feed) == []
    assert stream.truncated == 0

    feed.transaction(Truncate((TABLE_OID, 7, 8), cascade=False, restart_identity=False))
    assert told(feed) == []
    assert stream.truncated == 1


def test_the_position_is_the_end_of_the_last_commit_whose_rows_are_out() -> None:
    feed = Feed(stream_of())
    feed.transaction(described(), Insert(TABLE_OID, (b"1", b"a")))

    feed.records()

    assert int(feed.changes.position) == feed._at - 10 + 8
    assert not feed.changes.in_transaction


@pytest.mark.parametrize(("rows", "batches"), [(1, [5, 5, 5]), (4, [8, 8, 8]), (25, [10, 10, 5] * 3)])
def test_a_batch_ends_with_a_transaction_if_it_can(
    rows: int, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("source_timescaledb.cdc.lines.LINES_AT_ONCE", 10)
    feed = Feed(stream_of())
    feed.transaction(described())
    for _ in range(sum(batches) // rows):
        feed.transaction(*(Insert(TABLE_OID, (b"1", b"a")) for _ in range(rows)))
    feed.come_at_once()

    handed_out = [(batch.records, feed.changes.rests) for batch in feed.batches() if batch.records]

    assert handed_out == [(records, records != 10) for records in batches]


def test_a_fence_of_somebody_else_ends_nothing() -> None:
    feed = Feed(stream_of())
    feed.transaction(LogicalMessage(True, Lsn(1), "source_timescaledb", b"another"))
    feed.transaction(LogicalMessage(False, Lsn(1), "source_timescaledb", b"1"))
    feed.transaction(described(), Insert(TABLE_OID, (b"1", b"a")))

    assert told(feed) == [(1, "a", True)]


def test_the_clock_grows_with_every_record_whatever_was_looked_up() -> None:
    feed = Feed(stream_of())
    feed.transaction(
        described(), *(updated((b"1", UNCHANGED)) for _ in range(3)), Insert(TABLE_OID, (b"1", b"a"))
    )

    clocks = [record["data"]["_ab_cdc_lsn"] for record in feed.records()]

    assert clocks == sorted(set(clocks))


def placed(*messages: Message) -> Feed:
    """Messages as they stand, with no transaction around them."""
    feed = Feed(stream_of())
    feed.transaction(described())
    feed.come_as_they_are(messages)
    return feed


@pytest.mark.parametrize(
    "message",
    [
        Insert(TABLE_OID, (b"1", b"canary")),
        updated((b"1", b"canary")),
        Delete(TABLE_OID, (b"1", None), OldKind.KEY),
        Truncate((TABLE_OID,), cascade=False, restart_identity=False),
        described(),
        LogicalMessage(True, Lsn(1), "anything", b""),
        Commit(Lsn(0), Lsn(8), 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_stands_outside_of_a_transaction_is_refused(message: Message) -> None:
    with pytest.raises(MisplacedMessage, match="outside of a transaction") as caught:
        placed(message).records()

    assert "canary" not in str(caught.value)


def test_a_message_that_is_not_transactional_may_stand_anywhere() -> None:
    anything = LogicalMessage(False, Lsn(1), "anything", b"")

    assert placed(anything, Begin(Lsn(9), 0, 3), anything, Commit(Lsn(9), Lsn(10), 0)).records() == []


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([Begin(Lsn(9), 0, 3), Begin(Lsn(9), 0, 3)], "Begin inside of a transaction"),
        ([Begin(Lsn(9), 0, 3), Commit(Lsn(7), Lsn(10), 0)], "the Commit of another transaction"),
        ([Begin(Lsn(9), 2**63 - 1, 3)], "outside of the years 1 to 9999"),
    ],
)
def test_transactions_that_no_server_sends_are_refused(messages: list[Message], sentence: str) -> None:
    with pytest.raises(DefectError, match=sentence):
        placed(*messages).records()


@pytest.mark.parametrize(
    "change",
    [
        Insert(TABLE_OID, (b"canary",)),
        Insert(TABLE_OID, (b"1", b"canary", b"canary")),
        updated((b"canary",)),
        updated((b"1", b"canary"), (b"1", b"canary", None), OldKind.FULL),
        Delete(TABLE_OID, (b"canary",), OldKind.FULL),
    ],
)
def test_a_row_that_is_not_as_wide_as_its_relation_is_refused(change: Message) -> None:
    feed = Feed(stream_of())
    feed.transaction(described(identity=FULL), change)

    with pytest.raises(DefectError, match="for a relation of 2 columns") as caught:
        feed.records()

    assert "canary" not in str(caught.value)


def test_a_time_that_no_server_writes_is_refused_and_not_told() -> None:
    stream, catalog = unread_chunk(exposed=False)
    feed = Feed(stream, catalog=catalog)
    feed.transaction(described(), Insert(TABLE_OID, (b"canary", b"")))

    with pytest.raises(DefectError, match="sent a time in a form") as caught:
        feed.records()

    assert caught.value.__context__ is None


def test_a_value_that_is_no_json_beside_one_that_json_cannot_say_is_refused_and_not_told() -> None:
    feed = Feed(stream_of())
    feed.transaction(described(), Insert(TABLE_OID, (b"canary\x01\x01", b"")))

    with pytest.raises(DefectError, match="sent a value in a form") as caught:
        feed.records()

    assert caught.value.__context__ is None
