"""What the sequences of events are made of: waiting for each other, kills, commits that stay invisible."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

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


def begun(connection: psycopg.Connection) -> None:
    """Give a transaction its id."""
    connection.execute("SELECT pg_current_xact_id()")


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
