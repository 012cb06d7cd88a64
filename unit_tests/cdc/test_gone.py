"""What a refresh deletes and inserts again in one transaction is told once, and only where it is different."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from source_timescaledb.cdc.followed import DELETED_AT, LSN, FollowedStream
from source_timescaledb.cdc.route import Owner
from source_timescaledb.hypertables.model import ContinuousAggregate, Hypertable, QualifiedName
from source_timescaledb.lsn import Lsn
from source_timescaledb.pgoutput.messages import (
    Delete,
    Insert,
    LogicalMessage,
    OldKind,
    ReplicaIdentity,
    Update,
)
from unit_tests.cdc.feed import TABLE_OID, Feed, MemoryCatalog, described, stream_of

CHUNK = 7
OTHER_CHUNK = 8
FULL = ReplicaIdentity.FULL
START, END = "::timescaledb-decompression-start", "::timescaledb-decompression-end"


def aggregate(key: tuple[str, ...] = ("id",)) -> FollowedStream:
    """A stream of `id int, note text` as a continuous aggregate."""
    stream = stream_of("daily", chunked=True, key=key)
    table = Hypertable(1, TABLE_OID, QualifiedName("_timescaledb_internal", "_materialized_hypertable_1"), ())
    facts = ContinuousAggregate(stream.name, table, finalized=True, readable=True, followed=True)
    stream.relation = replace(stream.relation, aggregate=facts)
    return stream


def feed_of(stream: FollowedStream) -> Feed:
    """The chunks of an aggregate, described, with all columns of old rows."""
    owners = {CHUNK: Owner(stream, 1), OTHER_CHUNK: Owner(stream, 2)}
    feed = Feed(stream, catalog=MemoryCatalog(owners))
    feed.transaction(
        described(CHUNK, "_hyper_1_1_chunk", identity=FULL),
        described(OTHER_CHUNK, "_hyper_1_2_chunk", identity=FULL, columns=("note", "id")),
    )
    assert feed.records() == []
    return feed


def inserted(number: int | None, note: str) -> Insert:
    return Insert(CHUNK, (None if number is None else b"%d" % number, note.encode()))


def deleted(number: int | None, note: str) -> Delete:
    return Delete(CHUNK, (None if number is None else b"%d" % number, note.encode()), OldKind.FULL)


def told(feed: Feed) -> list[tuple[Any, Any, bool]]:
    """Each record's number and note, and whether its row is there."""
    rows = [record["data"] for record in feed.records()]
    return [(row["id"], row["note"], row[DELETED_AT] is None) for row in rows]


def test_what_comes_back_as_it_was_is_not_told_and_what_does_not_is_gone() -> None:
    feed = feed_of(aggregate())
    feed.transaction(
        deleted(1, "same"),
        deleted(2, "old"),
        deleted(3, "vanishes"),
        inserted(1, "same"),
        inserted(2, "new"),
        inserted(4, "comes"),
    )

    assert told(feed) == [(2, "new", True), (4, "comes", True), (3, "vanishes", False)]


def test_a_row_is_gone_only_in_the_transaction_that_deletes_it() -> None:
    feed = feed_of(aggregate())
    feed.transaction(deleted(1, "a"))
    feed.transaction(inserted(1, "a"))

    assert told(feed) == [(1, "a", False), (1, "a", True)]


def test_the_last_of_many_versions_in_one_transaction_counts() -> None:
    feed = feed_of(aggregate())
    feed.transaction(deleted(1, "a"), inserted(1, "b"), deleted(1, "b"), inserted(1, "a"), deleted(1, "a"))

    records = [record["data"] for record in feed.records()]

    assert [(row["note"], row[DELETED_AT] is None) for row in records] == [
        ("b", True),
        ("a", True),
        ("a", False),
    ]
    assert [row[LSN] for row in records] == sorted(row[LSN] for row in records)


