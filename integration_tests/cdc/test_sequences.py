"""Sequences of events that broke a prototype of the hand-over between snapshot and stream, each found by random runs.

The number in a docstring is the hole's in the list of those that the trial runs found.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg
import pytest
from airbyte_cdk.utils.traced_exception import AirbyteTracedException

from integration_tests.cdc.conftest import PUBLICATION, Followed, fill, make_tables
from testkit.database import Database
from testkit.roots import Root
from testkit.server import Server

TABLES = ("metrics", "events", "parts")
WAITING_SECONDS = 30.0


class Killed(AirbyteTracedException):
    """Raised where a sync is to end without another word."""


def kill() -> None:
    raise Killed


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that will come."""
    end = time.monotonic() + WAITING_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def waits(database: Database, connection: psycopg.Connection, event: str) -> Callable[[], bool]:
    """Whether a session waits for something."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = %s"

    def condition() -> bool:
        row = database.as_superuser().execute(asked, [connection.info.backend_pid, event]).fetchone()
        return row == (1,)

    return condition


def begun(connection: psycopg.Connection) -> None:
    """Give a transaction its id."""
    connection.execute("SELECT pg_current_xact_id()")


def test_a_slot_made_while_a_chunk_is_born_can_be_decoded(followed: Followed) -> None:
    """1. T0 writes; the slot's creation waits for it; T1 begins; T0 makes a chunk under a savepoint and commits; the
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
        until(waits(database, maker, "transactionid"))
        begun(t1)
        t0.execute("SAVEPOINT here")
        t0.execute("INSERT INTO events VALUES ('2025-05-05', 'of T0')")
        t0.execute("RELEASE here")
        t0.commit()
        until(waits(database, maker, "transactionid"))
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


def test_a_change_written_before_a_slice_was_read_and_committed_after_it_wins(followed: Followed) -> None:
    """2. T updates rows; their slice is read, and does not see it; T commits: in the log it stands before the slice."""
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
    metrics = ended.rows("metrics")
    assert {row["value"] for row in metrics} > {-1.0, 0.0}, "some were read before and told again"


def test_changes_of_one_key_win_in_the_order_of_commits(followed: Followed) -> None:
    """3. T1 inserts k; T2 inserts k and waits; T1 deletes k and commits; T2 commits: in the log T2's row stands before
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
        until(waits(database, t2, "transactionid"))
        t1.execute("DELETE FROM parts WHERE id = -1")
        t1.commit()
        inserted.result()
        t2.commit()

    ended = followed.sync(*TABLES)

    assert [row["note"] for row in ended.rows("parts")] == ["of T1", None, "of T2"]
    followed.mirrors(*TABLES)


def test_a_chunk_that_somebody_else_published_is_not_read_before_its_writers_have_ended(
    followed: Followed,
) -> None:
    """4. L inserts into a chunk that is not published; somebody adds it and is killed; a sync starts; L inserts again and
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


@pytest.mark.parametrize("record", [1, 150, 301, 450])
def test_rows_that_a_killed_sync_told_and_that_were_deleted_since_are_deleted(
    followed: Followed, record: int
) -> None:
    """6. Rows are printed and kept, the sync is killed before their STATE; they are deleted before the next one."""
    database = followed.database
    fill(database)
    followed.publish(*TABLES)
    followed.sync("metrics", "parts", acts={("RECORD", record): kill})
    database.execute("DELETE FROM metrics WHERE device < 4")
    database.execute("DELETE FROM parts WHERE id < 100")

    ended = followed.sync("metrics", "parts")

    assert ended.failure is None, (ended.errors, ended.logged)
    followed.mirrors("metrics", "parts")


@contextmanager
def committed_late(database: Database, *statements: str) -> Iterator[Callable[[], None]]:
    """An act that commits statements which stay invisible for half a second: no standby answers."""
    superuser = database.as_superuser()
    superuser.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    with closing(database.connect()) as writer, ThreadPoolExecutor() as executor:

        def commit() -> None:
            superuser.execute("SELECT pg_reload_conf()")
            until(lambda: superuser.execute("SHOW synchronous_standby_names").fetchone() == ("nobody",))
            for statement in statements:
                writer.execute(statement.encode())
            executor.submit(writer.commit)
            until(waits(database, writer, "SyncRep"))
            threading.Timer(0.5, give_up).start()

        def give_up() -> None:
            with database.cluster.connect() as connection:
                connection.execute("SELECT pg_cancel_backend(%s)", [writer.info.backend_pid])

        try:
            yield commit
        finally:
            superuser.execute("ALTER SYSTEM RESET synchronous_standby_names")
            superuser.execute("SELECT pg_reload_conf()")


