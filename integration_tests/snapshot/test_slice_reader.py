"""One message to the server reads one slice; however it ends, the connection is ready for the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import pq, sql
from psycopg.pq import TransactionStatus

from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.postgres import streaming
from source_timescaledb.snapshot.held import HeldRows, LineFormat
from source_timescaledb.snapshot.query import Fingerprint, SliceQuery
from source_timescaledb.snapshot.slice_reader import (
    Limits,
    SliceChanged,
    SliceOverran,
    SliceRead,
    SliceReader,
)
from testkit.database import Database

FORMAT = LineFormat(QualifiedName("public", "metrics"), 0)
STEADY = "SELECT 7::int8, 0, NULL::int8, NULL::int8, 7::int8, 0, NULL::int8, pg_current_snapshot()::text"
CHANGING = "SELECT 7::int8, 0, NULL::int8, NULL::int8, 8::int8, 0, NULL::int8, pg_current_snapshot()::text"
SAME = "SELECT 7::int8, 0, NULL::int8"
OTHER = "SELECT 9::int8, 0, NULL::int8"


@pytest.fixture
def connection(database: Database) -> Iterator[psycopg.Connection]:
    database.execute("CREATE TABLE metrics (number int)")
    database.grant_select("metrics")
    with psycopg.connect(database.conninfo("reader"), autocommit=True) as opened:
        yield opened


def query(rows: str, *, fingerprint: Fingerprint | None = None, locked: bool = False) -> SliceQuery:
    locks = (QualifiedName("public", "metrics"),) if locked else ()
    return SliceQuery(sql.SQL("{}").format(sql.SQL(rows)), locks, fingerprint)


def numbers(count: int) -> SliceQuery:
    return query(f"SELECT i::text FROM generate_series(1, {count}) AS i")


def read(
    connection: psycopg.Connection,
    asked: SliceQuery,
    *,
    seconds: float | None = 5.0,
    rows_at_once: int = 100,
) -> SliceRead:
    released: list[HeldRows] = []
    reading = SliceReader(connection, time.monotonic)
    read = reading.read(asked, FORMAT, Limits(seconds, rows_at_once), released.append)
    assert released == []
    return read


def is_ready(connection: psycopg.Connection) -> bool:
    idle = connection.info.transaction_status is TransactionStatus.IDLE
    return idle and read(connection, numbers(3)).rows.rows == 3


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("rows_at_once", [1, 7, 1000])
def test_rows_come_complete_and_in_order_however_many_are_taken_at_once(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, rows_at_once: int, chunked: bool
) -> None:
    if chunked and not streaming.CHUNKED:
        pytest.skip(f"libpq {pq.version()} hands over single rows only")
    monkeypatch.setattr(streaming, "CHUNKED", chunked)

    result = read(connection, numbers(2000), rows_at_once=rows_at_once)

    expected = FORMAT.lines([str(number).encode() for number in range(1, 2001)])
    assert b"".join(result.rows.pieces()) == expected
    assert result.rows.rows == 2000
    assert is_ready(connection)


def test_no_rows_are_a_slice_too(connection: psycopg.Connection) -> None:
    result = read(connection, numbers(0))

    assert (result.rows.rows, list(result.rows.pieces())) == (0, [])


def test_the_snapshot_of_a_proved_slice_is_known(connection: psycopg.Connection) -> None:
    result = read(connection, query("SELECT '1'", fingerprint=Fingerprint(STEADY, SAME, None)))

    assert result.rows.rows == 1
    assert result.snapshot.count(":") == 2


@pytest.mark.parametrize(
    "fingerprint",
    [
        pytest.param(Fingerprint(CHANGING, SAME, None), id="while it begins"),
        pytest.param(Fingerprint(STEADY, OTHER, None), id="while it is read"),
        pytest.param(Fingerprint(STEADY, SAME, 5), id="since its relation was looked up"),
    ],
)
def test_a_chunk_that_changes_is_not_read(connection: psycopg.Connection, fingerprint: Fingerprint) -> None:
    many = "SELECT repeat('x', 1000) FROM generate_series(1, 5000)"

    with pytest.raises(SliceChanged):
        read(connection, query(many, fingerprint=fingerprint))

    assert is_ready(connection)


def test_a_slice_that_grows_too_large_is_given_up_at_once(connection: psycopg.Connection) -> None:
    endless = "SELECT repeat('x', 100000) FROM generate_series(1, 1000000)"
    started = time.monotonic()

    with pytest.raises(SliceOverran) as overrun:
        read(connection, query(endless), seconds=60)

    assert not overrun.value.by_time
    assert time.monotonic() - started < 10
    assert is_ready(connection)


def test_a_slice_that_outlives_its_deadline_is_given_up(connection: psycopg.Connection) -> None:
    started = time.monotonic()

    with pytest.raises(SliceOverran) as overrun:
        read(connection, query("SELECT pg_sleep(60)::text"), seconds=0.2)

    assert overrun.value.by_time
    assert time.monotonic() - started < 5
    assert is_ready(connection)


def test_a_query_cancelled_before_its_deadline_did_not_overrun(connection: psycopg.Connection) -> None:
    cancel = threading.Timer(0.2, connection.cancel_safe)
    cancel.start()

    with pytest.raises(psycopg.errors.QueryCanceled):
        read(connection, query("SELECT pg_sleep(60)::text"), seconds=30)

    cancel.join()
    assert is_ready(connection)


def test_who_holds_the_chunk_goes_first(connection: psycopg.Connection, database: Database) -> None:
    started = time.monotonic()
    with database.connect() as other:
        other.execute("LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE")

        with pytest.raises(psycopg.errors.LockNotAvailable):
            read(connection, query("SELECT '1'", locked=True), seconds=1.0)

        assert time.monotonic() - started < 1.0
    assert is_ready(connection)


def test_an_error_among_the_rows_leaves_nothing_behind(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        read(connection, query("SELECT (1 / (i - 5000))::text FROM generate_series(1, 9000) AS i"))

    assert is_ready(connection)


def test_a_lost_connection_is_one(connection: psycopg.Connection, database: Database) -> None:
    pid = connection.info.backend_pid
    kill = threading.Timer(
        0.2, lambda: database.as_superuser().execute("SELECT pg_terminate_backend(%s)", [pid])
    )
    kill.start()

    with pytest.raises(psycopg.OperationalError):
        read(connection, query("SELECT pg_sleep(60)::text"), seconds=30)

    kill.join()
    assert connection.closed
