"""What a sync mends by itself, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from integration_tests.cdc.conftest import Followed, fill
from integration_tests.cdc.scenes import TABLES, begun, until
from integration_tests.inprocess import Ended
from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.connection import Connection
from testkit.database import Database

pytestmark = pytest.mark.any_server

BEGINS = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE database = current_database()"
"""Null until the slot is ready."""


def where_the_slot_begins(connection: Connection, **_: object) -> Lsn:
    """The start without its guard: the position at which the slot was ready."""
    row = connection.execute(BEGINS).fetchone()
    assert row is not None
    return Lsn.parse(row[0])


def making_waits_for(database: Database, pid: int) -> Callable[[], bool]:
    """Whether the making of a slot waits for a session."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE_REPLICATION_SLOT%%'"
        " AND datname = current_database() AND %s = ANY(pg_blocking_pids(pid))"
    )
    return lambda: database.as_superuser().execute(query, [pid]).fetchone() == (1,)


def sync_while_a_chunk_is_born(followed: Followed) -> Ended:
    """A first sync whose slot is made in the moment of which the server can never decode on (sequence 1)."""
    database = followed.database
    with (
        closing(database.connect()) as t0,
        closing(database.connect()) as t1,
        closing(database.connect()) as t2,
        ThreadPoolExecutor() as threads,
    ):
        begun(t0)
        syncing = threads.submit(followed.sync, *TABLES)
        until(making_waits_for(database, t0.info.backend_pid))
        begun(t1)
        t0.execute("SAVEPOINT here")
        t0.execute("INSERT INTO events VALUES ('2025-05-05', 'of T0')")
        t0.execute("RELEASE here")
        t0.commit()
        until(making_waits_for(database, t1.info.backend_pid))
        t2.execute("INSERT INTO events VALUES ('2025-05-05', 'of T2')")
        t1.commit()
        until(lambda: database.rows(BEGINS) not in ([], [(None,)]))
        t2.commit()
        return syncing.result(60)


def slots(database: Database) -> list[str]:
    return [name for (name,) in database.rows("SELECT slot_name::text FROM pg_replication_slots")]


def test_a_slot_of_this_sync_that_cannot_be_decoded_is_made_again_before_anything_is_told(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard of the start, which prevents such slots, is taken away."""
    monkeypatch.setattr("source_timescaledb.airbyte.ground.start_position", where_the_slot_begins)
    fill(followed.database)
    followed.settings["manage_publication"] = "full"

    ended = sync_while_a_chunk_is_born(followed)

    assert ended.failure is None, (ended.errors, ended.logged)
    (line,) = [line for line in ended.logged if "dropped and made again" in line]
    assert "SQLSTATE XX000" in line
    followed.mirrors(*TABLES)
    followed.database.execute("INSERT INTO events VALUES ('2025-05-05', 'later')")
    assert len(followed.sync(*TABLES).rows("events")) == 1


def test_a_slot_of_somebody_else_is_never_dropped(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("source_timescaledb.airbyte.ground.start_position", where_the_slot_begins)
    database = followed.database
    fill(database)
    followed.publish(*TABLES)
    followed.settings["manage_publication"] = "full"
    database.as_superuser().execute("SELECT pg_drop_replication_slot(%s)", [followed.slot])
    creation = "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')"
    with (
        closing(database.connect()) as t0,
        closing(database.connect()) as t1,
        closing(database.connect()) as t2,
        closing(database.connect("superuser")) as maker,
        ThreadPoolExecutor() as threads,
    ):
        begun(t0)
        made = threads.submit(maker.execute, creation, [followed.slot])
        until(lambda: waits_for(database, maker.info.backend_pid, t0.info.backend_pid))
        begun(t1)
        t0.execute("SAVEPOINT here")
        t0.execute("INSERT INTO events VALUES ('2025-05-05', 'of T0')")
        t0.execute("RELEASE here")
        t0.commit()
        until(lambda: waits_for(database, maker.info.backend_pid, t1.info.backend_pid))
        t2.execute("INSERT INTO events VALUES ('2025-05-05', 'of T2')")
        t1.commit()
        made.result()
        maker.commit()
        t2.commit()

    ended = followed.sync(*TABLES)

    assert [error["failure_type"] for error in ended.errors] == ["config_error"]
    assert "Drop the slot, make it again" in ended.errors[0]["message"]
    assert followed.slot in slots(database)


def waits_for(database: Database, waiting: int, blocker: int) -> bool:
    row = (
        database.as_superuser()
        .execute("SELECT %s = ANY(pg_blocking_pids(%s))", [blocker, waiting])
        .fetchone()
    )
    return row == (True,)