@pytest.fixture
def delayed(root: Root) -> Iterator[Followed]:
    """A database of a server of its own, with the settings of which other tests would suffer."""
    with Server(root) as server, server.database() as database:
        make_tables(database)
        yield Followed(database, f"slot_{database.name}")


def test_a_slice_is_read_again_until_it_sees_what_the_stream_has_shown(delayed: Followed) -> None:
    """8c. A commit waits for a standby: it is decoded, as a change of rows not read yet, and no snapshot sees it."""
    fill(delayed.database)
    delayed.publish(*TABLES)
    late = "INSERT INTO events VALUES ('2024-01-02 12:34:56', 'late')"
    with committed_late(delayed.database, late) as commit:
        ended = delayed.sync(*TABLES, acts={("STATE", 1): commit})

    assert ended.failure is None, (ended.errors, ended.logged)
    delayed.mirrors(*TABLES)


def test_a_large_value_is_looked_up_where_its_transaction_is_seen(delayed: Followed) -> None:
    """8d. T sets a large value, then updates another column, and its commit waits for a standby: what is looked up must
    be T's value, not the one before.
    """
    database = delayed.database
    database.execute("ALTER TABLE metrics ALTER COLUMN note SET STORAGE EXTERNAL")
    fill(database)
    database.execute("UPDATE metrics SET note = repeat('old', 3000) WHERE device = 3")
    delayed.publish(*TABLES)
    delayed.sync(*TABLES)
    with committed_late(
        database,
        "UPDATE metrics SET note = repeat('new', 3000) WHERE device = 3",
        "UPDATE metrics SET value = -1 WHERE device = 3",
    ) as commit:
        ended = delayed.sync(*TABLES, acts={("STATE", 1): commit})

    assert ended.failure is None, (ended.errors, ended.logged)
    assert {row["note"] for row in ended.rows("metrics")} == {"new" * 3000}
    delayed.mirrors(*TABLES)


def test_a_truncate_before_the_slices_are_read_clears_nothing_that_is_new(followed: Followed) -> None:
    """10. The root is truncated and filled anew before its slices are read: they hold the new rows, which stay."""
    database = followed.database
    fill(database)
    followed.publish(*TABLES)

    def truncate() -> None:
        database.execute("TRUNCATE events")
        database.execute("INSERT INTO events VALUES ('2024-01-02', 'new'), ('2024-01-02', 'new')")

    ended = followed.sync(*TABLES, acts={("STATE", 1): truncate})

    assert ended.failure is None, (ended.errors, ended.logged)
    assert not [line for line in ended.logged if "TRUNCATE" in line]
    followed.mirrors(*TABLES)


def test_a_truncate_of_rows_that_were_told_is_told_once_and_what_follows_arrives(followed: Followed) -> None:
    """10. The root is truncated after its rows were read: its keys cannot be listed, so a warning says it."""
    database = followed.database
    fill(database)
    followed.publish(*TABLES)
    followed.sync(*TABLES)
    database.execute("TRUNCATE metrics")
    database.execute("INSERT INTO metrics VALUES ('2024-01-02 12:34:56', 77, 1, 'new')")

    ended = followed.sync(*TABLES)

    assert [row["note"] for row in ended.rows("metrics")] == ["new"]
    assert len([line for line in ended.logged if "public.metrics" in line and "TRUNCATE" in line]) == 1
    followed.mirrors("events", "parts")


def test_a_destination_that_does_not_listen_does_not_cost_the_connection(followed: Followed) -> None:
    """12. Nobody takes the connector's output for longer than `wal_sender_timeout`, so it reads no keepalive either."""
    database = followed.database
    fill(database)
    followed.publish(*TABLES)
    database.as_superuser().execute(f"ALTER ROLE \"{database.owner}\" SET wal_sender_timeout = '2s'".encode())

    ended = followed.sync(*TABLES, acts={("STATE", 1): lambda: time.sleep(5)})

    assert ended.failure is None, (ended.errors, ended.logged)
    assert not [line for line in ended.logged if "goes on from" in line]
    followed.mirrors(*TABLES)
