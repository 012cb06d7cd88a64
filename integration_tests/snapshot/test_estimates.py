"""ESTIMATEs of real reads: near the truth at the start, nearer with each chunk, the truth at the end."""

from __future__ import annotations

import pytest

from integration_tests.cdc.scenes import until
from integration_tests.inprocess import InProcess
from testkit.database import Database

DAYS = 10
ROWS = 4000
LIVE = "SELECT sum(pg_stat_get_live_tuples(chunk::oid)) FROM show_chunks('metrics') chunk"


@pytest.fixture(autouse=True)
def _an_estimate_after_each_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("source_timescaledb.airbyte.estimates.ESTIMATE_SECONDS", 0.0)


def fill(database: Database) -> None:
    database.execute("CREATE TABLE metrics (time timestamptz NOT NULL, device int, value float8)")
    database.execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')")
    database.execute(
        "INSERT INTO metrics SELECT '2024-01-01'::timestamptz + i * interval '1 day' * %s / %s, i %% 7, i"
        " FROM generate_series(0, %s - 1) i",
        [DAYS, ROWS, ROWS],
    )
    database.grant_select("metrics")


def test_of_an_analyzed_hypertable_every_estimate_is_the_truth(database: Database) -> None:
    fill(database)
    database.execute("ANALYZE metrics")
    ended = InProcess(database.config()).read()

    told = ended.estimates("metrics")
    assert [one["type"] for one in told] == ["STREAM"] * len(told)
    assert {one["row_estimate"] for one in told} == {ROWS}
    assert told[-1]["byte_estimate"] > 50 * ROWS


def test_where_nothing_was_analyzed_the_rows_that_were_seen_to_come_are_counted(database: Database) -> None:
    fill(database)
    database.disconnect()  # a session tells the statistics what it did when it ends, if not before
    until(lambda: database.value(LIVE) == ROWS)
    ended = InProcess(database.config()).read()

    assert ended.estimates("metrics")[-1]["row_estimate"] == ROWS


def test_statistics_that_are_outdated_converge_on_the_truth_with_each_chunk(database: Database) -> None:
    fill(database)
    database.execute("ANALYZE metrics")
    database.execute("ALTER TABLE metrics SET (autovacuum_enabled = off)")
    database.execute("INSERT INTO metrics SELECT time, device + 10, value FROM metrics")
    ended = InProcess(database.config()).read()

    errors = [abs(one["row_estimate"] - 2 * ROWS) for one in ended.estimates("metrics")]
    assert len(errors) > DAYS // 2
    assert errors[0] == ROWS
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0


@pytest.mark.community
def test_where_the_statistics_are_closed_to_the_role_the_sync_goes_on_without(database: Database) -> None:
    fill(database)
    database.execute("ALTER TABLE metrics SET (timescaledb.compress)")
    database.execute("SELECT compress_chunk(c) FROM show_chunks('metrics') c")
    database.as_superuser().execute(
        "REVOKE SELECT ON _timescaledb_catalog.compression_chunk_size FROM PUBLIC"
    )
    ended = InProcess(database.config()).read()

    assert ended.errors == []
    assert len(ended.rows("metrics")) == ROWS
    assert ended.estimates("metrics")[-1]["row_estimate"] == ROWS


@pytest.mark.community
def test_compressed_chunks_are_expected_to_have_the_rows_that_were_compressed(database: Database) -> None:
    fill(database)
    database.execute("ALTER TABLE metrics SET (timescaledb.compress)")
    database.execute("SELECT compress_chunk(c) FROM show_chunks('metrics') c")
    ended = InProcess(database.config()).read()

    assert {one["row_estimate"] for one in ended.estimates("metrics")} == {ROWS}
