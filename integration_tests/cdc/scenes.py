"""What the sequences of events are made of: waiting for each other, kills, commits that stay invisible."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import psycopg
from airbyte_cdk.utils.traced_exception import AirbyteTracedException

from testkit.database import Database

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


def blocked(database: Database, connection: psycopg.Connection, by: psycopg.Connection) -> Callable[[], bool]:
    """Whether a session waits for another one."""

    def condition() -> bool:
        pids = [by.info.backend_pid, connection.info.backend_pid]
        return database.as_superuser().execute("SELECT %s = ANY(pg_blocking_pids(%s))", pids).fetchone() == (
            True,
        )

    return condition


def begun(connection: psycopg.Connection) -> None:
    """Give a transaction its id."""
    connection.execute("SELECT pg_current_xact_id()")


@contextmanager
def standby_that_never_answers(database: Database) -> Iterator[None]:
    """Commits are in the log at once and invisible for ever, unless they ask not to wait."""
    superuser = database.as_superuser()

    def set_name(name: str) -> None:
        superuser.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'".encode())
        superuser.execute("SELECT pg_reload_conf()")
        until(lambda: superuser.execute("SHOW synchronous_standby_names").fetchone() == (name,))

    set_name("nobody")
    try:
        yield
    finally:
        set_name("")


@contextmanager
def committed_late(
    database: Database, *statements: str, seconds: float = 0.5
) -> Iterator[Callable[[], None]]:
    """An act that commits statements which stay invisible for so long: no standby answers, from then on."""
    with closing(database.connect()) as writer, ThreadPoolExecutor() as executor, ExitStack() as stack:

        def commit() -> None:
            stack.enter_context(standby_that_never_answers(database))
            for statement in statements:
                writer.execute(statement.encode())
            executor.submit(writer.commit)
            until(waits(database, writer, "SyncRep"))
            timer = threading.Timer(seconds, give_up)
            stack.callback(timer.cancel)
            timer.start()

        def give_up() -> None:
            with database.cluster.connect() as connection:
                connection.execute("SELECT pg_cancel_backend(%s)", [writer.info.backend_pid])

        yield commit
