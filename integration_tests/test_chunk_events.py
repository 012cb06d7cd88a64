"""The stream of chunk events over syncs: a mirror of it has the chunks that there are, and knows of their forms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from integration_tests.health.consulting import doctor
from integration_tests.inprocess import InProcess
from testkit.database import Database
from testkit.protocol import Json

EVENTS = "timescaledb_chunk_events"
LARGEST_STATE = 4096


@dataclass
class Mirrored:
    """Syncs of the events alone, each with the state of the one before."""

    database: Database
    settings: Json = field(default_factory=lambda: {"chunk_events": True})
    state: list[Json] = field(default_factory=list)

    @property
    def source(self) -> InProcess:
        return InProcess(self.database.config(timescaledb=self.settings))

    def sync(self, sync_mode: str = "incremental") -> list[Json]:
        """What is told."""
        source = self.source
        ended = source.read(source.catalog(sync_mode, [EVENTS]), self.state)
        assert ended.failure is None, ended.errors
        assert ended.statuses[-1] == ("public", EVENTS, "COMPLETE")
        self.state = ended.state()
        assert ended.of_type("STATE")[-1]["sourceStats"]["recordCount"] == len(ended.rows(EVENTS))
        return ended.rows(EVENTS)


@pytest.fixture
def mirrored(database: Database) -> Mirrored:
    database.execute("CREATE TABLE metrics (time timestamptz NOT NULL, device int, value float8)")
    database.execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')")
    database.execute("CREATE TABLE ticks (at bigint NOT NULL)")
    database.execute("SELECT create_hypertable('ticks', 'at', chunk_time_interval => 1000)")
    fill(database, 4)
    database.grant_select("metrics", "ticks")
    return Mirrored(database)


def fill(database: Database, days: int, *, first: int = 1) -> None:
    database.execute(
        "INSERT INTO metrics SELECT '2024-01-01'::timestamptz + (i - 1) * interval '1 day', d, i"
        " FROM generate_series(%s::int, %s::int) i, generate_series(1, 3) d",
        [first, first + days - 1],
    )


def brief(events: Iterable[Json]) -> list[tuple[str, str, str | None]]:
    return [(event["event"], event["hypertable"], event["range_start"]) for event in events]


def day(number: int) -> str:
    return f"2024-01-{number:02}T00:00:00.000000Z"


def drop_before(database: Database, moment: str) -> None:
    database.execute("SELECT drop_chunks('metrics', older_than => %s::timestamptz)", [moment])


def test_the_first_sync_tells_of_all_chunks_with_their_ranges(mirrored: Mirrored) -> None:
    mirrored.database.execute("INSERT INTO ticks VALUES (-5), (2500)")

    events = mirrored.sync()

    assert brief(events) == [
        *(("born", "metrics", day(number)) for number in range(1, 5)),
        ("born", "ticks", "-1000"),
        ("born", "ticks", "2000"),
    ]
    first, last = events[0], events[-1]
    assert first["hypertable_schema"] == "public"
    assert first["chunk_schema"] == "_timescaledb_internal"
    assert first["chunk"].endswith(f"_{first['chunk_id']}_chunk")
    assert first["range_end"] == day(2)
    assert (first["range_start_value"], first["range_end_value"]) == (1704067200000000, 1704153600000000)
    assert (last["range_start_value"], last["range_end_value"], last["range_end"]) == (2000, 3000, "3000")
    assert first["seen_at"].endswith("Z")
    assert first["lsn"] > 0
    assert mirrored.sync() == []


def test_chunks_that_come_and_go_between_syncs_are_told(mirrored: Mirrored) -> None:
    born = {event["range_start"]: event["chunk_id"] for event in mirrored.sync()}
    fill(mirrored.database, 2, first=5)
    drop_before(mirrored.database, "2024-01-03")

    events = mirrored.sync()

    assert brief(events) == [
        ("dropped", "metrics", day(1)),
        ("dropped", "metrics", day(2)),
        ("born", "metrics", day(5)),
        ("born", "metrics", day(6)),
    ]
    assert [event["chunk_id"] for event in events[:2]] == [born[day(1)], born[day(2)]]
    assert [event["range_end"] for event in events[:2]] == [day(2), day(3)]
    assert mirrored.sync() == []


def test_a_chunk_in_whose_place_another_was_born_is_told_as_dropped_before_any_row_of_that(
    mirrored: Mirrored,
) -> None:
    mirrored.sync()
    drop_before(mirrored.database, "2024-01-02")
    before = mirrored.database.as_superuser().execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
    fill(mirrored.database, 1)

    dropped, born = mirrored.sync()

    assert brief([dropped, born]) == [("dropped", "metrics", day(1)), ("born", "metrics", day(1))]
    assert before is not None
    assert dropped["lsn"] < before[0] < born["lsn"]


def test_a_hypertable_that_is_made_and_one_that_is_not_offered_any_more(mirrored: Mirrored) -> None:
    mirrored.sync()
    database = mirrored.database
    database.execute("CREATE TABLE later (time timestamptz NOT NULL)")
    database.execute("SELECT create_hypertable('later', 'time')")
    database.execute("INSERT INTO later VALUES ('2024-01-01')")
    database.grant_select("later")
    mirrored.settings["exclude_hypertables"] = ["metrics"]

    assert [event["hypertable"] for event in mirrored.sync()] == ["later"]


def test_a_full_refresh_tells_of_all_chunks_each_time(mirrored: Mirrored) -> None:
    assert len(mirrored.sync("full_refresh")) == len(mirrored.sync("full_refresh")) == 4


def test_a_state_of_a_thousand_chunks_is_small(mirrored: Mirrored) -> None:
    fill(mirrored.database, 1000)

    assert len(mirrored.sync()) == 1000

    assert len(orjson.dumps(mirrored.state)) < 1000
    drop_before(mirrored.database, "2024-02-01")
    assert len(mirrored.sync()) == 31


def test_the_stream_is_offered_only_where_it_is_asked_for(mirrored: Mirrored) -> None:
    source = mirrored.source
    catalog = source.catalog("incremental", [EVENTS])
    mirrored.settings = {}

    assert EVENTS in {stream["name"] for stream in source.discover()["streams"]}
    assert EVENTS not in {stream["name"] for stream in mirrored.source.discover()["streams"]}
    ended = mirrored.source.read(catalog)
    assert "Turn timescaledb.chunk_events on" in ended.errors[0]["message"]
    assert ended.statuses[-1] == ("public", EVENTS, "INCOMPLETE")


@pytest.mark.parametrize(
    ("key", "refusal"),
    [
        (None, "has no primary key"),
        ([["zz"]], "no selected column of it: zz"),
        ([["chunk_id"], ["event"]], ""),
    ],
)
def test_events_are_deduplicated_by_columns_that_they_have(
    mirrored: Mirrored, tmp_path: Path, key: list[list[str]] | None, refusal: str
) -> None:
    catalog = mirrored.source.catalog("incremental", [EVENTS])
    catalog["streams"][0].update(destination_sync_mode="append_dedup", primary_key=key)

    ended = mirrored.source.read(catalog)
    found = doctor(mirrored.source.config, tmp_path, catalog=catalog)

    assert [refusal in error["message"] for error in ended.errors] == [True] * bool(refusal)
    assert len(ended.rows(EVENTS)) == (0 if refusal else 4)
    assert len(found.matching(EVENTS, refusal)) == bool(refusal)
    assert found.status == bool(refusal)


def test_a_damaged_state_is_an_error_of_the_stream_and_never_taken_as_empty(mirrored: Mirrored) -> None:
    mirrored.sync()
    source = mirrored.source
    catalog = source.catalog("incremental", [EVENTS, "metrics"])
    for damage in ({"memory": "AAAA"}, {"memory": "not base64"}, {"version": 2}, {"other": 1}):
        state = orjson.loads(orjson.dumps(mirrored.state))
        state[0]["stream"]["stream_state"] |= damage

        ended = source.read(catalog, state)

        assert ended.rows(EVENTS) == []
        assert [error["failure_type"] for error in ended.errors][:1] == ["config_error"]
        assert len(ended.rows("metrics")) == 12


@pytest.mark.community
def test_compression_is_told_and_merged_chunks_are_not_dropped(mirrored: Mirrored) -> None:
    database = mirrored.database
    database.execute(
        "ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')"
    )
    mirrored.sync()
    chunks = "SELECT count({act}_chunk(c)) FROM show_chunks('metrics', {which}) c"
    first = "older_than => '2024-01-02'::timestamptz"
    rest = "newer_than => '2024-01-02'::timestamptz"

    database.execute(chunks.format(act="compress", which=first).encode())
    assert brief(mirrored.sync()) == [("compressed", "metrics", day(1))]

    database.execute(chunks.format(act="decompress", which=first).encode())
    database.execute(chunks.format(act="compress", which=rest).encode())
    assert brief(mirrored.sync()) == [
        ("decompressed", "metrics", day(1)),
        *(("compressed", "metrics", day(number)) for number in (2, 3, 4)),
    ]

    database.execute(
        "DO $$ DECLARE parts regclass[]; BEGIN"
        " SELECT array_agg(c ORDER BY c) INTO parts"
        " FROM show_chunks('metrics', newer_than => '2024-01-03'::timestamptz) c;"
        " CALL merge_chunks(parts); END $$"
    )
    drop_before(database, "2024-01-02")
    assert brief(mirrored.sync()) == [("dropped", "metrics", day(1))]
    drop_before(database, "2024-01-05")
    assert brief(mirrored.sync()) == [("dropped", "metrics", day(2)), ("dropped", "metrics", day(3))]
    assert mirrored.sync() == []
