"""Chunks that are born while a read goes on join it before it comes to its end, told of or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from integration_tests.inprocess import Acts, Ended, InProcess
from integration_tests.truth import Truth
from integration_tests.watched import await_look, terminate
from source_timescaledb.hypertables.watcher import CHANNEL
from testkit.database import Database
from testkit.protocol import Json

Filled = Callable[[Database], None]
NEVER = 3600

pytestmark = pytest.mark.any_server  # what the watcher asks the catalog is tried on all, in hypertables/


@pytest.fixture
def filled(database: Database, fill_load: Filled, small_slices: None) -> Database:  # noqa: ARG001 - smaller slices
    fill_load(database)
    return database


def bear(database: Database, day: int) -> int:
    """Make a chunk with ten rows; its id."""
    database.execute(
        "INSERT INTO metrics SELECT '2025-01-01'::timestamptz + %s * interval '1 day', i, i, 'born'"
        " FROM generate_series(1, 10) i",
        [day],
    )
    row = database.as_superuser().execute("SELECT max(id) FROM _timescaledb_catalog.chunk").fetchone()
    assert row is not None
    return int(row[0])


def read(database: Database, acts: Acts, **settings: Any) -> Ended:
    source = InProcess(database.config(timescaledb=settings))
    ended = source.read(source.catalog(streams=["metrics"]), None, acts)
    assert ended.failure is None, (ended.errors, ended.logged)
    return ended


def assert_joined(database: Database, ended: Ended, born: int) -> None:
    """A chunk was known long before the first of its rows was read, and all rows were read once."""
    known = next(state for state in ended.states if max(last_chunks_of(state.message), default=0) >= born)
    rows = ended.rows("metrics")
    assert (
        known.records_before < next(place for place, row in enumerate(rows) if row["note"] == "born") - 10_000
    )
    truth = Truth.of(database, "metrics")
    assert truth.parsed(rows) == truth.rows


def last_chunks_of(message: dict[str, Any]) -> list[int]:
    progress = message["stream"]["stream_state"].get("progress")
    return [progress["last_chunk"]] if progress else []


def test_a_chunk_joins_the_read_at_the_next_look(filled: Database) -> None:
    born: list[int] = []

    def act() -> None:
        born.append(bear(filled, 0))
        await_look(filled)

    ended = read(filled, {("RECORD", 1000): act}, chunk_poll_seconds=0.2, use_notifications=False)

    assert_joined(filled, ended, born[0])


def test_a_chunk_joins_the_read_when_somebody_tells(filled: Database) -> None:
    born: list[int] = []

    def act() -> None:
        born.append(bear(filled, 0))
        await_look(filled, after=lambda: filled.execute(f"NOTIFY {CHANNEL}".encode()))

    ended = read(filled, {("RECORD", 1000): act}, chunk_poll_seconds=NEVER)

    assert_joined(filled, ended, born[0])


def test_chunks_join_the_read_although_what_listens_for_them_is_killed(filled: Database) -> None:
    born: list[int] = []

    def act() -> None:
        terminate(filled)
        born.append(bear(filled, len(born)))
        await_look(filled)

    acts = {("RECORD", number): act for number in (1000, 2000, 3000)}
    ended = read(filled, acts, chunk_poll_seconds=0.5)

    assert_joined(filled, ended, born[-1])
    assert any("tried again; the sync goes on" in line for line in ended.logged)


def test_without_a_connection_to_spare_chunks_are_found_at_the_end_of_the_stream(filled: Database) -> None:
    source = InProcess(filled.config(max_db_connections=3))

    ended = source.read(
        source.catalog(streams=["metrics"]), None, {("RECORD", 1000): lambda: bear(filled, 0)}
    )

    assert len([row for row in ended.rows("metrics") if row["note"] == "born"]) == 10
    assert any("no connection to watch" in line for line in ended.logged)


def days(database: Database) -> None:
    """Makes `metrics` with three chunks of ten rows."""
    database.execute("CREATE TABLE metrics (time timestamptz NOT NULL, number int)")
    database.execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')")
    database.execute(
        "INSERT INTO metrics SELECT '2024-01-01'::timestamptz + i * interval '144 minutes', i"
        " FROM generate_series(0, 29) i"
    )
    database.grant_select("metrics")


def chase(database: Database, source: InProcess, catalog: Json) -> Ended:
    """A sync during which three chunks are born at each of its first STATEs, with lower numbers than all others."""
    days_after = count(10)

    def act() -> None:
        for day in (next(days_after) for _ in range(3)):
            database.execute(
                "INSERT INTO metrics VALUES ('2024-01-01'::timestamptz + %s * interval '1 day', %s)",
                [day, -day],
            )

    ended = source.read(catalog, None, {("STATE", number): act for number in range(1, 100)})

    assert ended.failure is None
    assert ended.statuses[-1] == ("public", "metrics", "COMPLETE")
    assert 0 < next(days_after) - 10 < 150
    assert "Chunks are born faster than they are read" in "".join(ended.logged)
    return ended


def numbers(*syncs: Ended) -> Counter[int]:
    return Counter(row["number"] for ended in syncs for row in ended.rows("metrics"))


@pytest.mark.usefixtures("small_slices")
def test_a_full_refresh_ends_although_chunks_are_born_faster_than_they_are_read(database: Database) -> None:
    days(database)
    source = InProcess(database.config())

    ended = chase(database, source, source.catalog())

    told = numbers(ended)
    assert {*range(30)} <= {*told}
    assert max(told.values()) == 1
    assert ended.states[-1].message["stream"]["stream_state"]["complete"]


@pytest.mark.usefixtures("small_slices")
def test_a_cursor_passes_over_no_chunk_although_they_are_born_faster_than_they_are_read(
    database: Database,
) -> None:
    days(database)
    source = InProcess(database.config())
    catalog = source.catalog("incremental", metrics="number")

    first = chase(database, source, catalog)
    second = source.read(catalog, first.state())
    third = source.read(catalog, second.state())

    assert numbers(first, second) == Counter(
        number for (number,) in database.rows("SELECT number FROM metrics")
    )
    assert numbers(second)
    assert numbers(third) == Counter()


def test_a_chunk_that_is_born_while_a_cursor_is_stopped_in_its_last_slice_is_in_the_next_sync(
    database: Database,
) -> None:
    days(database)
    source = InProcess(database.config())
    catalog = source.catalog("incremental", metrics="number")

    def act() -> None:
        database.execute("INSERT INTO metrics VALUES ('2024-02-01', -1)")
        source.stop()

    stopped = source.read(catalog, None, {("RECORD", 30): act})
    resumed = source.read(catalog, stopped.state())

    assert stopped.statuses[-1] == ("public", "metrics", "INCOMPLETE")
    assert numbers(stopped) == Counter(range(30))
    assert numbers(resumed) == Counter([-1])
    assert resumed.statuses[-1] == ("public", "metrics", "COMPLETE")
