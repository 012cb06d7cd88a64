"""Rows told twice or told of a moment that nobody asked for, and rows that are left behind.

Where rows move without changing, the log shows inserts, and a snapshot that is older than the move shows what came after
it. The connector drops what stands between markers, and accepts a slice only if the chunk kept its form while it was read.
"""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest

from integration_tests.cdc.conftest import PUBLICATION, Followed, fill
from integration_tests.cdc.raw import RawLog
from integration_tests.cdc.test_compression import (
    COMPRESS,
    DECOMPRESS,
    INSERT,
    TABLES,
    Scene,
    each,
    ending_well,
    make_compressible,
)
from source_timescaledb.cdc.followed import DELETED_AT
from testkit.database import Database


@pytest.fixture
def uncompressed(community_database: Database) -> Scene:
    """Hypertables that may be compressed, which nobody has read yet, one chunk after the other."""
    make_compressible(community_database)
    followed = Followed(community_database, f"slot_{community_database.name}", {"parallel_chunks": 1})
    followed.publish(*TABLES)
    return Scene(followed, RawLog(community_database, PUBLICATION))


def of_the_past(database: Database) -> psycopg.Connection:
    """A reader that has taken its snapshot."""
    reader = database.connect()
    reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT 1 FROM pg_class LIMIT 1")
    return reader


def count(reader: psycopg.Connection, relation: str) -> int:
    row = reader.execute(f"SELECT count(*) FROM {relation}".encode()).fetchone()
    assert row is not None
    return int(row[0])


def chunks(database: Database, table: str) -> list[str]:
    """The chunks of a table, the oldest first."""
    return [name for (name,) in database.rows("SELECT show_chunks(%s)::text ORDER BY 1", [table])]


@pytest.mark.community
def test_trap_13_decompression_inserts_every_row_again(uncompressed: Scene) -> None:
    uncompressed.run(COMPRESS)
    assert uncompressed.sync() == each(300)
    uncompressed.told()
    uncompressed.run(DECOMPRESS)
    assert {table: one.marked["Insert"] for table, one in uncompressed.told().items()} == each(300)

    assert uncompressed.sync() == each(0)


@pytest.mark.community
def test_trap_14_a_snapshot_sees_what_was_written_after_it_once_the_chunk_is_compressed(
    uncompressed: Scene,
) -> None:
    """And the log tells the same rows once more."""
    with closing(of_the_past(uncompressed.database)) as reader:
        uncompressed.run(INSERT, COMPRESS)
        assert count(reader, chunks(uncompressed.database, "events")[0]) == 101
    assert uncompressed.told()["events"].bare["Insert"] == 1
    uncompressed.run(DECOMPRESS)

    messages = {
        ("STATE", 1): (INSERT, COMPRESS),
        ("RECORD", 150): (DECOMPRESS,),
        ("RECORD", 201): (INSERT, COMPRESS),
    }
    acts = {message: lambda words=words: uncompressed.run(*words) for message, words in messages.items()}
    ending_well(uncompressed.followed.sync("events", acts=acts))

    uncompressed.followed.mirrors("events")


@pytest.mark.community
def test_trap_15_a_snapshot_sees_the_rows_of_two_chunks_in_one_after_a_merge(uncompressed: Scene) -> None:
    database, followed = uncompressed.database, uncompressed.followed
    first, second, third = chunks(database, "events")
    with closing(of_the_past(database)) as reader:
        database.execute(f"CALL merge_chunks('{first}', '{second}')".encode())
        assert (count(reader, first), count(reader, "events")) == (200, 400), "100 of the 300 twice"

    merge = f"CALL merge_chunks('{first}', '{third}')".encode()
    ending_well(followed.sync("events", acts={("RECORD", 1): lambda: database.execute(merge)}))

    followed.mirrors("events")


def test_trap_16_rows_that_move_into_chunks_are_inserted_again(followed: Followed) -> None:
    migrate_while_followed(followed)
    database = followed.database
    raw = RawLog(database, PUBLICATION)
    database.execute("SELECT create_hypertable('readings', 'time', migrate_data => true)")
    assert sum(told.bare["Insert"] for told in raw.told().values()) == 100

    ended = ending_well(followed.sync("readings"))

    print(ended.records and len(ended.rows("readings")), ended.logged)
    followed.mirrors("readings")


def migrate_while_followed(followed: Followed) -> None:
    database = followed.database
    database.execute("CREATE TABLE readings (time timestamptz NOT NULL, n int)")
    database.execute("ALTER TABLE readings REPLICA IDENTITY FULL")
    database.execute(
        "INSERT INTO readings SELECT '2024-01-01'::timestamptz + i * interval '1 hour', i"
        " FROM generate_series(1, 100) i"
    )
    database.as_superuser().execute(
        f"CREATE PUBLICATION {PUBLICATION} FOR TABLES IN SCHEMA public, _timescaledb_internal".encode()
    )
    database.as_superuser().execute(
        "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [followed.slot]
    )
    ending_well(followed.sync("readings"))


def test_trap_17_rows_of_chunks_that_are_dropped_are_never_told_as_deleted(followed: Followed) -> None:
    database = followed.database
    fill(database)
    followed.publish("metrics")
    ending_well(followed.sync("metrics"))
    raw = RawLog(database, PUBLICATION)
    database.execute("SELECT drop_chunks('metrics', older_than => '2024-01-02'::timestamptz)")
    assert raw.told() == {}
    database.execute("INSERT INTO metrics VALUES ('2024-01-02', 99, 1, 'later')")

    ended = ending_well(followed.sync("metrics"))

    assert [(row["note"], row[DELETED_AT]) for row in ended.rows("metrics")] == [("later", None)]
