"""Chunk events beside followed changes: their own state, and positions that can be compared with those of rows."""

from __future__ import annotations

import pytest

from integration_tests.cdc.conftest import Followed, fill
from testkit.database import Database
from testkit.protocol import Json

EVENTS = "timescaledb_chunk_events"
DAY = "2024-01-01T00:00:00.000000Z"


def sync(followed: Followed) -> tuple[list[Json], list[Json]]:
    """The events of a sync of two hypertables and of what becomes of their chunks, and the rows of `metrics`."""
    source = followed.source()
    catalog = source.catalog("incremental", ["metrics", "events", EVENTS])
    ended = source.read(catalog, followed.state)
    assert ended.failure is None, (ended.errors, ended.logged)
    followed.state = ended.state()
    return ended.rows(EVENTS), ended.rows("metrics")


def brief(events: list[Json]) -> list[tuple[str, str, str]]:
    return [(event["event"], event["hypertable"], event["range_start"]) for event in events]


def position(database: Database) -> int:
    row = database.as_superuser().execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::int8").fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
def synced(followed: Followed) -> Followed:
    """Two hypertables of three chunks each, synced once."""
    followed.settings["chunk_events"] = True
    fill(followed.database)
    followed.publish("metrics", "events")
    events, _ = sync(followed)
    assert [event["event"] for event in events] == ["born"] * 6
    return followed


def test_events_are_told_once_and_keep_a_state_of_their_own_in_the_global_one(synced: Followed) -> None:
    (state,) = synced.state
    entries = state["global"]["stream_states"]
    kinds = {one["stream_descriptor"]["name"]: one["stream_state"]["state_type"] for one in entries}
    assert kinds == {"metrics": "cdc", "events": "cdc", EVENTS: "chunk_events"}
    synced.database.execute(
        "INSERT INTO metrics VALUES ('2025-05-05', 1, 1, 'born');"
        "SELECT drop_chunks('metrics', older_than => '2024-01-02'::timestamptz)"
    )

    events, (row,) = sync(synced)

    assert brief(events) == [("dropped", "metrics", DAY), ("born", "metrics", "2025-05-05T00:00:00.000000Z")]
    dropped, born = events
    assert born["lsn"] < row["_ab_cdc_lsn"] < dropped["lsn"]
    assert sync(synced) == ([], [])


@pytest.mark.parametrize("published", [False, True], ids=["found", "published at once"])
def test_a_drop_is_told_between_the_rows_before_it_and_those_of_the_chunk_in_its_place(
    synced: Followed,
    published: bool,
) -> None:
    database = synced.database
    database.execute("UPDATE metrics SET note = 'last words' WHERE time = '2024-01-01'")
    database.execute("SELECT drop_chunks('metrics', older_than => '2024-01-02'::timestamptz)")
    database.execute("INSERT INTO metrics VALUES ('2024-01-01', 50, 1, 'first')")
    if published:
        database.execute("ALTER PUBLICATION changes SET TABLE metrics, events")
        database.execute("UPDATE metrics SET note = 'second' WHERE device = 50")

    events, rows = sync(synced)

    assert brief(events) == [("dropped", "metrics", DAY), ("born", "metrics", DAY)]
    dropped, born = events
    told = {row["note"]: row["_ab_cdc_lsn"] for row in rows}
    assert told.pop("last words") <= dropped["lsn"]
    assert told
    assert all(dropped["lsn"] <= born["lsn"] < lsn for lsn in told.values())


def test_a_decompression_is_dated_by_the_log(community: Followed) -> None:
    community.settings["chunk_events"] = True
    database = community.database
    fill(database)
    community.publish("metrics", "events")
    database.execute(
        "ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')"
    )
    database.execute(
        "SELECT compress_chunk(c) FROM show_chunks('metrics', older_than => '2024-01-02'::timestamptz) c"
    )
    sync(community)
    before = position(database)
    database.execute(
        "SELECT decompress_chunk(c) FROM show_chunks('metrics', older_than => '2024-01-02'::timestamptz) c"
    )
    database.execute("INSERT INTO events VALUES ('2024-01-01', 'later')")
    after = position(database)

    events, rows = sync(community)

    assert brief(events) == [("decompressed", "metrics", DAY)]
    assert before < events[0]["lsn"] < after
    assert rows == []
