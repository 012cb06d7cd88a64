"""What a crash of the server takes back was never told, and what takes its place is.

A transaction that commits asynchronously is visible at once, and in the log on disk a little later. If the server
crashes in between, it has never been, and its id is given to another one; and so, often, is whatever number its rows
had. A slice, or a cursor, that has seen the first must not make the second one look as if it had been read.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from integration_tests.cdc.conftest import Followed, fill, make_tables
from integration_tests.cdc.scenes import until
from integration_tests.inprocess import InProcess
from testkit.database import Database
from testkit.roots import Root
from testkit.server import Server

pytestmark = pytest.mark.any_server

DAYS = 200
LAST = "2024-07-18 12:00+00"


@pytest.fixture
def server(root: Root) -> Iterator[Server]:
    """A server that waits for the disk where it is asked to; `database` is one of its own."""
    with Server(root, fsync=True, settings={"autovacuum": "off"}) as own:
        yield own


def test_what_a_crash_takes_back_is_not_told_and_what_takes_its_place_is(
    server: Server, database: Database
) -> None:
    make_tables(database)
    fill(database, days=DAYS, rows=DAYS)
    followed = Followed(database, f"slot_{database.name}", settings={"parallel_chunks": 1})
    followed.publish("metrics")

    def commit() -> None:
        commit_in_memory(server, database, f"INSERT INTO metrics VALUES ('{LAST}', 100, 1, 'in memory only')")

    def lose_it() -> None:
        crash(server, database)
        database.execute("INSERT INTO metrics VALUES (%s, 101, 1, 'in its place')", [LAST])

    told = followed.sync("metrics", acts={("RECORD", 1): commit, ("RECORD", DAYS + 1): lose_it})

    assert told.failure is None
    assert "in its place" in {row["note"] for row in told.rows("metrics")}
    followed.mirrors("metrics")


def test_a_cursor_stands_at_no_value_that_a_crash_takes_back(server: Server, database: Database) -> None:
    database.execute("CREATE TABLE parts (number int NOT NULL, note text)")
    database.execute("INSERT INTO parts SELECT i, 'before' FROM generate_series(1, 10) i")
    database.grant_select("parts")
    source = InProcess(database.config())
    catalog = source.catalog("incremental", parts="number")
    commit_in_memory(server, database, "INSERT INTO parts VALUES (11, 'at first in memory only')")

    first = source.read(catalog)
    crash(server, database)
    database.execute("INSERT INTO parts VALUES (11, 'with the same number')")
    second = source.read(catalog, first.state())

    assert (first.failure, second.failure) == (None, None)
    told = {row["note"] for row in (*first.rows("parts"), *second.rows("parts"))}
    assert told == {note for (note,) in database.rows("SELECT note FROM parts")}


def test_a_cursor_asks_no_more_of_a_role_than_it_may(server: Server, database: Database) -> None:
    database.execute("CREATE TABLE parts (number int NOT NULL)")
    database.grant_select("parts")
    for (function,) in database.rows(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE proname = 'pg_logical_emit_message'"
    ):
        database.as_superuser().execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC".encode())
    source = InProcess(database.config())
    catalog = source.catalog("incremental", parts="number")
    commit_in_memory(server, database, "INSERT INTO parts VALUES (1)")

    read = source.read(catalog)
    server.signal_backend(walwriter(server), signal.SIGCONT)  # or the database is never dropped

    assert read.failure is None
    assert read.rows("parts") == [{"number": 1}]


def commit_in_memory(server: Server, database: Database, statement: str) -> None:
    """Commit what is in the log, and not on disk until somebody waits for that."""
    suspend_the_walwriter(server)
    database.execute("SET synchronous_commit = off")
    database.execute(statement.encode())


def crash(server: Server, database: Database) -> None:
    """Crash the server, which loses what it has in memory only, and wait until it is back."""
    database.disconnect()
    server.signal_backend(walwriter(server), signal.SIGKILL)
    until(lambda: not server.address.answers())
    until(server.address.answers)


def walwriter(server: Server) -> int:
    (pid, _) = _of_the_walwriter(server)
    return pid


def suspend_the_walwriter(server: Server) -> None:
    """From now on the log is flushed by those alone who wait for it. In its sleep: else it might hold a lock for ever."""
    asleep = False
    while not asleep:
        server.signal_backend(walwriter(server), signal.SIGSTOP)
        pid, asleep = _of_the_walwriter(server)
        if not asleep:
            server.signal_backend(pid, signal.SIGCONT)


def _of_the_walwriter(server: Server) -> tuple[int, bool]:
    """Its process, and whether it has nothing to do."""
    with server.connect() as connection:
        row = connection.execute(
            "SELECT pid, wait_event IN ('WalWriterMain', 'WalwriterMain') FROM pg_stat_activity"
            " WHERE backend_type = 'walwriter'"
        ).fetchone()
    assert row is not None
    return row[0], bool(row[1])