def test_a_delete_that_is_told_late_keeps_the_time_at_which_it_was_made() -> None:
    """The server may write one key in two ways, as 1.0 and 1.00, which a destination takes for one."""
    feed = feed_of(aggregate(key=("note",)))
    feed.transaction(deleted(1, "1.0"), inserted(1, "1.00"))

    records = [record["data"] for record in feed.records()]

    assert [(row["note"], row[DELETED_AT] is None) for row in records] == [("1.00", True), ("1.0", False)]
    assert records[1][LSN] < records[0][LSN]


def test_an_update_takes_back_the_delete_of_the_key_it_moves_to() -> None:
    feed = feed_of(aggregate())
    feed.transaction(
        deleted(2, "old"),
        Update(CHUNK, (b"1", b"moves"), OldKind.FULL, (b"2", b"moves")),
        Update(CHUNK, (b"3", b"a"), OldKind.FULL, (b"3", b"b")),
    )

    assert told(feed) == [(2, "moves", True), (3, "b", True), (1, "moves", False)]


def test_a_row_that_comes_back_in_a_chunk_with_another_order_of_columns_is_the_same() -> None:
    feed = feed_of(aggregate())
    feed.transaction(deleted(1, "same"), Insert(OTHER_CHUNK, (b"same", b"1")))

    assert told(feed) == []


@pytest.mark.parametrize("key", [("id", "note"), ("id",)])
def test_null_is_a_key_like_any_other(key: tuple[str, ...]) -> None:
    feed = feed_of(aggregate(key))
    feed.transaction(deleted(None, "a"), deleted(1, ""), inserted(None, "a"), inserted(1, ""))

    assert told(feed) == []


def test_keys_that_look_alike_in_a_row_are_told_apart() -> None:
    feed = feed_of(aggregate(key=("id", "note")))
    feed.transaction(Delete(CHUNK, (b"1", None), OldKind.FULL), Insert(CHUNK, (b"1", b"")))

    assert told(feed) == [(1, "", True), (1, None, False)]


def test_of_an_old_row_that_is_only_a_key_nobody_knows_whether_it_comes_back_as_it_was() -> None:
    feed = feed_of(aggregate())
    feed.transaction(Delete(CHUNK, (b"1", None), OldKind.KEY), Insert(CHUNK, (b"1", None)))

    assert told(feed) == [(1, None, True)]


def test_rows_of_compression_are_no_rows_of_the_refresh() -> None:
    def marker(prefix: str) -> LogicalMessage:
        return LogicalMessage(True, Lsn(1), prefix, b"")

    feed = feed_of(aggregate())
    feed.transaction(
        marker(START),
        inserted(1, "a"),
        inserted(2, "b"),
        marker(END),
        deleted(1, "a"),
        deleted(2, "b"),
        inserted(1, "a"),
    )

    assert told(feed) == [(2, "b", False)]


def test_an_aggregate_without_a_key_tells_each_row_less_and_each_row_more() -> None:
    feed = feed_of(aggregate(key=()))
    feed.transaction(deleted(1, "a"), inserted(1, "a"))

    assert told(feed) == [(1, "a", False), (1, "a", True)]


def test_the_position_moves_only_when_the_last_gone_row_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("source_timescaledb.cdc.lines.LINES_AT_ONCE", 3)
    feed = feed_of(aggregate())
    before = feed.changes.position
    feed.transaction(*(deleted(number, "a") for number in range(8)))
    feed.transaction(LogicalMessage(True, Lsn(1), "source_timescaledb", b"last"))

    batches = [
        (batch.records, feed.changes.position == before)
        for batch in feed.changes.until(b"last")
        if batch.records
    ]

    assert batches == [(3, True), (3, True), (2, False)]


def test_what_was_held_when_the_connection_was_lost_is_forgotten() -> None:
    feed = feed_of(aggregate())
    feed.transaction(deleted(1, "a"))
    messages = feed.drain()
    feed.changes._messages = messages[:-1]
    next(feed.changes.until(b"never"))

    feed.changes.reconnect(feed)
    feed.transaction(described(CHUNK, "_hyper_1_1_chunk", identity=FULL), inserted(1, "a"))

    assert told(feed) == [(1, "a", True)]
