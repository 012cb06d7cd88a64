"""Continuous aggregates are offered under their own names, and read as far as they are materialized.

The database of the fixture is only read, so all the tests of a server share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest
from psycopg import sql

from integration_tests.offered import (
    DAYS,
    Name,
    assert_rows,
    keys,
    let_read_everything,
    read_whole,
    select,
    source,
    streams,
)
from testkit.cluster import Cluster
from testkit.database import Database

MAKE_AGGREGATES: Final = f"""
CREATE SCHEMA reports;
CREATE TABLE metrics (at timestamptz NOT NULL, device int NOT NULL, value int);
SELECT create_hypertable('metrics', 'at', chunk_time_interval => interval '1 day');
ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device');
INSERT INTO metrics SELECT {DAYS}, i % 5, i FROM generate_series(0, 239) i;
CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous) AS
SELECT time_bucket('6 hours', at) AS bucket, device, sum(value) AS total FROM metrics GROUP BY 1, 2 WITH NO DATA;
CALL refresh_continuous_aggregate('hourly', NULL, NULL);
CREATE MATERIALIZED VIEW reports.daily WITH (timescaledb.continuous) AS
SELECT time_bucket('1 day', bucket) AS day, sum(total) AS total FROM hourly GROUP BY 1 WITH NO DATA;
CALL refresh_continuous_aggregate('reports.daily', NULL, NULL);
CREATE MATERIALIZED VIEW live WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket('1 day', at) AS day, count(*) AS number FROM metrics GROUP BY 1 WITH NO DATA;
CALL refresh_continuous_aggregate('live', NULL, '2024-01-06 00:00Z');
CREATE MATERIALIZED VIEW parities WITH (timescaledb.continuous) AS
SELECT device % 2 AS parity, count(DISTINCT device) AS devices, time_bucket('1 day', at) AS day FROM metrics
GROUP BY 3, 1 WITH NO DATA;
CALL refresh_continuous_aggregate('parities', NULL, NULL);
ALTER MATERIALIZED VIEW hourly RENAME TO six_hourly;
ALTER MATERIALIZED VIEW six_hourly RENAME COLUMN device TO machine;
SELECT compress_chunk(chunk) FROM show_chunks('metrics', older_than => timestamptz '2024-01-07') chunk
"""
AGGREGATES: Final[dict[Name, list[str]]] = {
    ("public", "parities"): ["day", "parity"],
    ("public", "six_hourly"): ["bucket", "machine"],
    ("reports", "daily"): ["day"],
    ("public", "live"): ["day"],
}


@pytest.fixture(scope="module")
def aggregates(community_server: Cluster) -> Iterator[Database]:
    """A database of a compressed hypertable and continuous aggregates, whose rows are left as they are."""
    with community_server.database() as database:
        for statement in MAKE_AGGREGATES.split(";"):
            database.execute(statement.encode())
        let_read_everything(database, "public", "reports")
        yield database


@pytest.mark.community
@pytest.mark.parametrize("by_chunk", [True, False], ids=["by chunk", "in one query"])
def test_continuous_aggregates_are_read_under_their_own_names_as_far_as_they_are_materialized(
    aggregates: Database, *, by_chunk: bool
) -> None:
    one = source(aggregates, chunk_by_chunk=by_chunk)

    offered = streams(one.discover())
    output = read_whole(one)

    assert set(offered) == {("public", "metrics"), *AGGREGATES}
    assert {name: keys(offered[name]) for name in AGGREGATES} == AGGREGATES
    for name, (bucket, *_) in AGGREGATES.items():
        assert offered[name]["default_cursor_field"] == [bucket]
        assert offered[name]["is_resumable"]
    for name in offered.keys() - {("public", "live")}:
        assert_rows(aggregates, output, name)
    assert_rows(aggregates, output, ("public", "live"), "day < '2024-01-06 00:00Z'")
    assert aggregates.value("SELECT count(*) FROM live") > len(output.rows("live"))


@pytest.mark.community
def test_continuous_aggregates_can_be_left_out(aggregates: Database) -> None:
    offered = streams(source(aggregates, continuous_aggregates=False).discover())

    assert set(offered) == {("public", "metrics")}


@pytest.mark.community
@pytest.mark.parametrize("by_chunk", [True, False], ids=["by chunk", "in one query"])
def test_a_cursor_follows_a_continuous_aggregate_as_far_as_it_is_materialized(
    aggregates: Database, *, by_chunk: bool
) -> None:
    one = source(aggregates, chunk_by_chunk=by_chunk)
    catalog = select(one.discover(), *AGGREGATES, sync_mode="incremental")

    first = one.read(catalog)
    second = one.read(catalog, first.state())

    assert_rows(aggregates, first, ("public", "six_hourly"))
    assert_rows(aggregates, first, ("reports", "daily"))
    assert_rows(aggregates, first, ("public", "live"), "day < '2024-01-06 00:00Z'")
    assert second.errors == []
    assert second.records == {}


@pytest.mark.community
def test_compressed_relations_are_nowhere_offered(aggregates: Database) -> None:
    superuser = aggregates.as_superuser()
    superuser.execute(
        sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA _timescaledb_internal TO {}").format(
            sql.Identifier(aggregates.reader)
        )
    )

    offered = streams(source(aggregates).discover())
    internal = streams(source(aggregates, ("_timescaledb_internal", "_timescaledb_catalog")).discover())

    assert set(offered) == {("public", "metrics"), *AGGREGATES}
    assert internal == {}
