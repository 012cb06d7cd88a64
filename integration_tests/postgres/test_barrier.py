"""Barriers wait for those who write and for nobody else, and fences and start positions need few rights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from integration_tests.postgres.test_connection import settings
from source_timescaledb.errors import ConfigurationError, TransientError
from source_timescaledb.postgres.barrier import (
    commit_catalog_change,
    emit_fence,
    insert_position,
    open_writers,
    start_position,
    xmin_barrier,
)
from source_timescaledb.postgres.connection import Connection, Session, open_connection
from testkit.cluster import Cluster
from testkit.database import Database
from testkit.roots import Root
from testkit.server import Server


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    database.grant_replication()
    with open_connection(settings(database), "test", Session.WRITING) as opened:
        yield opened


@pytest.fixture
def writer(database: Database) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A transaction of the application that has written and is still open."""
    database.execute("CREATE TABLE public.t (a int)")
    with database.connect() as opened:
        opened.execute("INSERT INTO public.t VALUES (1)")
        yield opened


def never(_: float) -> None:
    pytest.fail("there was nobody to wait for")


def test_the_barrier_does_not_wait_for_readers(database: Database, connection: Connection) -> None:
    database.execute("CREATE TABLE public.t (a int)")
    with database.connect() as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM public.t")

        xmin_barrier(connection, seconds=5, clock=time.monotonic, sleep=never)


def test_the_barrier_waits_until_an_open_writer_ends(
    connection: Connection, writer: psycopg.Connection[tuple[Any, ...]]
) -> None:
    naps = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            writer.commit()

    xmin_barrier(connection, seconds=60, clock=time.monotonic, sleep=nap)

    assert len(naps) >= 3


def test_the_barrier_does_not_wait_for_those_who_came_later(
    database: Database, connection: Connection, writer: psycopg.Connection[tuple[Any, ...]]
) -> None:
    with database.connect() as later:

        def nap(_: float) -> None:
            later.execute("INSERT INTO public.t VALUES (2)")
            writer.commit()

        xmin_barrier(connection, seconds=60, clock=time.monotonic, sleep=nap)

        assert later.info.backend_pid in [one.pid for one in open_writers(connection)]


def test_a_barrier_that_takes_too_long_names_the_writer(
    database: Database, connection: Connection, writer: psycopg.Connection[tuple[Any, ...]]
) -> None:
    with pytest.raises(TransientError) as caught:
        xmin_barrier(connection, seconds=0.2, clock=time.monotonic, sleep=time.sleep)

    assert f"process {writer.info.backend_pid} (role {database.owner} in database {database.name}" in str(
        caught.value
    )


def test_a_writer_in_another_database_holds_the_barrier_and_is_named(
    server: Cluster, connection: Connection
) -> None:
    with server.database(extension=False) as other, other.connect() as writer:
        writer.execute("CREATE TABLE public.t (a int)")

        with pytest.raises(TransientError, match=f"process {writer.info.backend_pid} .* {other.name}"):
            xmin_barrier(connection, seconds=0.2, clock=time.monotonic, sleep=time.sleep)


def test_how_long_a_transaction_is_open_is_told_where_the_role_may_see_it(
    database: Database, connection: Connection, writer: psycopg.Connection[tuple[Any, ...]]
) -> None:
    (unseen,) = [one for one in open_writers(connection) if one.pid == writer.info.backend_pid]
    database.as_superuser().execute(
        sql.SQL("GRANT pg_read_all_stats TO {}").format(sql.Identifier(database.reader))
    )
    (seen,) = [one for one in open_writers(connection) if one.pid == writer.info.backend_pid]

    assert unseen.seconds is None
    assert seen.seconds is not None
    assert "open for" in str(seen)


def test_a_prepared_transaction_holds_the_barrier_and_is_named(root: Root) -> None:
    with Server(root, settings={"max_prepared_transactions": 2}) as server, server.database() as database:
        database.execute("CREATE TABLE public.t (a int)")
        with database.connect() as writer:
            writer.execute("INSERT INTO public.t VALUES (1)")
            writer.execute("PREPARE TRANSACTION 'forgotten'")
        with open_connection(settings(database), "test", Session.WRITING) as connection:
            with pytest.raises(TransientError, match=f"'forgotten' .*{database.name}"):
                xmin_barrier(connection, seconds=0.2, clock=time.monotonic, sleep=time.sleep)
            database.execute("ROLLBACK PREPARED 'forgotten'")

            xmin_barrier(connection, seconds=60, clock=time.monotonic, sleep=time.sleep)


@contextmanager
def standby_that_never_answers(server: Server) -> Iterator[None]:
    """Commits wait for ever, unless they ask not to."""

    def set_name(name: str) -> None:
        with server.connect() as superuser:
            superuser.execute("SET synchronous_commit = local")
            superuser.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'".encode())
            superuser.execute("SELECT pg_reload_conf()")
            while superuser.execute("SHOW synchronous_standby_names").fetchone() != (name,):
                time.sleep(0.02)

    set_name("nobody")
    try:
        yield
    finally:
        set_name("")


def test_fence_and_start_do_not_wait_for_a_standby_that_never_answers(root: Root) -> None:
    # Without TimescaleDB, whose jobs would write, wait for the standby and so hold the barrier.
    with Server(root) as server, server.database(extension=False) as database:
        database.grant_replication()
        with (
            open_connection(settings(database), "test", Session.WRITING) as connection,
            standby_that_never_answers(server),
        ):
            start = start_position(connection, seconds=5, clock=time.monotonic, sleep=time.sleep)
            fence = emit_fence(connection, "here")
            after = connection.execute("SHOW synchronous_commit").fetchone()

    assert start < fence
    assert after == ("local",)


def test_a_fence_is_flushed_when_it_is_written(connection: Connection) -> None:
    connection.execute("SET synchronous_commit = off")

    fence = emit_fence(connection, "it's 100 % here")

    row = connection.execute("SELECT pg_current_wal_flush_lsn() > %s::pg_lsn", [str(fence)]).fetchone()
    assert row == (True,)


def test_the_start_position_comes_after_writers_that_were_open(
    connection: Connection, writer: psycopg.Connection[tuple[Any, ...]]
) -> None:
    committed = []

    def nap(_: float) -> None:
        writer.commit()
        committed.append(insert_position(connection))

    start = start_position(connection, seconds=60, clock=time.monotonic, sleep=nap)

    assert start >= committed[0]


def test_a_role_without_temporary_tables_changes_the_catalog_in_another_way(
    database: Database, connection: Connection
) -> None:
    database.as_superuser().execute(
        sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM {}").format(
            sql.Identifier(database.name), sql.Identifier(database.reader)
        )
    )
    before = insert_position(connection)

    commit_catalog_change(connection)

    assert insert_position(connection) > before
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert database.value("SELECT count(*) FROM pg_largeobject_metadata") == 0


def test_a_role_that_may_change_nothing_is_told_what_to_grant(
    database: Database, connection: Connection
) -> None:
    database.as_superuser().execute(
        sql.SQL(
            "REVOKE TEMPORARY ON DATABASE {} FROM {}; REVOKE EXECUTE ON FUNCTION lo_create(oid) FROM PUBLIC"
        ).format(sql.Identifier(database.name), sql.Identifier(database.reader))
    )

    with pytest.raises(ConfigurationError, match="GRANT TEMPORARY ON DATABASE"):
        commit_catalog_change(connection)
