"""Whose a relation's rows are, and when the sync stops because nobody can say."""

from __future__ import annotations

import pytest

from source_timescaledb.cdc.columns import Attribute
from source_timescaledb.cdc.route import Owner
from source_timescaledb.errors import ConfigurationError, DefectError
from source_timescaledb.pgoutput.messages import Insert
from unit_tests.cdc.feed import TABLE_OID, Feed, MemoryCatalog, described, stream_of

INTERNAL = "_timescaledb_internal"


def test_a_chunk_that_is_gone_is_known_by_its_name() -> None:
    feed = Feed(stream_of("metrics", chunked=True), catalog=MemoryCatalog())
    feed.transaction(described(7, "_hyper_1_4_chunk", schema=INTERNAL), Insert(7, (b"1", b"a")))

    assert [record["stream"] for record in feed.records()] == ["metrics"]


def test_a_chunk_that_is_gone_is_known_by_the_prefix_of_its_hypertable() -> None:
    feed = Feed(stream_of("metrics", chunked=True), catalog=MemoryCatalog(prefix=("attic", "old")))
    feed.transaction(described(7, "old_4_chunk", schema="attic"), Insert(7, (b"1", b"a")))

    assert [record["stream"] for record in feed.records()] == ["metrics"]


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        (INTERNAL, "_hyper_2_4_chunk"),
        (INTERNAL, "compress_hyper_1_4_chunk"),
        (INTERNAL, "_hyper_1_4_chunk_compressed"),
        (INTERNAL, "_materialized_hypertable_3"),
        (INTERNAL, "bgw_job_stat"),
        ("_timescaledb_catalog", "chunk"),
        ("public", "other"),
        ("public", "old_4_chunk"),
    ],
)
def test_what_is_gone_and_nobodys_is_passed_over(schema: str, name: str) -> None:
    feed = Feed(stream_of("metrics", chunked=True), catalog=MemoryCatalog())
    feed.transaction(described(7, name, schema=schema), Insert(7, (b"1", b"a")))

    assert feed.records() == []


def test_a_chunk_that_is_gone_and_had_another_name_stops_the_sync() -> None:
    feed = Feed(stream_of("metrics", chunked=True), catalog=MemoryCatalog())
    feed.transaction(described(7, "renamed", schema=INTERNAL), Insert(7, (b"1", b"a")))

    with pytest.raises(ConfigurationError, match="does not tell to which"):
        feed.records()


def test_a_relation_that_exists_and_is_not_followed_is_passed_over() -> None:
    feed = Feed(stream_of(), catalog=MemoryCatalog(existing={7}))
    feed.transaction(described(7, "other"), Insert(7, (b"1", b"a")))

    assert feed.records() == []
    assert feed.ignored == []


def test_a_chunk_that_is_decoded_before_its_birth_is_visible_has_an_owner_once_it_is() -> None:
    stream = stream_of("metrics", chunked=True)
    feed = Feed(stream, catalog=MemoryCatalog(late={7: Owner(stream, 4)}))
    feed.transaction(described(7, "_hyper_1_4_chunk", schema=INTERNAL), Insert(7, (b"1", b"a")))
    feed.transaction(Insert(7, (b"2", b"b")))

    assert [record["data"]["id"] for record in feed.records()] == [1, 2]


def test_a_chunk_that_was_known_is_known_after_it_is_dropped() -> None:
    stream = stream_of("metrics", chunked=True)
    catalog = MemoryCatalog({7: Owner(stream, 4)})
    feed = Feed(stream, catalog=catalog)
    feed.transaction(described(7, "renamed", schema=INTERNAL), Insert(7, (b"1", b"a")))
    assert len(feed.records()) == 1
    catalog.owners.clear()
    feed.changes.reconnect(feed)
    feed.transaction(described(7, "renamed", schema=INTERNAL), Insert(7, (b"2", b"b")))

    assert [record["data"]["id"] for record in feed.records()] == [2]


def test_a_change_of_what_was_not_described_is_a_defect() -> None:
    feed = Feed(stream_of())
    feed.transaction(Insert(TABLE_OID, (b"1", b"a")))

    with pytest.raises(DefectError, match="not described"):
        feed.records()


def test_columns_are_found_by_name_whatever_their_order() -> None:
    feed = Feed(stream_of())
    feed.transaction(described(columns=("extra", "note", "id")), Insert(TABLE_OID, (b"x", b"a", b"1")))

    (record,) = feed.records()

    assert {key: record["data"][key] for key in ("id", "note")} == {"id": 1, "note": "a"}
    assert "extra" not in record["data"]


def test_a_column_that_was_renamed_since_is_found() -> None:
    feed = Feed(stream_of())
    feed.transaction(described(columns=("id", "remark")), Insert(TABLE_OID, (b"1", b"a")))

    assert [record["data"]["note"] for record in feed.records()] == ["a"]


def test_a_column_that_was_added_since_is_null() -> None:
    feed = Feed(stream_of())
    feed.transaction(described(columns=("id",)), Insert(TABLE_OID, (b"1",)))

    assert [record["data"]["note"] for record in feed.records()] == [None]


@pytest.mark.parametrize(
    ("today", "columns", "sentence"),
    [
        ((Attribute("id"),), ("id",), "dropped or renamed: note"),
        ((Attribute("id"), Attribute(None), Attribute("note")), ("id", "remark"), "belong to: note"),
        ((Attribute("note"), Attribute("id")), ("note",), "before it got the columns of its key"),
    ],
    ids=["dropped", "uncertain", "without key"],
)
def test_what_cannot_be_told_stops_the_sync_when_it_is_to_be_told(
    today: tuple[Attribute, ...], columns: tuple[str, ...], sentence: str
) -> None:
    stream = stream_of()
    feed = Feed(stream, catalog=MemoryCatalog({TABLE_OID: Owner(stream, None)}, today=today))
    feed.transaction(described(columns=columns))
    assert feed.records() == []
    feed.transaction(Insert(TABLE_OID, tuple(b"1" for _ in columns)))

    with pytest.raises(ConfigurationError, match=sentence):
        feed.records()


@pytest.mark.parametrize(("chunk", "told"), [(4, '"_ts_chunk":"s.c"'), (None, '"_ts_chunk":null')])
def test_a_record_names_its_chunk_where_that_is_asked_for(chunk: int | None, told: str) -> None:
    stream = stream_of("metrics", chunked=True, metadata=True)
    feed = Feed(stream, catalog=MemoryCatalog({7: Owner(stream, chunk)}))
    feed.transaction(described(7, "c", schema="s"), Insert(7, (b"1", b"a")))

    (record,) = feed.records()

    assert record["data"]["_ts_chunk"] == ("s.c" if chunk else None), told
