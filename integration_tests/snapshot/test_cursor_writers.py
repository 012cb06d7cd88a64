"""A cursor passes over no row of a transaction that was writing when it noted how far it goes."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg
import pytest

from integration_tests.cdc.scenes import until
from integration_tests.inprocess import Ended, InProcess
from testkit.database import Database

WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE '%virtualtransaction%' AND pid <> pg_backend_pid()
"""

WRITERS = 6
SYNCS = 8

MAKE = {
    "hypertable": "SELECT create_hypertable('metrics', 'time')",
    "table": "SELECT",
    "partitioned table": "SELECT",
}


def make(database: Database, kind: str) -> str:
    """`metrics`, with a row numbered 1; what to write to, which of a partitioned table is its partition."""
    divided = " PARTITION BY RANGE (number)" if kind == "partitioned table" else ""
    database.execute(f"CREATE TABLE metrics (time timestamptz NOT NULL, number int){divided}".encode())
    database.execute(MAKE[kind].encode())
    if divided:
        database.execute("CREATE TABLE low PARTITION OF metrics FOR VALUES FROM (0) TO (1000)")
    database.execute("INSERT INTO metrics VALUES ('2024-01-01', 1)")
    database.grant_select("metrics")
    return "low" if divided else "metrics"


@contextmanager
def under_way(
    database: Database, table: str, number: int, time: str = "2024-01-02"
) -> Iterator[psycopg.Connection]:
    """A transaction that has written a row and has not ended."""
    with closing(database.connect()) as writer:
        writer.execute(f"INSERT INTO {table} VALUES (%s, %s)".encode(), [time, number])
        yield writer


def sync(database: Database, state: Ended | None = None, *, stop_at: int = 0) -> Ended:
    """A sync, which is stopped when it has told so many rows."""
    source = InProcess(database.config(timescaledb={"parallel_chunks": 1}))
    catalog = source.catalog("incremental", metrics="number")
    ended = source.read(catalog, state.state() if state else None, {("RECORD", stop_at): source.stop})
    assert ended.failure is None
    return ended


def sync_while_writing(database: Database, writer: psycopg.Connection, *, stop_at: int = 0) -> Ended:
    """A sync that waits for a writer, who ends when it does."""
    with ThreadPoolExecutor(1) as thread:
        syncing = thread.submit(sync, database, stop_at=stop_at)
        until(lambda: database.as_superuser().execute(WAITING.encode()).fetchone() == (1,))
        writer.commit()
        return syncing.result()


def numbers(ended: Ended) -> set[int]:
    return {row["number"] for row in ended.rows("metrics")}


@pytest.mark.parametrize("kind", MAKE)
def test_a_row_that_was_being_written_below_the_highest_value_is_waited_for(
    database: Database, kind: str
) -> None:
    table = make(database, kind)
    with under_way(database, table, 2) as writer:
        database.execute("INSERT INTO metrics VALUES ('2024-01-02', 3)")
        first = sync_while_writing(database, writer)

    assert numbers(first) == {1, 2, 3}
    assert numbers(sync(database, first)) == set()


def test_a_row_that_was_waited_for_is_in_the_next_sync_if_one_is_stopped_before_it(
    database: Database,
) -> None:
    """It is in a chunk of its own, which was not there when chunks were listed."""
    make(database, "hypertable")
    with under_way(database, "metrics", 2, time="2024-12-31") as writer:
        database.execute("INSERT INTO metrics VALUES ('2024-01-02', 3)")
        first = sync_while_writing(database, writer, stop_at=2)

    assert numbers(first) == {1, 3}
    assert numbers(sync(database, first)) == {2}


@pytest.mark.parametrize("kind", MAKE)
def test_a_load_into_an_empty_table_that_was_waited_for_comes_once(database: Database, kind: str) -> None:
    table = make(database, kind)
    database.execute("DELETE FROM metrics")
    with under_way(database, table, 2) as writer:
        first = sync_while_writing(database, writer)
    second = sync(database, first)

    assert [*first.rows("metrics"), *second.rows("metrics")] == second.rows("metrics")
    assert numbers(second) == {2}
    assert numbers(sync(database, second)) == set()


@pytest.mark.any_server
def test_rows_of_many_writers_at_once_come_once_and_none_is_passed_over(database: Database) -> None:
    make(database, "hypertable")
    database.execute("CREATE SEQUENCE numbers START 2")
    ended = threading.Event()

    def write(seed: int) -> None:
        pauses = random.Random(seed)
        with closing(database.connect()) as writer:
            while not ended.wait(pauses.uniform(0, 0.01)):
                writer.execute(
                    "INSERT INTO metrics SELECT now(), nextval('numbers') FROM generate_series(1, 3)"
                )
                ended.wait(pauses.uniform(0, 0.3))
                writer.commit()

    syncs: list[Ended] = []
    with ThreadPoolExecutor(WRITERS) as threads:
        writing = [threads.submit(write, seed) for seed in range(WRITERS)]
        while len(syncs) < SYNCS:
            syncs.append(sync(database, syncs[-1] if syncs else None))
        ended.set()
        for one in writing:
            one.result()
    syncs.append(sync(database, syncs[-1]))

    told = sorted(row["number"] for one in syncs for row in one.rows("metrics"))
    assert told == [number for (number,) in database.rows("SELECT number FROM metrics ORDER BY 1")]


def test_a_writer_that_does_not_end_is_told_of_and_not_waited_for_any_longer(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("source_timescaledb.airbyte.opening.WRITERS_SECONDS", 0.2)
    make(database, "hypertable")
    with under_way(database, "metrics", 2):
        database.execute("INSERT INTO metrics VALUES ('2024-01-02', 3)")
        ended = sync(database)

    assert numbers(ended) == {1, 3}
    (warning,) = [line for line in ended.logged if "still open" in line]
    assert (
        "Transactions that write to public.metrics were waited for and are still open (1 of them)" in warning
    )
    assert "whose number is below" in warning


def test_who_writes_elsewhere_or_only_reads_is_not_waited_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("source_timescaledb.airbyte.opening.WRITERS_SECONDS", 1e9)
    make(database, "hypertable")
    database.execute("CREATE TABLE elsewhere (LIKE metrics)")
    with under_way(database, "elsewhere", 2) as writer:
        writer.execute("SELECT * FROM metrics")

        assert numbers(sync(database)) == {1}
