"""However a read is interrupted, it ends or goes on in order: no row is lost or torn, no transaction is left behind."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from integration_tests.inprocess import InProcess
from integration_tests.truth import Truth
from testkit.connector import Connector
from testkit.database import Database
from testkit.observer import Observer
from testkit.protocol import Json, Output
from testkit.proxy import Proxy
from testkit.roots import Root
from testkit.run import At, Run, signalled
from testkit.server import Server

pytestmark = pytest.mark.any_server

BACKENDS = """
SELECT pid, state, xact_start FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'source-timescaledb%'
"""
LARGEST_PEAK = 400 * 2**20


def catalog_of(database: Database) -> Json:
    return InProcess(database.config()).catalog()


def wait_until(holds: Callable[[], bool], what: str, *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.01)


def backends(database: Database) -> list[tuple[Any, ...]]:
    return database.as_superuser().execute(BACKENDS).fetchall()


def terminate_readers(database: Database) -> None:
    database.as_superuser().execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'source-timescaledb reader%'"
    )


def assert_everything_once(database: Database, output: Output) -> None:
    for table in ("metrics", "parts"):
        truth = Truth.of(database, table)
        assert truth.parsed(output.rows(table)) == truth.rows


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_read_with_its_state_and_the_next_read_goes_on(
    load: Database, tmp_path: Path, number: signal.Signals
) -> None:
    catalog = catalog_of(load)

    ended = Connector(load.config(), tmp_path).read(
        catalog, at=[At("RECORD", 30_000, signalled(number))], pipe_bytes=65536
    )

    assert ended.exit_code == -number
    assert ended.partial_line == b""
    assert ended.errors == []
    assert ended.statuses[-2:] == [("public", "metrics", "INCOMPLETE"), ("public", "parts", "INCOMPLETE")]
    assert 30_000 <= ended.states[-1].records_before == len(ended.rows("metrics")) < 100_000
    assert "Traceback" not in ended.stderr
    resumed = InProcess(load.config()).read(catalog, ended.state())
    truth = Truth.of(load, "metrics")
    assert truth.parsed(ended.rows("metrics")) + truth.parsed(resumed.rows("metrics")) == truth.rows


def test_a_destination_that_dies_ends_the_read_without_a_trace_on_the_server(
    load: Database, tmp_path: Path
) -> None:
    ended = Connector(load.config(), tmp_path).read(
        catalog_of(load), at=[At("RECORD", 10_000, Run.close_stdout)], timeout=30
    )

    assert ended.exit_code == 1
    assert "Traceback" not in ended.stderr
    assert "reader of our output is gone" in ended.stderr
    wait_until(lambda: not backends(load), "every connection closed")


def test_a_destination_that_pauses_holds_up_no_transaction_and_fills_no_memory(
    database: Database, tmp_path: Path
) -> None:
    database.execute("CREATE TABLE metrics (time timestamptz NOT NULL, number int, bulk text)")
    database.execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')")
    database.execute(
        "INSERT INTO metrics SELECT '2024-01-01'::timestamptz + i * interval '9 seconds', i, repeat('b', 1000)"
        " FROM generate_series(1, 80000) i"
    )
    database.grant_select("metrics")

    def pause(_run: Run) -> None:
        def nothing_open() -> bool:
            found = backends(database)
            return len(found) > 0 and all(started is None for _, _, started in found)

        wait_until(nothing_open, "no transaction open while the destination pauses")

    with Observer(database.cluster, "source-timescaledb") as observer:
        ended = Connector(database.config(), tmp_path).read(
            InProcess(database.config()).catalog(), at=[At("RECORD", 1000, pause)]
        )

    assert ended.exit_code == 0
    assert observer.observation.longest_transaction_seconds < 1.5
    assert ended.peak_rss < LARGEST_PEAK
    truth = Truth.of(database, "metrics")
    assert truth.parsed(ended.rows("metrics")) == truth.rows


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_a_connection_that_breaks_costs_no_row(load: Database, fault: str) -> None:
    address = load.cluster.address
    with Proxy(address.host, address.port) as proxy:
        acts = {("RECORD", at): getattr(proxy, fault) for at in (1, 20_000, 60_000, 110_000)}

        ended = InProcess(load.config(port=proxy.port)).read(acts=acts)

    assert ended.failure is None
    assert_everything_once(load, ended)


def test_a_connection_cut_at_any_byte_costs_no_row(load: Database) -> None:
    address = load.cluster.address
    with Proxy(address.host, address.port) as proxy:
        sync = InProcess(load.config(port=proxy.port))
        catalog = sync.catalog(streams=["parts"])
        truth = Truth.of(load, "parts")
        for count in (0, 100, 301, 1_000, 5_001, 20_000, 1_000_001):
            proxy.cut_after(count, reset=count % 2 == 1)
            ended = sync.read(catalog)

            assert (count, ended.failure) == (count, None)
            assert truth.parsed(ended.rows("parts")) == truth.rows


def test_a_network_that_swallows_everything_for_good_is_one_transient_error(
    load: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("source_timescaledb.postgres.silence.LONGEST_SILENCE_SECONDS", 0.5)
    address = load.cluster.address
    with Proxy(address.host, address.port) as proxy, ThreadPoolExecutor() as threads:
        config = load.config(port=proxy.port, jdbc_url_params="connectTimeout=2")
        sync = InProcess(config, retry_seconds=1.0)
        catalog = sync.catalog()

        reading = threads.submit(sync.read, catalog, None, {("RECORD", 1): proxy.blackhole})
        try:
            ended = reading.result(timeout=30)
        finally:
            proxy.heal()

    (error,) = ended.errors
    assert error["failure_type"] == "transient_error"
    assert "public.metrics" in error["message"]
    assert ended.statuses[-2:] == [("public", "metrics", "INCOMPLETE"), ("public", "parts", "INCOMPLETE")]


def test_a_read_that_is_stopped_while_it_waits_for_its_server_leaves_the_state_of_all_its_rows(
    load: Database,
) -> None:
    """All rows are told, and what is left is a look at the catalog."""
    address = load.cluster.address
    catalog = InProcess(load.config()).catalog(streams=["metrics"])
    with Proxy(address.host, address.port) as proxy:
        sync = InProcess(load.config(port=proxy.port))

        def leave() -> None:
            proxy.refuse()
            threading.Timer(0.5, sync.stop).start()

        stopped = sync.read(catalog, None, {("RECORD", 100_000): leave})

    assert stopped.failure is None
    assert stopped.statuses[-1] == ("public", "metrics", "INCOMPLETE")
    assert stopped.states[-1].records_before == len(stopped.rows("metrics")) == 100_000
    resumed = InProcess(load.config()).read(catalog, stopped.state())
    assert resumed.rows("metrics") == []
    assert resumed.statuses[-1] == ("public", "metrics", "COMPLETE")


def test_a_server_that_is_gone_for_good_is_one_transient_error(
    root: Root, tmp_path: Path, fill_load: Callable[[Database], None]
) -> None:
    with Server(root) as server, server.database() as database:
        fill_load(database)
        catalog = catalog_of(database)
        impatient = Connector(
            database.config(), tmp_path, environment={"SOURCE_TIMESCALEDB_RETRY_SECONDS": "2"}
        )

        database.disconnect()
        ended = impatient.read(catalog, at=[At("RECORD", 20_000, lambda _run: server.crash())], timeout=40)
        server.start()

        assert ended.exit_code == 1
        (error,) = ended.errors
        assert error["failure_type"] == "transient_error"
        assert "public.metrics" in error["message"]
        assert "Check the settings host and port, the server" in error["message"]
        assert ended.statuses[-2:] == [("public", "metrics", "INCOMPLETE"), ("public", "parts", "INCOMPLETE")]
        assert ended.states[-1].records_before == len(ended.rows("metrics"))
        resumed = InProcess(database.config()).read(catalog, ended.state())
        truth = Truth.of(database, "metrics")
        assert truth.parsed(ended.rows("metrics")) + truth.parsed(resumed.rows("metrics")) == truth.rows
