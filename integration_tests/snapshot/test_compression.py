"""Chunks that are compressed, decompressed and recompressed while they are read: complete, and every row once."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from testkit.connector import Connector
from testkit.database import Database
from testkit.protocol import configured_catalog

ROWS = 60_000
OPERATIONS = (
    "SELECT compress_chunk(%s, if_not_compressed => true)",
    "SELECT decompress_chunk(%s, if_compressed => true)",
    "SELECT compress_chunk(%s, recompress => true)",
)


def metrics(database: Database) -> list[str]:
    """A hypertable of three chunks that may be compressed; the names of the chunks."""
    database.execute("CREATE TABLE metrics (time timestamptz NOT NULL, device int, value int)")
    database.execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')")
    database.execute(
        "ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device',"
        " timescaledb.compress_orderby = 'time')"
    )
    database.execute(
        "INSERT INTO metrics SELECT timestamptz '2024-01-01' + i * interval '4 seconds', i %% 20, i"
        " FROM generate_series(0, %s - 1) i",
        (ROWS,),
    )
    database.grant_select("metrics")
    return [row[0] for row in database.rows("SELECT show_chunks('metrics')::text")]


@contextmanager
def restless(database: Database, chunks: list[str], seed: int) -> Iterator[None]:
    """A session that (de)compresses random chunks without pause."""
    stop = threading.Event()

    def work() -> None:
        choose = random.Random(seed)
        with database.connect() as connection:
            connection.autocommit = True
            connection.execute("SET lock_timeout = '2s'")
            while not stop.is_set():
                with suppress(psycopg.Error):
                    connection.execute(choose.choice(OPERATIONS), (choose.choice(chunks),))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def read_values(database: Database, workdir: Path) -> list[int]:
    connector = Connector(database.config(timescaledb={"fetch_rows": 200}), workdir)
    result = connector.read(configured_catalog(connector.discover().catalog))
    assert result.errors == []
    assert result.exit_code == 0
    return sorted(row["value"] for row in result.rows("metrics"))


@pytest.mark.community
def test_restless_compression_neither_hides_nor_repeats_a_row(
    community_database: Database, tmp_path: Path
) -> None:
    chunks = metrics(community_database)

    with restless(community_database, chunks, seed=1), restless(community_database, chunks, seed=2):
        values = read_values(community_database, tmp_path)

    assert values == list(range(ROWS))


@pytest.mark.community
def test_a_partly_compressed_chunk_is_read_whole(community_database: Database, tmp_path: Path) -> None:
    for chunk in metrics(community_database):
        community_database.execute("SELECT compress_chunk(%s)", (chunk,))
    community_database.execute(
        "INSERT INTO metrics SELECT timestamptz '2024-01-01' + i * interval '1 minute', 1, %s + i"
        " FROM generate_series(0, 999) i",
        (ROWS,),
    )

    values = read_values(community_database, tmp_path)

    assert values == list(range(ROWS + 1000))


@pytest.mark.community
def test_a_snapshot_taken_before_a_decompression_would_be_empty(community_database: Database) -> None:
    """The trap itself, so that the protocol against it is known to be needed on this server."""
    chunk = metrics(community_database)[0]
    community_database.execute("SELECT compress_chunk(%s)", (chunk,))
    with community_database.connect() as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1 FROM pg_class LIMIT 1")
        community_database.execute("SELECT decompress_chunk(%s)", (chunk,))

        seen = reader.execute(f"SELECT count(*) FROM {chunk}".encode()).fetchone()

    assert seen == (0,)


@pytest.mark.community
def test_a_continuous_aggregate_is_a_stream_under_its_own_name(
    community_database: Database, tmp_path: Path
) -> None:
    metrics(community_database)
    with community_database.connect() as owner:
        owner.autocommit = True
        owner.execute(
            "CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous) AS SELECT"
            " time_bucket('1 hour', time) AS bucket, device AS \"the device\", sum(value) AS total"
            " FROM metrics GROUP BY 1, 2 WITH DATA"
        )
    community_database.grant_select("hourly")
    connector = Connector(community_database.config(), tmp_path)

    catalog = connector.discover().catalog
    result = connector.read(configured_catalog(catalog, streams=["hourly"]))

    offered = {stream["name"]: stream for stream in catalog["streams"]}
    assert set(offered) == {"metrics", "hourly"}
    assert offered["hourly"]["source_defined_primary_key"] == [["bucket"], ["the device"]]
    assert offered["hourly"]["default_cursor_field"] == ["bucket"]
    assert sorted((row["bucket"], row["the device"], row["total"]) for row in result.rows("hourly")) == [
        (f"{bucket:%Y-%m-%dT%H:%M:%S.%fZ}", device, total)
        for bucket, device, total in sorted(
            community_database.rows('SELECT bucket, "the device", total FROM hourly')
        )
    ]


MAKE_AGGREGATE = """
CREATE MATERIALIZED VIEW minutely WITH (timescaledb.continuous) AS
SELECT time_bucket('1 minute', time) AS bucket, device, sum(value) AS total FROM metrics GROUP BY 1, 2 WITH NO DATA;
CALL refresh_continuous_aggregate('minutely', NULL, NULL);
ALTER MATERIALIZED VIEW minutely SET (timescaledb.compress = true)
"""


@pytest.mark.community
def test_restless_compression_of_a_continuous_aggregate_neither_hides_nor_repeats_a_bucket(
    community_database: Database, tmp_path: Path
) -> None:
    metrics(community_database)
    for statement in MAKE_AGGREGATE.split(";"):
        community_database.execute(statement.encode())
    chunks = [row[0] for row in community_database.rows("SELECT show_chunks('minutely')::text")]
    community_database.grant_select("minutely")
    connector = Connector(community_database.config(timescaledb={"fetch_rows": 200}), tmp_path)

    with restless(community_database, chunks, seed=1), restless(community_database, chunks, seed=2):
        result = connector.read(configured_catalog(connector.discover().catalog, streams=["minutely"]))

    assert result.errors == []
    assert sorted((row["bucket"], row["device"], row["total"]) for row in result.rows("minutely")) == [
        (f"{bucket:%Y-%m-%dT%H:%M:%S.%fZ}", device, total)
        for bucket, device, total in sorted(
            community_database.rows("SELECT bucket, device, total FROM minutely")
        )
    ]
