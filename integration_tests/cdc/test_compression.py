"""Compression under change data capture: whatever it moves, the destination is told what the application did, no more.

Each scene asks first what the log says to a reader without markers, so that the trap is known to be real on the server
at hand, and then what we tell: of a table with a key (`metrics`) and of one without (`events`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import psycopg
import pytest

from integration_tests.cdc.conftest import PUBLICATION, Followed, fill, make_tables
from integration_tests.cdc.raw import RawLog, Told
from integration_tests.inprocess import Ended
from source_timescaledb.cdc.followed import DELETED_AT
from testkit.database import Database

pytestmark = pytest.mark.community

TABLES: Final = ("metrics", "events")
WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "metrics": {"table": "metrics", "name": "note", "new": "('2024-01-01 00:00:01', 3, 1, 'new')"},
    "events": {"table": "events", "name": "what", "new": "('2024-01-01 00:00:01', 'new')"},
}
CHUNK_ROWS: Final = 100
"""In each of three chunks: in `metrics` seven batches of a device each, in `events` one batch."""
BATCH_ROWS: Final = {"metrics": 14, "events": 100}
"""In the batch that holds `n5`."""
COMPRESS: Final = "SELECT compress_chunk(c) FROM show_chunks('{table}') c"
DECOMPRESS: Final = "SELECT decompress_chunk(c) FROM show_chunks('{table}') c"
INSERT: Final = "INSERT INTO {table} VALUES {new}"
UPDATE: Final = "UPDATE {table} SET {name} = 'changed' WHERE {name} = 'n5'"
DELETE: Final = "DELETE FROM {table} WHERE {name} = 'n5'"


@dataclass
class Scene:
    """Compressed hypertables that were read once, and the log as others see it."""

    followed: Followed
    raw: RawLog

    @property
    def database(self) -> Database:
        """Where they are."""
        return self.followed.database

    def run(self, *statements: str) -> None:
        """Run statements for each table, each in a transaction of its own."""
        for statement in statements:
            for words in WORDS.values():
                self.database.execute(statement.format_map(words).encode())

    def together(self, *statements: str) -> None:
        """Run statements for each table, all in one transaction."""
        with self.database.connect() as connection:
            for words in WORDS.values():
                for statement in statements:
                    connection.execute(statement.format_map(words).encode())

    def told(self) -> Mapping[str, Told]:
        """What the log says of each table since it was last asked."""
        return self.raw.told()

    def sync(self) -> dict[str, int]:
        """Sync; how many records of each table came. The destination has what the tables have."""
        ended = ending_well(self.followed.sync(*TABLES))
        self.followed.mirrors(*TABLES)
        return {table: len(ended.rows(table)) for table in TABLES}


def ending_well(ended: Ended) -> Ended:
    assert ended.failure is None, (ended.errors, ended.logged)
    return ended


def each(metrics: int, events: int | None = None) -> dict[str, int]:
    """So many records of each table."""
    return {"metrics": metrics, "events": metrics if events is None else events}


def make_compressible(database: Database) -> None:
    """The tables, in which compression is allowed, with rows."""
    make_tables(database)
    database.execute(
        "ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device',"
        " timescaledb.compress_orderby = 'time')"
    )
    database.execute("ALTER TABLE events SET (timescaledb.compress, timescaledb.compress_orderby = 'time')")
    fill(database, rows=3 * CHUNK_ROWS)


def read_once(database: Database) -> Scene:
    """Compressed hypertables that were read and counted once, of which the log has told nothing."""
    make_compressible(database)
    followed = Followed(database, f"slot_{database.name}")
    followed.publish(*TABLES)
    scene = Scene(followed, RawLog(database, PUBLICATION))
    scene.run(COMPRESS)
    assert scene.sync() == each(3 * CHUNK_ROWS)
    assert scene.told() == {}
    return scene


@pytest.fixture
def scene(community_database: Database) -> Scene:
    return read_once(community_database)


def test_decompressing_and_compressing_tell_nothing(scene: Scene) -> None:
    scene.run(DECOMPRESS)

    assert {table: one.marked["Insert"] for table, one in scene.told().items()} == each(300), "as if new"
    assert scene.sync() == each(0)

    scene.run(COMPRESS)

    assert scene.told() == {}
    assert scene.sync() == each(0)


def test_a_row_inserted_into_a_compressed_chunk_is_told_once(scene: Scene) -> None:
    scene.run(INSERT)

    assert all(one == Told(bare=Counter(Insert=1)) for one in scene.told().values())
    assert scene.sync() == each(1)


def test_recompressing_segment_by_segment_deletes_nothing(scene: Scene) -> None:
    scene.run(INSERT)
    scene.told()
    scene.run(COMPRESS)

    assert all(one.marked["Delete"] for one in scene.told().values()), "as if living rows were deleted"
    assert scene.sync() == each(1)


def test_recompressing_a_whole_chunk_nests_markers_and_tells_nothing(scene: Scene) -> None:
    scene.run(INSERT)
    scene.told()
    scene.database.execute("SET timescaledb.enable_segmentwise_recompression = off")
    scene.run(COMPRESS)

    told = scene.told()
    assert all(one.marked["Insert"] for one in told.values()), "as if rows came again"
    assert {one.deepest for one in told.values()} == {2}
    assert scene.sync() == each(1)


def test_recompressing_on_demand_tells_nothing(scene: Scene) -> None:
    scene.run(INSERT, "SELECT compress_chunk(c, recompress => true) FROM show_chunks('{table}') c")

    assert scene.sync() == each(1)


def test_compressing_by_deletion_deletes_nothing(scene: Scene) -> None:
    scene.run(DECOMPRESS)
    scene.told()
    scene.database.execute("SET timescaledb.enable_delete_after_compression = on")
    scene.run(COMPRESS)

    assert {table: one.marked["Delete"] for table, one in scene.told().items()} == each(300)
    assert scene.sync() == each(0)


def test_an_update_of_a_compressed_row_tells_that_row_alone(scene: Scene) -> None:
    scene.run(UPDATE)

    told = scene.told()
    assert {table: one.marked["Insert"] for table, one in told.items()} == each(14, 100), "the whole batch"
    assert all(one.bare == Counter(Update=1) for one in told.values())
    assert scene.sync() == each(1, events=2)


def test_a_delete_of_a_compressed_row_tells_that_row_alone(scene: Scene) -> None:
    scene.run(DELETE)

    told = scene.told()
    assert {table: one.marked["Insert"] for table, one in told.items()} == each(14, 100), "the whole batch"
    assert all(one.bare == Counter(Delete=1) for one in told.values())
    assert scene.sync() == each(1)


def test_an_upsert_tells_what_became_of_each_row(scene: Scene) -> None:
    (time, device) = scene.database.rows("SELECT time, device FROM metrics WHERE note = 'n5'")[0]
    upsert = "INSERT INTO metrics VALUES (%s, %s, 0, 'upserted') ON CONFLICT (device, time) "
    scene.database.execute(f"{upsert} DO UPDATE SET note = excluded.note".encode(), [time, device])
    scene.database.execute(f"{upsert} DO NOTHING".encode(), [time, device])
    scene.database.execute(f"{upsert} DO UPDATE SET note = 'never'".encode(), [time, 99])

    told = scene.told()["metrics"]
    assert told.marked["Insert"] == 14
    assert told.bare == Counter(Update=1, Insert=1)
    assert scene.sync() == each(2, events=0)


def test_an_update_of_the_key_of_a_compressed_row_is_a_delete_and_an_insert(scene: Scene) -> None:
    scene.database.execute("UPDATE metrics SET device = 55 WHERE note = 'n5'")
    scene.database.execute("UPDATE events SET time = time + interval '1 second' WHERE what = 'n5'")

    assert all(one.marked["Insert"] for one in scene.told().values())
    assert scene.sync() == each(2)


def test_what_a_failed_subtransaction_decompressed_is_told_by_neither(scene: Scene) -> None:
    scene.together("SAVEPOINT here", UPDATE, DELETE, "ROLLBACK TO here", INSERT)

    assert all(one == Told(bare=Counter(Insert=1)) for one in scene.told().values())
    assert scene.sync() == each(1)


def test_a_decompression_that_ran_into_its_limit_and_was_caught_is_told_by_nobody(scene: Scene) -> None:
    scene.together(
        "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 1",
        "DO $$ BEGIN UPDATE {table} SET {name} = 'never' WHERE {name} = 'n5';"
        " EXCEPTION WHEN OTHERS THEN NULL; END $$",
        INSERT,
    )

    assert all(one == Told(bare=Counter(Insert=1)) for one in scene.told().values())
    assert scene.sync() == each(1)


def test_application_and_compression_in_one_transaction_are_told_apart(scene: Scene) -> None:
    """A subtransaction that commits, and a chunk that changes its form three times between changes of its rows."""
    scene.together(
        UPDATE,
        "SAVEPOINT here",
        DECOMPRESS,
        INSERT,
        "RELEASE here",
        COMPRESS,
        "DELETE FROM {table} WHERE {name} IN ('n6', 'changed')",
    )

    told = scene.told()
    assert all(one.marked["Insert"] > 300 for one in told.values())
    assert all(one.bare == Counter(Update=1, Insert=1, Delete=2) for one in told.values())
    assert scene.sync() == each(4, events=5)


def test_a_chunk_that_is_rewritten_as_it_is_tells_nothing(scene: Scene) -> None:
    scene.run(DECOMPRESS)
    scene.sync()
    scene.told()
    for table in TABLES:
        chunk, other = scene.database.rows("SELECT show_chunks(%s)::text ORDER BY 1", [table])[:2]
        index = scene.database.value(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass LIMIT 1", chunk
        )
        scene.database.execute("SELECT reorder_chunk(%s, %s)", [chunk[0], index])
        scene.database.execute(f"VACUUM FULL {other[0]}".encode())

    assert scene.told() == {}
    assert scene.sync() == each(0)


def test_retention_of_compressed_chunks_keeps_their_rows_downstream(scene: Scene) -> None:
    scene.run(UPDATE, "SELECT drop_chunks('{table}', older_than => '2024-01-02'::timestamptz)")

    ended = ending_well(scene.followed.sync(*TABLES))

    assert {table: len(ended.rows(table)) for table in TABLES} == each(1, events=2)


def test_columns_that_change_while_chunks_are_compressed_are_told_right(scene: Scene) -> None:
    scene.run(
        INSERT,
        "ALTER TABLE {table} ADD COLUMN extra int DEFAULT 7",
        "UPDATE {table} SET {name} = 'changed' WHERE {name} = 'n5'",
        "ALTER TABLE {table} DROP COLUMN extra",
        COMPRESS,
        "UPDATE {table} SET {name} = 'again' WHERE {name} = 'changed'",
    )

    assert scene.sync() == each(3, events=5)


@pytest.fixture
def restless(community_database: Database) -> Iterator[tuple[Followed, Callable[[], None]]]:
    """Tables that nobody has read yet, and an act that changes their chunks' form and rows, another way each time."""
    make_compressible(community_database)
    followed = Followed(community_database, f"slot_{community_database.name}")
    followed.publish(*TABLES)
    steps = iter(
        (COMPRESS, UPDATE, DECOMPRESS, INSERT, COMPRESS, DELETE, COMPRESS, INSERT.replace("new'", "x'"))
    )
    with closing(community_database.connect()) as owner:
        owner.autocommit = True

        def act() -> None:
            for words in WORDS.values():
                owner.execute(next(steps, "SELECT 1").format_map(words).encode())

        yield followed, act


