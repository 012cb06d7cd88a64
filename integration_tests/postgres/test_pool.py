from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from source_timescaledb.config import read_configuration
from source_timescaledb.errors import ConfigurationError, TransientError
from source_timescaledb.postgres.connection import ConnectionSettings
from source_timescaledb.postgres.pool import ReaderPool
from testkit.database import Database

pytestmark = pytest.mark.any_server


def pool(database: Database, size: int, *, password: str | None = None, seconds: float = 5.0) -> ReaderPool:
    configuration, _ = read_configuration(database.config(password=password or database.passwords["reader"]))
    return ReaderPool(ConnectionSettings.from_configuration(configuration), size, patience_seconds=seconds)


def backends(database: Database) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'source-timescaledb reader'"
    row = database.as_superuser().execute(query).fetchone()
    assert row is not None
    return int(row[0])


def test_nothing_is_opened_before_it_is_needed(database: Database) -> None:
    with pool(database, 2):
        assert backends(database) == 0


def test_one_connection_is_used_again(database: Database) -> None:
    with pool(database, 2) as readers:
        with readers.connection() as first:
            one = first.info.backend_pid
        with readers.connection() as second:
            other = second.info.backend_pid

    assert one == other


def test_readers_never_have_more_connections_than_allowed(database: Database) -> None:
    most = 0
    lock = threading.Lock()
    with pool(database, 2, seconds=20) as readers:

        def read() -> None:
            nonlocal most
            with readers.connection() as connection:
                connection.execute("SELECT pg_sleep(0.1)")
                with lock:
                    most = max(most, backends(database))

        in_threads(6, read)

    assert most == 2


def test_a_connection_that_died_in_the_pool_is_not_lent(database: Database) -> None:
    with pool(database, 1) as readers:
        with readers.connection() as first:
            dead = first.info.backend_pid
        database.as_superuser().execute("SELECT pg_terminate_backend(%s, 5000)", [dead])

        with readers.connection() as second:
            assert second.info.backend_pid != dead
            assert second.execute("SELECT 1").fetchone() == (1,)


def test_a_transaction_left_open_is_rolled_back(database: Database) -> None:
    with pool(database, 1) as readers:
        with readers.connection() as first:
            first.execute("BEGIN")
        with readers.connection() as second:
            status = second.info.transaction_status

    assert status is psycopg.pq.TransactionStatus.IDLE


def test_a_connection_that_comes_back_after_the_end_is_closed(database: Database) -> None:
    readers = pool(database, 1)

    with readers.connection() as lent:
        readers.close()
        open_while_lent = not lent.closed

    assert open_while_lent
    assert lent.closed


def test_a_closed_pool_opens_nothing_any_more(database: Database) -> None:
    readers = pool(database, 1)
    readers.close()

    with pytest.raises(TransientError, match="were closed"), readers.connection():
        pass


def test_a_failed_query_leaves_a_working_connection_behind(database: Database) -> None:
    with pool(database, 1) as readers:
        with readers.connection() as first:
            first.execute("BEGIN")
            with pytest.raises(psycopg.errors.DivisionByZero):
                first.execute("SELECT 1 / 0")
        with readers.connection() as second:
            again = second is first

    assert again


def test_a_place_is_free_again_after_a_connection_could_not_be_opened(database: Database) -> None:
    with pool(database, 1, password="canary", seconds=0.1) as readers:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="SQLSTATE 28P01"), readers.connection():
                pass


def test_a_wrong_password_is_told_as_such_and_not_as_a_timeout(database: Database) -> None:
    with (
        pool(database, 1, password="canary", seconds=1) as readers,
        pytest.raises(ConfigurationError, match="SQLSTATE 28P01"),
        readers.connection(),
    ):
        pass


def test_too_many_connections_are_told_as_such_and_not_as_a_timeout(database: Database) -> None:
    database.as_superuser().execute(
        sql.SQL("ALTER ROLE {} CONNECTION LIMIT 1").format(sql.Identifier(database.reader))
    )
    with (
        pool(database, 2, seconds=1) as readers,
        readers.connection(),
        pytest.raises(TransientError, match="SQLSTATE 53300"),
        readers.connection(),
    ):
        pass


def test_a_wait_for_lent_connections_says_so(database: Database) -> None:
    with (
        pool(database, 1, seconds=0.2) as readers,
        readers.connection(),
        pytest.raises(TransientError, match="No connection of 1 for the reader became free"),
        readers.connection(),
    ):
        pass


def in_threads(count: int, action: Callable[[], None]) -> None:
    threads = [threading.Thread(target=action) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
