"""The connector's watcher as the server sees it: when it has looked, and its end."""

from __future__ import annotations

import time
from collections.abc import Callable

from testkit.database import Database

WAITING_SECONDS = 30.0
_WATCHERS = "datname = current_database() AND application_name LIKE 'source-timescaledb watcher'"
_LOOKED = (
    f"SELECT count(*) > 0 FROM pg_stat_activity WHERE {_WATCHERS} AND state = 'idle'"
    " AND position('max(id)' IN query) > 0 AND query_start > %s"
)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that will come."""
    end = time.monotonic() + WAITING_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def await_look(database: Database, *, after: Callable[[], object] = lambda: None) -> None:
    """Do something and wait until the watcher has looked, from now on."""
    superuser = database.as_superuser()
    now = superuser.execute("SELECT clock_timestamp()").fetchone()
    after()
    until(lambda: superuser.execute(_LOOKED.encode(), now).fetchone() == (True,))


def is_waiting(database: Database) -> bool:
    """Whether the watcher has looked and not begun to look again."""
    return database.as_superuser().execute(_LOOKED.encode(), ["-infinity"]).fetchone() == (True,)


def terminate(database: Database) -> None:
    """End the watcher's session."""
    database.as_superuser().execute(
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {_WATCHERS}".encode()
    )
