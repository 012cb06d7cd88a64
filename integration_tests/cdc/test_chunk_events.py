"""Chunk events beside followed changes: their own state, and positions that can be compared with those of rows."""

from __future__ import annotations

from integration_tests.cdc.conftest import Followed, fill
from testkit.protocol import Json

EVENTS = "timescaledb_chunk_events"


def synced(followed: Followed) -> list[Json]:
    """The events of a sync of two hypertables and of what becomes of their chunks."""
    source = followed.source()
    catalog = source.catalog("incremental", ["metrics", "events", EVENTS])
    ended = source.read(catalog, followed.state)
    assert ended.failure is None, (ended.errors, ended.logged)
    followed.state = ended.state()
    events = ended.rows(EVENTS)
    rows = [row for name in ("metrics", "events") for row in ended.rows(name)]
    assert all(row["_ab_cdc_lsn"] < event["lsn"] for event in events for row in rows)
    return events


def test_events_are_told_after_the_rows_of_each_sync_and_once(followed: Followed) -> None:
    followed.settings["chunk_events"] = True
    fill(followed.database)
    followed.publish("metrics", "events")
    assert [event["event"] for event in synced(followed)] == ["born"] * 6
    assert {state["type"] for state in followed.state} == {"GLOBAL", "STREAM"}
    followed.database.execute(
        "INSERT INTO metrics VALUES ('2025-05-05', 1, 1, 'born');"
        "SELECT drop_chunks('metrics', older_than => '2024-01-02'::timestamptz)"
    )

    events = synced(followed)

    assert [(event["event"], event["hypertable"], event["range_start"]) for event in events] == [
        ("dropped", "metrics", "2024-01-01T00:00:00.000000Z"),
        ("born", "metrics", "2025-05-05T00:00:00.000000Z"),
    ]
    assert synced(followed) == []
