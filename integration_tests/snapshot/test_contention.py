"""A chunk of five million rows is read while it is compressed or dropped, and while the application writes to it.

What is promised is a bound on waiting for us: nobody waits longer than a reading transaction may last, whether for our
lock itself or in the queue behind `compress_chunk`, whose stronger lock has to wait for ours. So that is what is
asserted, as the server sees it: who waits for whom, looked at some fifty times a second (`testkit.bystanders`). How long
the statements themselves take is the server's matter, and no assertion; it is logged.

The slack of half a second has two parts. A transaction's end is seen by the server only when a reader that has been
without the processor gets it back: two readers, the connector's writer, the application, the maintenance and the
observers share what may be two cores. And a look can come late.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from typing_extensions import Self

from integration_tests.cdc.scenes import until
from integration_tests.inprocess import InProcess
from testkit.bystanders import Bystanders
from testkit.connector import Connector
from testkit.database import Database
from testkit.observer import Observer

pytestmark = [pytest.mark.slow, pytest.mark.community]

logger = logging.getLogger(__name__)

ROWS = 5_000_000
ALLOWED_SECONDS = 1.0
SLACK_SECONDS = 0.5
BOUND = ALLOWED_SECONDS + SLACK_SECONDS
FIRST_BYTES = 2**20
COMPRESS = "SELECT compress_chunk(show_chunks('metrics'))"
DROP = "SELECT drop_chunks('metrics', older_than => '2034-01-01'::timestamptz)"
MAINTENANCE, APPLICATION = "maintenance", "application"


@pytest.fixture
def big(community_database: Database) -> Database:
    """`metrics`: one chunk of five million narrow rows, which may be compressed."""
    execute = community_database.execute
    execute("CREATE TABLE metrics (time timestamptz NOT NULL, device int, value int)")
    execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '10 years')")
    execute(
        "ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device',"
        " timescaledb.compress_orderby = 'time')"
    )
    execute(
        "INSERT INTO metrics SELECT '2024-02-01'::timestamptz + i * interval '1 second', i %% 100, i"
        " FROM generate_series(0, %s - 1) i",
        [ROWS],
    )
    assert community_database.value("SELECT count(*) FROM show_chunks('metrics')") == 1
    community_database.grant_select("metrics")
    return community_database


@contextmanager
def application(database: Database) -> Iterator[list[float]]:
    """A session that inserts into the same chunk without pause; how long each of its statements took."""
    took: list[float] = []
    stop = threading.Event()

    def insert() -> None:
        with database.connect(application_name=APPLICATION) as session:
            session.autocommit = True
            while not stop.is_set():
                started = time.monotonic()
                # A chunk that is dropped under an INSERT fails it (XX000), without us too.
                with suppress(psycopg.errors.InternalError_):
                    session.execute("INSERT INTO metrics VALUES ('2024-02-14 12:00', 1000, -1)")
                took.append(time.monotonic() - started)
                stop.wait(0.01)

    thread = threading.Thread(target=insert)
    thread.start()
    try:
        yield took
    finally:
        stop.set()
        thread.join()


class Reading:
    """Syncs of the whole table, one after the other, each in a process of its own, until they are to end."""

    def __init__(self, database: Database, workdir: Path) -> None:
        config = database.config(timescaledb={"max_transaction_seconds": ALLOWED_SECONDS})
        self._catalog = InProcess(config).catalog()
        self._connector = Connector(config, workdir)
        self._workdir = workdir
        self._ending = threading.Event()
        self.rows: list[int] = []
        """How many rows each sync read that has ended."""

    def __enter__(self) -> Self:
        self._executor = ThreadPoolExecutor()
        self._reading = self._executor.submit(self._read)
        until(lambda: any(path.stat().st_size > FIRST_BYTES for path in self._outputs()))
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._executor.shutdown()
        self._reading.result()

    def _read(self) -> None:
        while not self._ending.is_set():
            ended = self._connector.read(self._catalog, to_file=True)
            assert ended.exit_code == 0, ended.stderr
            self.rows.append(sum(line.startswith(b'{"type":"RECORD"') for line in ended.lines()))
            for path in self._outputs():
                path.unlink()

    def _outputs(self) -> list[Path]:
        return list(self._workdir.glob("*-read.stdout"))


def seconds_of(database: Database, *statements: str) -> float:
    """How long maintenance takes."""
    with database.connect(application_name=MAINTENANCE) as session:
        session.autocommit = True
        started = time.monotonic()
        for statement in statements:
            session.execute(statement.encode())
        return time.monotonic() - started


@pytest.mark.parametrize("statement", [COMPRESS, DROP], ids=["compress_chunk", "drop_chunks"])
def test_nobody_waits_for_us_longer_than_a_transaction_may_last(
    big: Database, tmp_path: Path, statement: str
) -> None:
    with (
        Observer(big.cluster, "source-timescaledb") as observer,
        Bystanders(big.cluster, "source-timescaledb") as bystanders,
        application(big) as stalls,
        Reading(big, tmp_path) as reading,
    ):
        seconds = seconds_of(big, statement)

    maintenance, inserts = bystanders.delay(MAINTENANCE), bystanders.delay(APPLICATION)
    logger.info(
        "%s: %.2f s, of which it waited for us %.2f s; the longest of %d inserts took %.2f s, the longest wait for us "
        "%.2f s; our longest transaction took %.2f s; looks were %.3f s apart at most",
        statement,
        seconds,
        maintenance.total_seconds,
        len(stalls),
        max(stalls),
        inserts.longest_seconds,
        observer.observation.longest_transaction_seconds,
        bystanders.observation.longest_gap_seconds,
    )
    assert maintenance.total_seconds <= BOUND
    assert inserts.longest_seconds <= BOUND
    assert observer.observation.longest_transaction_seconds <= BOUND
    assert bystanders.observation.looks > 20
    assert len(stalls) > 10
    if statement == COMPRESS:
        assert all(ROWS <= rows <= ROWS + len(stalls) for rows in reading.rows)
