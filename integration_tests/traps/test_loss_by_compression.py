"""Rows that compression hides: from the log, from a reader of one relation, from a snapshot, behind a marker.

What the log does not tell is found by counting: rows that appeared are read, of rows that vanished the range is named.
"""

from __future__ import annotations

from contextlib import closing

import pytest

from integration_tests.cdc.conftest import PUBLICATION, Followed
from integration_tests.cdc.raw import MARKER, RawLog
from integration_tests.cdc.test_audit import VANISHED, WHOLE_BATCHES, copied, warnings
from integration_tests.cdc.test_compression import (
    COMPRESS,
    DECOMPRESS,
    INSERT,
    TABLES,
    Scene,
    ending_well,
    make_compressible,
    read_once,
)
from integration_tests.inprocess import InProcess
from integration_tests.truth import Truth
from source_timescaledb.cdc.compressing import DIRECT_DELETE
from testkit.database import Database

pytestmark = pytest.mark.community

LIMIT = "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 1"
CAUGHT = (
    "DO $$ BEGIN UPDATE metrics SET note = 'never' WHERE note = 'n5'; EXCEPTION WHEN OTHERS THEN NULL; END $$"
)


@pytest.fixture
def compressed(community_database: Database) -> Scene:
    return read_once(community_database)


def test_trap_03_a_delete_of_whole_batches_is_not_in_the_log(compressed: Scene) -> None:
    compressed.database.execute(WHOLE_BATCHES)
    assert compressed.database.value("SELECT count(*) FROM metrics") == 300 - 43
    assert compressed.told() == {}

    succeeded, _, checked = compressed.followed.source().check()
    (warning,) = warnings(ending_well(compressed.followed.sync(*TABLES)))

    assert succeeded
    assert [line for line in checked if f"SET {DIRECT_DELETE} = off;" in line]
    assert f"Rows of public.metrics {VANISHED}" in warning
    assert ", from 2024-01-01 00:00:00 up to 2024-01-02 00:00:00" in warning


def test_trap_04_rows_that_are_written_compressed_are_not_in_the_log(compressed: Scene) -> None:
    copied(compressed.database, first="2024-01-02 00:01", rows=500)
    assert compressed.database.value("SELECT count(*) FROM events") == 300 + 500
    assert compressed.told() == {}

    ended = ending_well(compressed.followed.sync(*TABLES))

    assert len(ended.rows("events")) == 500
    compressed.followed.mirrors("events")


def test_trap_05_copy_and_only_pass_over_the_rows_of_a_compressed_chunk(compressed: Scene) -> None:
    compressed.run(INSERT)
    database = compressed.database
    chunk, *_ = database.rows("SELECT show_chunks('events')::text ORDER BY 1")[0]
    with database.session("owner").cursor().copy(f"COPY {chunk} TO STDOUT".encode()) as copy:
        assert len(list(copy.rows())) == 1, "the loose row"
    assert database.value(f"SELECT count(*) FROM ONLY {chunk}".encode()) == 1
    assert database.value(f"SELECT count(*) FROM {chunk}".encode()) == 101
    database.grant_select("events")

    ended = InProcess(database.config()).read()

    assert ended.failure is None
    truth = Truth.of(database, "events")
    assert truth.parsed(ended.rows("events")) == truth.rows


def test_trap_06_a_chunk_decompressed_between_snapshot_and_read_is_in_neither_snapshot_nor_stream(
    community_database: Database,
) -> None:
    """The snapshot finds the chunk empty, and what the stream says of its rows stands between markers, and is dropped."""
    database = community_database
    make_compressible(database)
    followed = Followed(database, f"slot_{database.name}")
    followed.publish(*TABLES)
    scene = Scene(followed, RawLog(database, PUBLICATION))
    scene.run(COMPRESS)
    chunk, *_ = database.rows("SELECT show_chunks('events')::text ORDER BY 1")[0]
    with closing(database.connect()) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1 FROM pg_class LIMIT 1")
        scene.run(DECOMPRESS)
        assert reader.execute(f"SELECT count(*) FROM {chunk}".encode()).fetchone() == (0,)
    told = scene.told()["events"]
    assert (told.marked["Insert"], told.bare["Insert"]) == (300, 0)
    scene.run(COMPRESS)
    followed.settings["parallel_chunks"] = 1

    ending_well(followed.sync(*TABLES, acts={("RECORD", 1): lambda: scene.run(DECOMPRESS)}))

    followed.mirrors(*TABLES)


def test_trap_07_in_a_streamed_transaction_a_marker_is_left_open_and_swallows_what_follows(
    compressed: Scene,
) -> None:
    """A subtransaction that failed is taken back in the stream, but its start of a region has gone out already."""
    database = compressed.database
    with closing(database.connect()) as writer:
        for statement in (
            LIMIT,
            CAUGHT,
            INSERT.format_map({"table": "events", "new": "('2024-01-01', 'new')"}),
        ):
            writer.execute(statement.encode())
        writer.commit()
    assert streamed(compressed.raw, database) == ["decompression-start", "abort", "insert"]

    ended = ending_well(compressed.followed.sync(*TABLES))

    assert [row["what"] for row in ended.rows("events")] == ["new"]
    compressed.followed.mirrors(*TABLES)


def streamed(raw: RawLog, database: Database) -> list[str]:
    """Markers, rows and aborts, as they come to a reader of protocol 2 that wants transactions before they have ended."""
    database.as_superuser().execute("SET debug_logical_replication_streaming = immediate")
    found = []
    for data in raw.payloads(proto_version="2", streaming="on"):
        match data[:1]:
            case b"M":  # the transaction's id, flags and position come before the prefix
                found.append(data[14:].split(b"\0")[0].decode().removeprefix(MARKER))
            case b"I":
                found.append("insert")
            case b"A":
                found.append("abort")
    return found
