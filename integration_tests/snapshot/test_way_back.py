"""`chunk_by_chunk: false` is the way back to one query for each hypertable, and may be taken at any time."""

from __future__ import annotations

import pytest

from integration_tests.cdc.scenes import kill
from integration_tests.inprocess import InProcess
from integration_tests.truth import Truth
from testkit.database import Database

pytestmark = pytest.mark.any_server

NEW = "INSERT INTO metrics VALUES (%s, 1, 1, 'new')"


def source(database: Database, *, by_chunk: bool) -> InProcess:
    return InProcess(database.config(timescaledb={"chunk_by_chunk": by_chunk}))


def test_both_ways_offer_the_same_streams_and_bring_the_same_rows(load: Database) -> None:
    truth = Truth.of(load, "metrics")

    by_chunk, by_query = source(load, by_chunk=True), source(load, by_chunk=False)

    assert by_query.discover() == by_chunk.discover()
    for way in (by_chunk, by_query):
        assert truth.parsed(way.read(way.catalog(streams=["metrics"])).rows("metrics")) == truth.rows


@pytest.mark.usefixtures("small_slices")
def test_a_first_load_under_way_starts_over_and_the_log_says_so(load: Database) -> None:
    catalog = source(load, by_chunk=True).catalog(streams=["metrics"])
    interrupted = source(load, by_chunk=True).read(catalog, acts={("STATE", 5): kill})
    assert interrupted.states

    resumed = source(load, by_chunk=False).read(catalog, interrupted.state())

    truth = Truth.of(load, "metrics")
    assert truth.parsed(resumed.rows("metrics")) == truth.rows
    assert any("now read in another way" in line and "starts over" in line for line in resumed.logged)


@pytest.mark.parametrize("first", [True, False], ids=["from chunks", "to chunks"])
def test_a_cursor_goes_on_where_it_was_in_both_directions(database: Database, *, first: bool) -> None:
    database.execute("CREATE TABLE metrics (time timestamptz NOT NULL, device int, value float8, note text)")
    database.execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')")
    database.execute(NEW, ["2024-01-01"])
    database.grant_select("metrics")
    catalog = source(database, by_chunk=True).catalog("incremental")
    ended = source(database, by_chunk=first).read(catalog)
    told = [*ended.rows("metrics")]

    for by_chunk, time in ((not first, "2024-01-02"), (first, "2024-02-01")):
        database.execute(NEW, [time])
        ended = source(database, by_chunk=by_chunk).read(catalog, ended.state())
        told += ended.rows("metrics")

        assert len(ended.rows("metrics")) == 1
    truth = Truth.of(database, "metrics")
    assert truth.parsed(told) == truth.rows