@pytest.mark.parametrize("message", ["RECORD", "STATE"])
def test_chunks_that_change_their_form_during_the_first_sync_lose_and_invent_nothing(
    restless: tuple[Followed, Callable[[], None]], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One slice in each round, so that every other chunk is unread, fresh or settled when something happens to it."""
    monkeypatch.setattr("source_timescaledb.airbyte.following.ROUND_SECONDS", 0.0)
    followed, act = restless
    spread = (1, 50, 101, 150, 201, 301, 350) if message == "RECORD" else range(1, 8)

    ending_well(followed.sync(*TABLES, acts={(message, number): act for number in spread}))
    ending_well(followed.sync(*TABLES))

    followed.mirrors(*TABLES)


def test_deletes_of_compressed_rows_name_their_keys_and_nothing_else(scene: Scene) -> None:
    scene.database.execute("DELETE FROM metrics WHERE note IN ('n5', 'n150')")

    ended = ending_well(scene.followed.sync(*TABLES))

    gone = ended.rows("metrics")
    assert sorted(row["device"] for row in gone) == [3, 5]
    assert all(row[DELETED_AT] is not None for row in gone)


def test_an_update_that_fails_leaves_no_trace(scene: Scene) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        scene.database.execute("UPDATE metrics SET value = 1 / (device - 5) WHERE note = 'n5'")

    assert scene.told() == {}
    assert scene.sync() == each(0)
