"""Statements in one message, their rows as they come, and a connection that can be used again whatever happened."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from source_timescaledb.postgres import streaming
from source_timescaledb.postgres.streaming import break_off, stream
from testkit.database import Database


@pytest.fixture
def connection(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.conninfo("reader"), autocommit=True) as opened:
        yield opened


def sizes(connection: psycopg.Connection, message: bytes, rows_at_once: int = 100) -> list[int]:
    return [result.ntuples for result in stream(connection, message, rows_at_once)]


def test_every_statement_ends_with_a_result_without_rows(connection: psycopg.Connection) -> None:
    message = b"BEGIN; SELECT 1; SELECT 1 WHERE false; SELECT generate_series(1, 5); COMMIT"

    got = sizes(connection, message)

    assert got == ([0, 1, 0, 0, 5, 0, 0] if streaming.CHUNKED else [0, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0])


def test_a_message_larger_than_any_buffer_arrives_whole(connection: psycopg.Connection) -> None:
    text = b"x" * 20_000_000

    results = stream(connection, b"SELECT length('%b')" % text, 1)

    assert [result.get_value(0, 0) for result in results if result.ntuples] == [b"20000000"]


def test_the_rows_before_an_error_come_before_it(connection: psycopg.Connection) -> None:
    taken: list[int] = []
    results = stream(connection, b"SELECT generate_series(1, 300); SELECT 1 / 0", 100)

    with pytest.raises(psycopg.errors.DivisionByZero):
        taken.extend(result.ntuples for result in results)

    assert sum(taken) == 300
    assert sizes(connection, b"SELECT 1") == [1, 0]


def test_what_is_broken_off_leaves_the_connection_ready(connection: psycopg.Connection) -> None:
    results = stream(connection, b"SELECT generate_series(1, 100000000)", 10)
    next(results)

    break_off(connection)

    assert connection.info.transaction_status is TransactionStatus.IDLE
    assert sizes(connection, b"SELECT 1") == [1, 0]


def test_other_threads_go_on_while_the_server_thinks(connection: psycopg.Connection) -> None:
    beats = 0
    done = threading.Event()

    def beat() -> None:
        nonlocal beats
        while not done.wait(0.01):
            beats += 1

    other = threading.Thread(target=beat)
    other.start()
    try:
        sizes(connection, b"SELECT pg_sleep(0.5)")
    finally:
        done.set()
        other.join()

    assert beats > 5


def test_between_packets_it_naps_instead_of_waking_for_each(connection: psycopg.Connection) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        time.sleep(seconds)

    message = b"SELECT repeat('x', 100) FROM generate_series(1, 200000)"
    rows = sum(result.ntuples for result in stream(connection, message, 1000, sleep=nap))

    assert rows == 200_000
    assert naps[0] == 0.0
    assert set(naps[1:]) <= {streaming.NAP_SECONDS}


def test_a_connection_that_dies_is_an_operational_error(
    connection: psycopg.Connection, database: Database
) -> None:
    pid = connection.info.backend_pid
    kill = threading.Timer(
        0.2, lambda: database.as_superuser().execute("SELECT pg_terminate_backend(%s)", [pid])
    )
    kill.start()

    with pytest.raises(psycopg.OperationalError):
        list(stream(connection, b"SELECT 1; SELECT pg_sleep(60)", 1))
    kill.join()
