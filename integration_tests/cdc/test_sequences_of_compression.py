"""The sequences (`test_sequences_1_to_7`) that only happen to chunks that are compressed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from integration_tests.cdc.conftest import Followed, fill, make_tables
from integration_tests.cdc.scenes import until
from integration_tests.truth import Truth
from testkit.database import Database
from testkit.roots import Root
from testkit.server import Server

pytestmark = pytest.mark.community

LOOSE = "INSERT INTO metrics VALUES ('2024-01-01 12:34:56', 70, 1, 'loose'), ('2024-01-01 12:34:57', 70, 1, 'loose')"
NEW = "INSERT INTO metrics VALUES ('2024-01-01 12:34:58', 70, 1, 'new')"


def compressed(database: Database) -> list[str]:
    """Fill tables and compress all chunks of `metrics`; the names of the chunks."""
    fill(database)
    database.execute(
        "ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')"
    )
    return [
        name
        for (name,) in database.rows("SELECT compress_chunk(chunk)::text FROM show_chunks('metrics') chunk")
    ]


@pytest.fixture
def logged(root: Root) -> Iterator[tuple[Server, Followed]]:
    """A database of a server of its own, whose log can be read."""
    with Server(root) as server, server.database() as database:
        make_tables(database)
        yield server, Followed(database, f"slot_{database.name}")


def test_sequence_09_a_chunk_whose_compressed_relation_is_dropped_under_the_reader_is_read(
    logged: tuple[Server, Followed],
) -> None:
    """A chunk is being decompressed; a reader waits for its lock; the decompression commits, and with it the relation of
    compressed rows is gone that the reader is about to lock: 42P01, though the chunk is there.
    """
    server, followed = logged
    database = followed.database
    chunk, *_ = compressed(database)
    followed.publish("metrics")
    followed.settings["parallel_chunks"] = 1
    with closing(database.connect()) as decompressing, ThreadPoolExecutor() as executor:

        def decompress() -> None:
            decompressing.execute("SELECT decompress_chunk(%s)", [chunk])
            executor.submit(commit_when_a_reader_waits)

        def commit_when_a_reader_waits() -> None:
            until(lambda: reader_waits(database))
            decompressing.commit()

        ended = followed.sync("metrics", acts={("STATE", 1): decompress})

    assert ended.failure is None, (ended.errors, ended.logged)
    assert re.search(r'relation "\S*compress\S*" does not exist', server.log)
    followed.mirrors("metrics")


def reader_waits(database: Database) -> bool:
    """Whether a reader of the connector waits for a lock on a relation."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND query LIKE %s AND wait_event = 'relation'"
    return database.as_superuser().execute(asked, [database.name, "BEGIN%"]).fetchone() == (1,)


def truncate_compressed_rows(database: Database, chunk: str) -> None:
    """TRUNCATE a compressed chunk by its name: its compressed rows go, and nothing in the log tells of it.

    Its loose rows stay, which is a trap of the server, so that this stands for rows that vanish unseen.
    """
    before = database.value("SELECT count(*) FROM metrics")
    database.execute(f"TRUNCATE {chunk}".encode())
    assert database.value("SELECT count(*) FROM metrics WHERE note = 'loose'") == 2
    assert database.value("SELECT count(*) FROM metrics") < before


def test_sequence_10_a_truncate_of_a_compressed_chunk_before_it_is_read_clears_nothing_else(
    community: Followed,
) -> None:
    """The chunk is truncated by its name before its slices are read: they hold what is left, and what comes after."""
    database = community.database
    chunk = compressed(database)[0]
    database.execute(LOOSE)
    community.publish("metrics")

    def truncate() -> None:
        truncate_compressed_rows(database, chunk)
        database.execute(NEW)

    ended = community.sync("metrics", acts={("STATE", 1): truncate})

    assert ended.failure is None, (ended.errors, ended.logged)
    community.mirrors("metrics")


def test_sequence_10_a_truncate_of_a_compressed_chunk_that_was_told_removes_nothing_and_stops_nothing(
    community: Followed,
) -> None:
    """The chunk is truncated by its name after its rows were told: no message comes of it, so the rows stay downstream;
    what is written later arrives.
    """
    database = community.database
    chunk = compressed(database)[0]
    database.execute(LOOSE)
    community.publish("metrics")
    community.sync("metrics")
    all_that_were = Truth.of(database, "metrics")
    truncate_compressed_rows(database, chunk)
    database.execute(NEW)

    ended = community.sync("metrics")

    assert ended.failure is None, (ended.errors, ended.logged)
    assert [row["note"] for row in ended.rows("metrics")] == ["new"]
    held = community.destinations["metrics"].rows(all_that_were)
    assert held == all_that_were.rows | Truth.of(database, "metrics").rows


def test_sequence_10_a_truncate_of_a_compressed_hypertable_is_told_once(community: Followed) -> None:
    """TRUNCATE of the hypertable itself is in the log, compressed or not."""
    database = community.database
    compressed(database)
    community.publish("metrics")
    community.sync("metrics")
    database.execute("TRUNCATE metrics")
    database.execute(NEW)

    ended = community.sync("metrics")

    assert [row["note"] for row in ended.rows("metrics")] == ["new"]
    assert len([line for line in ended.logged if "public.metrics" in line and "TRUNCATE" in line]) == 1
