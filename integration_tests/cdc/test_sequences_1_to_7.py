"""Sequences of events that broke a prototype of the hand-over between snapshot and stream, each found by random runs.

Twelve were found; each is a test here or in `test_sequences_8_to_12`, under its number.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import pytest
from psycopg import sql

from integration_tests.cdc.conftest import PUBLICATION, Followed, fill
from integration_tests.cdc.scenes import TABLES, begun, blocked, kill, until
from integration_tests.inprocess import Acts
from testkit.database import Database

AUTO_PUBLICATION = (2, 25)
ROUND_SECONDS = 1.0


def test_sequence_01_a_slot_made_while_a_chunk_is_born_can_be_decoded(followed: Followed) -> None:
    """T0 writes; the slot's creation waits for it; T1 begins; T0 makes a chunk under a savepoint and commits; the
    creation waits for T1; T2 writes to the new chunk; T1 commits, so the slot is ready; T2 commits.
    """
    database = followed.database
    fill(database)
    database.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE {', '.join(TABLES)}".encode())
    creation = "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')"
    with (
        closing(database.connect()) as t0,
        closing(database.connect()) as t1,
        closing(database.connect()) as t2,
        closing(database.connect("superuser")) as maker,
        ThreadPoolExecutor() as executor,
    ):
        begun(t0)
        made = executor.submit(maker.execute, creation, [followed.slot])
        until(blocked(database, maker, by=t0))
        begun(t1)
        t0.execute("SAVEPOINT here")
        t0.execute("INSERT INTO events VALUES ('2025-05-05', 'of T0')")
        t0.execute("RELEASE here")
        t0.commit()
        until(blocked(database, maker, by=t1))
        t2.execute("INSERT INTO events VALUES ('2025-05-05', 'of T2')")
        t1.commit()
        made.result()
        maker.commit()
        t2.commit()

    for _ in range(2):
        ended = followed.sync(*TABLES)
        assert ended.failure is None, (ended.errors, ended.logged)
        followed.mirrors(*TABLES)
        database.execute("INSERT INTO events VALUES ('2025-05-05', 'later')")


def test_sequence_02_a_change_written_before_a_slice_was_read_and_committed_after_it_wins(
    followed: Followed,
) -> None:
    """T updates rows; their slice is read, and does not see it; T commits: in the log it stands before the slice."""
    database = followed.database
    fill(database)
    followed.publish(*TABLES)
    with closing(database.connect()) as writer:

        def write() -> None:
            writer.execute("UPDATE metrics SET value = -1")
            writer.execute("UPDATE parts SET note = 'of T'")
            writer.execute("DELETE FROM metrics WHERE device = 3")

        ended = followed.sync(*TABLES, acts={("STATE", 1): write, ("RECORD", 1): writer.commit})

    assert ended.failure is None, (ended.errors, ended.logged)
    followed.mirrors(*TABLES)
    told = Counter((row["device"], row["time"]) for row in ended.rows("metrics"))
    assert max(told.values()) == 3, "some were read before, and told again as changed and as deleted"


def test_sequence_03_changes_of_one_key_win_in_the_order_of_commits(followed: Followed) -> None:
    """T1 inserts k; T2 inserts k and waits; T1 deletes k and commits; T2 commits: in the log T2's row stands before
    the delete.
    """
    database = followed.database
    fill(database)
    followed.publish(*TABLES)
    followed.sync(*TABLES)
    insert = "INSERT INTO parts VALUES (-1, %s)"
    with (
        closing(database.connect()) as t1,
        closing(database.connect()) as t2,
        ThreadPoolExecutor() as executor,
    ):
        t1.execute(insert, ["of T1"])
        inserted = executor.submit(t2.execute, insert, ["of T2"])
        until(blocked(database, t2, by=t1))
        t1.execute("DELETE FROM parts WHERE id = -1")
        t1.commit()
        inserted.result()
        t2.commit()

    ended = followed.sync(*TABLES)

    assert [row["note"] for row in ended.rows("parts")] == ["of T1", None, "of T2"]
    followed.mirrors(*TABLES)


def test_sequence_04_a_chunk_that_somebody_else_published_is_not_read_before_its_writers_have_ended(
    followed: Followed,
) -> None:
    """L inserts into a chunk that is not published; somebody adds it and is killed; a sync starts; L inserts again and
    commits: of L only the second row is decoded.
    """
    database = followed.database
    fill(database)
    followed.publish(*TABLES)
    followed.sync(*TABLES)
    database.execute("INSERT INTO events VALUES ('2025-05-05', 'makes the chunk')")
    chunk = database.value("SELECT show_chunks('events', newer_than => '2025-01-01'::timestamptz)::text")
    with closing(database.connect()) as writer, ThreadPoolExecutor() as executor:
        writer.execute("INSERT INTO events VALUES ('2025-05-05', 'before')")
        database.execute(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE ONLY {chunk}".encode())
        syncing = executor.submit(followed.sync, *TABLES)
        time.sleep(0.5)
        assert not syncing.done()
        writer.execute("INSERT INTO events VALUES ('2025-05-05', 'after')")
        writer.commit()
        ended = syncing.result()

    assert sorted(row["what"] for row in ended.rows("events")) == ["after", "before", "makes the chunk"]
    followed.mirrors(*TABLES)


def publish_chunks_at_birth(database: Database) -> None:
    """Let the server publish the chunks that are born from now on; skip where it cannot."""
    if tuple(map(int, database.cluster.timescaledb.split(".")[:2])) < AUTO_PUBLICATION:
        pytest.skip("the server cannot publish chunks by itself")
    setting = sql.SQL("ALTER DATABASE {} SET timescaledb.enable_chunk_auto_publication = on")
    database.as_superuser().execute(setting.format(sql.Identifier(database.name)))
    database.disconnect()


def replace_chunks(database: Database) -> None:
    """Drop the chunks of a day and make others of the same range with the same keys."""
    for table in ("metrics", "events"):
        database.execute(
            "SELECT drop_chunks(%s, older_than => '2024-01-03'::timestamptz, newer_than => '2024-01-02'::timestamptz)",
            [table],
        )
    database.execute("INSERT INTO metrics SELECT time, device, 1000 + value, 'new' FROM day")
    database.execute("INSERT INTO events SELECT time, 'new ' || note FROM day")


@pytest.mark.parametrize("publisher", ["server", "connector"])
@pytest.mark.parametrize("moment", ["between syncs", "while changes are told", "in the first load"])
def test_sequence_05_a_chunk_that_was_dropped_and_made_again_has_the_last_word(
    followed: Followed, publisher: str, moment: str
) -> None:
    """Rows are changed, late in the log; their chunk is dropped, and another of the same range gets the same keys: what
    was told of the old chunk must not win against what is read of the new one.
    """
    database = followed.database
    if publisher == "server":
        publish_chunks_at_birth(database)
    fill(database)
    database.execute(
        "CREATE TABLE day AS SELECT * FROM metrics WHERE time >= '2024-01-02' AND time < '2024-01-03'"
    )
    followed.publish(*TABLES)
    update = partial(database.execute, "UPDATE metrics SET value = -1, note = 'old'")
    replace = partial(replace_chunks, database)
    if moment != "in the first load":
        followed.sync(*TABLES)
        update()
    if moment == "between syncs":
        replace()
    acts: dict[str, Acts] = {
        "between syncs": {},
        "while changes are told": {("RECORD", 1): replace},
        "in the first load": {("RECORD", 900): update, ("RECORD", 901): replace},
    }

    ended = followed.sync(*TABLES, acts=acts[moment])

    assert ended.failure is None, (ended.errors, ended.logged)
    followed.mirrors("metrics", "parts")
    told = [row["what"] for row in ended.rows("events") if row["what"].startswith("new ")]
    assert sorted(told) == sorted(row[0] for row in database.rows("SELECT 'new ' || note FROM day"))
    assert ("chunks were added" not in "".join(ended.logged)) == (publisher == "server")


@pytest.mark.parametrize("record", [1, 150, 301, 450])
def test_sequence_06_rows_that_a_killed_sync_told_and_that_were_deleted_since_are_deleted(
    followed: Followed, record: int
) -> None:
    """Rows are printed and kept, the sync is killed before their STATE; they are deleted before the next one."""
    database = followed.database
    fill(database)
    followed.publish(*TABLES)
    followed.sync("metrics", "parts", acts={("RECORD", record): kill})
    database.execute("DELETE FROM metrics WHERE device < 4")
    database.execute("DELETE FROM parts WHERE id < 100")

    ended = followed.sync("metrics", "parts")

    assert ended.failure is None, (ended.errors, ended.logged)
    followed.mirrors("metrics", "parts")


def test_sequence_07_no_fence_is_written_while_a_slice_is_in_flight(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two slices are read, and the first of them is told; T writes to the second one, which does not see it; the round
    ends. A drain that settled T's changes now, as those of a slice not read yet, would lose them.
    """
    monkeypatch.setattr("source_timescaledb.airbyte.following.ROUND_SECONDS", ROUND_SECONDS)
    # the server does not crash here, and the last thing that a reader does is to read its slice
    monkeypatch.setattr("source_timescaledb.snapshot.slice_reader.make_durable", lambda _connection: None)
    followed.settings["parallel_chunks"] = 1
    database = followed.database
    fill(database, days=2)
    followed.publish("metrics", "events")
    last = database.value("SELECT show_chunks('events', newer_than => '2024-01-02'::timestamptz)::text")

    def write() -> None:
        until(lambda: has_read(database, last))
        database.execute("INSERT INTO events VALUES ('2024-01-02 12:00', 'of T')")
        time.sleep(ROUND_SECONDS)

    ended = followed.sync("events", "metrics", acts={("RECORD", 1): write})

    assert ended.failure is None, (ended.errors, ended.logged)
    followed.mirrors("events", "metrics")
    assert ended.rows("events")[-1]["what"] == "of T"


def has_read(database: Database, chunk: str) -> bool:
    """Whether the last thing that a reader of the connector has done was to read a chunk."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' AND datname = %s AND query LIKE %s"
    name = chunk.rpartition(".")[2]
    found = database.as_superuser().execute(asked, [database.name, f"BEGIN%LOCK TABLE%{name}%"]).fetchone()
    return found == (1,)
