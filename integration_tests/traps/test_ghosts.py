"""Rows told twice or told of a moment that nobody asked for, and rows that are left behind.

Where rows move without changing, the log shows inserts, and a snapshot that is older than the move shows what came after
it. The connector drops what stands between markers, and accepts a slice only of a chunk that kept its form meanwhile.
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
    WORDS,
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
    database, followed = uncompressed.database, uncompressed.followed

    def act(*statements: str) -> None:
        for statement in statements:
            database.execute(statement.format_map(WORDS["events"]).encode())

    with closing(of_the_past(database)) as reader:
        act(INSERT, COMPRESS)
        assert count(reader, chunks(database, "events")[0]) == 101
    assert uncompressed.told()["events"].bare["Insert"] == 1
    act(DECOMPRESS)
    acts = {
        ("STATE", 1): lambda: act(INSERT, COMPRESS),
        ("RECORD", 150): lambda: act(DECOMPRESS),
        ("RECORD", 201): lambda: act(INSERT, COMPRESS),
    }

    ending_well(followed.sync("events", acts=acts))

    followed.mirrors("events")


@pytest.mark.community
def test_trap_15_a_snapshot_sees_the_rows_of_two_chunks_in_the_one_that_is_left_of_a_merge(
    uncompressed: Scene,
) -> None:
    """Whoever had read the other one before has its rows twice."""
    database, followed = uncompressed.database, uncompressed.followed
    first, second, third = chunks(database, "events")
    with closing(of_the_past(database)) as reader:
        database.execute(f"CALL merge_chunks('{first}', '{second}')".encode())
        assert count(reader, first) == 200
    assert uncompressed.told() == {}
    merge = f"CALL merge_chunks('{first}', '{third}')".encode()

    ending_well(followed.sync("events", acts={("RECORD", 201): lambda: database.execute(merge)}))

    followed.mirrors("events")


def test_trap_16_rows_that_move_into_chunks_are_inserted_again(followed: Followed) -> None:
    """With a key they are told again as what they are; without one nobody could tell them from new ones."""
    database = followed.database
    make_plain(database, "keyed", ", PRIMARY KEY (time)")
    make_plain(database, "loose")
    publish_schemas(followed)
    ending_well(followed.sync("keyed", "loose"))
    raw = RawLog(database, PUBLICATION)
    for table in ("keyed", "loose"):
        database.execute("SELECT create_hypertable(%s, 'time', migrate_data => true)", [table])
    told = raw.told()
    assert [told[table].bare["Insert"] for table in ("keyed", "loose")] == [100, 100]

    ended = followed.sync("keyed", "loose")

    followed.mirrors("keyed", "loose")
    (error,) = ended.errors
    assert error["failure_type"] == "config_error"
    assert "public.loose has become a hypertable" in error["message"]
    followed.refresh("loose")
    ending_well(followed.sync("keyed", "loose"))
    followed.mirrors("keyed", "loose")


def make_plain(database: Database, table: str, more: str = "") -> None:
    """A table with a hundred rows, and whatever identity updates need."""
    database.execute(f"CREATE TABLE {table} (time timestamptz NOT NULL, n int{more})".encode())
    database.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL".encode())
    database.execute(
        f"INSERT INTO {table} SELECT '2024-01-01'::timestamptz + i * interval '1 hour', i"
        " FROM generate_series(1, 100) i".encode()
    )


def publish_schemas(followed: Followed) -> None:
    """The one publication that lets a table in it become a hypertable, and covers its chunks."""
    superuser = followed.database.as_superuser()
    schemas = "TABLES IN SCHEMA public, _timescaledb_internal"
    superuser.execute(f"CREATE PUBLICATION {PUBLICATION} FOR {schemas}".encode())
    superuser.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [followed.slot])


def test_trap_17_rows_of_chunks_that_are_dropped_or_detached_are_never_told_as_deleted(
    followed: Followed,
) -> None:
    """So they stay at the destination, as history; that is what the README promises."""
    database = followed.database
    fill(database)
    followed.publish("metrics")
    ending_well(followed.sync("metrics"))
    raw = RawLog(database, PUBLICATION)
    database.execute("SELECT drop_chunks('metrics', older_than => '2024-01-02'::timestamptz)")
    if database.cluster.community:
        database.execute(f"CALL detach_chunk('{chunks(database, 'metrics')[-1]}')".encode())
    assert raw.told() == {}
    database.execute("INSERT INTO metrics VALUES ('2024-01-02', 99, 1, 'later')")

    ended = ending_well(followed.sync("metrics"))

    assert [(row["note"], row[DELETED_AT]) for row in ended.rows("metrics")] == [("later", None)]
    assert len(followed.destinations["metrics"].newest) == 301
