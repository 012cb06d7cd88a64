"""Faults while rows are read, with the connector in a process of its own: none of them costs a row, or repeats one.

The numbers are those of the table of faults (`docs/faults.md`).
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from integration_tests.inprocess import InProcess
from integration_tests.snapshot.test_endings import (
    assert_everything_once,
    catalog_of,
    terminate_readers,
    wait_until,
)
from integration_tests.snapshot.test_resume import create_chunks_one_of_them_large
from integration_tests.truth import Rows, Truth
from testkit.connector import Connector
from testkit.database import Database
from testkit.datadir import give
from testkit.protocol import Output
from testkit.proxy import Proxy
from testkit.roots import Root
from testkit.run import At, Run, signalled
from testkit.server import Server

pytestmark = pytest.mark.any_server

KILL = signalled(signal.SIGKILL)
NOTICED_SECONDS = 15.0
GIVE_UP = {"SOURCE_TIMESCALEDB_RETRY_SECONDS": "1"}


def once(act: Callable[[], object]) -> Callable[[Run], object]:
    return lambda _run: act()


def said(output: Output, words: str) -> list[str]:
    """The lines of the log with these words."""
    return [line for line in output.logs if words in line]


def printed(run: Run, *words: bytes) -> bool:
    """Whether a run has printed a line with one of these words by now."""
    return any(word in line for line in list(run._lines) for word in words)


def kept_of(truth: Truth, killed: Output) -> Rows:
    """What a destination has kept of a killed read: the rows before its last STATE."""
    rows = killed.rows("metrics")
    return truth.parsed(rows[: killed.states[-1].records_before if killed.states else 0])


def told_again(killed: Output) -> set[str]:
    """The days, which are the chunks, of the rows after its last STATE."""
    before = killed.states[-1].records_before if killed.states else 0
    return {row["time"][:10] for row in killed.rows("metrics")[before:]}


@pytest.mark.parametrize("record", [1, 41, 20_000])
def test_fault_01_a_read_killed_in_a_chunk_reads_only_that_chunk_again(
    database: Database, tmp_path: Path, record: int
) -> None:
    create_chunks_one_of_them_large(database, rows=20_000)
    truth = Truth.of(database, "metrics")
    connector = Connector(database.config(timescaledb={"parallel_chunks": 1}), tmp_path)
    catalog = catalog_of(database)

    killed = connector.read(catalog, at=[At("RECORD", record, KILL)], pipe_bytes=4096)
    resumed = connector.read(catalog, killed.state() or None)

    assert (killed.exit_code, resumed.exit_code) == (-signal.SIGKILL, 0)
    assert len(told_again(killed)) <= 1
    assert kept_of(truth, killed) + truth.parsed(resumed.rows("metrics")) == truth.rows


@pytest.mark.parametrize("state", [1, 6])
@pytest.mark.parametrize("later", [0, 1])
def test_fault_02_a_read_killed_at_a_state_goes_on_from_it_or_from_the_one_before(
    database: Database, tmp_path: Path, state: int, later: int
) -> None:
    """At the STATE itself, and at the first record after it, so that some of them are told and not kept."""
    create_chunks_one_of_them_large(database)
    truth = Truth.of(database, "metrics")
    config = database.config(timescaledb={"parallel_chunks": 1})
    connector, catalog = Connector(config, tmp_path), catalog_of(database)
    records = InProcess(config).read(catalog).states[state - 1].records_before
    moment = At("RECORD", records + later, KILL) if later else At("STATE", state, KILL)

    killed = connector.read(catalog, at=[moment], pipe_bytes=4096)
    resumed = connector.read(catalog, killed.state() or None)

    assert resumed.exit_code == 0
    assert kept_of(truth, killed) + truth.parsed(resumed.rows("metrics")) == truth.rows


def test_fault_07_readers_that_are_terminated_read_their_slices_again(load: Database, tmp_path: Path) -> None:
    acts = [At("RECORD", at, once(lambda: terminate_readers(load))) for at in (1, 20_000, 60_000)]

    ended = Connector(load.config(), tmp_path).read(catalog_of(load), at=acts, pipe_bytes=65536)

    assert ended.exit_code == 0
    assert [line for line in ended.logs if "57P01" in line or "was lost" in line]
    assert_everything_once(load, ended)


def test_fault_09_a_server_that_crashes_and_comes_back_is_waited_for(
    root: Root, tmp_path: Path, fill_load: Callable[[Database], None]
) -> None:
    with Server(root, fsync=True) as server, server.database() as database:
        fill_load(database)
        catalog = catalog_of(database)

        def crash() -> None:
            database.disconnect()
            server.crash()
            server.start()

        ended = Connector(database.config(), tmp_path).read(
            catalog, at=[At("RECORD", 20_000, once(crash))], pipe_bytes=65536
        )

        assert ended.exit_code == 0
        assert "database system was not properly shut down" in server.log
        assert_everything_once(database, ended)


class Swallowing:
    """A network that swallows everything from a moment on until the connector says that it has lost something."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._swallowed = 0.0
        self.seconds: float | None = None

    def swallow(self, _run: Run) -> None:
        self._proxy.blackhole()
        self._swallowed = time.monotonic()

    def heal_when_noticed(self, run: Run) -> None:
        """Wait, in a thread of its own, for a line that says that the server is gone."""

        def wait() -> None:
            wait_until(lambda: printed(run, b"was lost", b"fallen silent"), "a line that says so")
            self.seconds = time.monotonic() - self._swallowed
            self._proxy.heal()

        threading.Thread(target=wait, daemon=True).start()

    def at(self, kind: str, number: int) -> At:
        def act(run: Run) -> None:
            self.heal_when_noticed(run)
            self.swallow(run)

        return At(kind, number, act)  # type: ignore[arg-type] # the caller's literal


@pytest.mark.slow
@pytest.mark.parametrize("moment", [("TRACE", 1), ("RECORD", 1)])
def test_fault_12_a_network_that_swallows_everything_is_noticed_whoever_waits(
    load: Database, tmp_path: Path, moment: tuple[str, int]
) -> None:
    """When a stream has started its session asks for its chunks; at the first record its readers read slices."""
    with Proxy(load.cluster.address.host, load.cluster.address.port) as proxy:
        swallowing = Swallowing(proxy)

        ended = Connector(load.config(port=proxy.port), tmp_path).read(
            catalog_of(load), at=[swallowing.at(*moment)], pipe_bytes=65536
        )

    assert ended.exit_code == 0
    assert swallowing.seconds is not None
    assert swallowing.seconds < NOTICED_SECONDS
    assert_everything_once(load, ended)


@pytest.mark.slow
def test_fault_12_a_server_gone_under_a_query_without_limit_is_noticed_and_a_busy_one_waited_for(
    database: Database, tmp_path: Path
) -> None:
    """A view is read in one query, which the server may take as long for as it likes: six seconds, the second time."""
    database.execute("CREATE VIEW slow AS SELECT 1 AS n FROM pg_sleep(6)")
    database.grant_select("slow")
    with Proxy(database.cluster.address.host, database.cluster.address.port) as proxy:
        swallowing = Swallowing(proxy)
        connector = Connector(database.config(port=proxy.port), tmp_path)
        run = connector.start_read(catalog_of(database))
        wait_until(lambda: sleeping(database), "the view is read")
        swallowing.heal_when_noticed(run)
        swallowing.swallow(run)

        ended = run.wait()

    assert ended.exit_code == 0
    assert swallowing.seconds is not None
    assert swallowing.seconds < NOTICED_SECONDS
    assert ended.rows("slow") == [{"n": 1}]


def sleeping(database: Database) -> bool:
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    return database.as_superuser().execute(query).fetchone() != (0,)


def test_fault_25_a_chunk_dropped_before_it_is_read_is_gone_and_the_others_are_read(
    database: Database, tmp_path: Path
) -> None:
    create_chunks_one_of_them_large(database, rows=20_000)
    catalog = catalog_of(database)
    drop = "SELECT drop_chunks('metrics', newer_than => timestamptz '2024-01-05')"

    ended = Connector(database.config(timescaledb={"parallel_chunks": 1}), tmp_path).read(
        catalog, at=[At("RECORD", 100, once(lambda: database.execute(drop)))], pipe_bytes=4096
    )

    truth = Truth.of(database, "metrics")
    assert ended.exit_code == 0
    assert said(ended, "2 chunks gone")
    assert truth.parsed(ended.rows("metrics")) == truth.rows


@contextmanager
def room_for(database: Database, connections: int) -> Iterator[None]:
    """Let the connector's role have no more than so many connections; one is for the catalog."""
    limit = f'ALTER ROLE "{database.reader}" CONNECTION LIMIT '
    database.as_superuser().execute(f"{limit}{connections}".encode())
    try:
        yield
    finally:
        database.as_superuser().execute(f"{limit}-1".encode())


def test_fault_35_where_the_server_has_few_connections_fewer_readers_read_everything(
    load: Database, tmp_path: Path
) -> None:
    config = load.config(timescaledb={"parallel_chunks": 4}, max_db_connections=5)
    connector = Connector(config, tmp_path)
    with room_for(load, 2):
        ended = connector.read(
            catalog_of(load), at=[At("RECORD", 20_000, once(lambda: terminate_readers(load)))]
        )

    assert ended.exit_code == 0
    (line,) = said(ended, "Fewer readers go on meanwhile")
    assert "SQLSTATE 53300" in line
    assert_everything_once(load, ended)


def test_fault_35_readers_that_stood_aside_come_back_when_there_is_room(
    load: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("source_timescaledb.snapshot.crew.ASIDE_SECONDS", 0.05)
    names: set[str] = set()
    sync = InProcess(load.config(timescaledb={"parallel_chunks": 2}, max_db_connections=3))
    catalog = sync.catalog()
    with room_for(load, 2):
        room = room_for(load, 10)
        acts = {
            ("RECORD", 1): room.__enter__,
            ("RECORD", 90_000): lambda: names.update(readers(load)),
        }

        ended = sync.read(catalog, acts=acts)

    assert ended.failure is None
    assert len(names) == 2
    assert_everything_once(load, ended)


def readers(database: Database) -> set[str]:
    """The processes of the readers."""
    query = "SELECT pid::text FROM pg_stat_activity WHERE application_name = 'source-timescaledb reader'"
    return {pid for (pid,) in database.as_superuser().execute(query)}


def test_fault_35_where_the_server_has_no_connection_at_all_that_is_one_transient_error(
    load: Database, tmp_path: Path
) -> None:
    catalog = catalog_of(load)
    with room_for(load, 1):
        ended = Connector(load.config(), tmp_path, environment=GIVE_UP).read(catalog)

    assert {error["failure_type"] for error in ended.errors} == {"transient_error"}
    assert "SQLSTATE 53300" in ended.errors[0]["message"]
    assert "max_connections" in ended.errors[0]["message"]


def test_fault_36_a_slice_that_collides_with_what_a_replica_replays_is_read_again(
    root: Root, tmp_path: Path, fill_load: Callable[[Database], None]
) -> None:
    """Rows that a slice's snapshot might need are vacuumed away on the primary, all the time until it has happened."""
    impatient = {"max_standby_streaming_delay": "0", "hot_standby_feedback": "off"}
    with Server(root) as primary, primary.database() as database:
        fill_load(database)
        database.execute("CREATE TABLE churn (n int)")
        catalog = catalog_of(database)
        only = {"streams": [one for one in catalog["streams"] if one["stream"]["name"] != "churn"]}
        with primary.standby(settings=impatient) as standby:
            standby.caught_up()
            replica = {"replica_host": standby.address.host, "replica_port": standby.address.port}
            run = Connector(database.config(timescaledb=replica), tmp_path).start_read(
                only, pipe_bytes=4096, bytes_per_second=8_000_000
            )
            with closing(database.connect()) as owner:
                owner.autocommit = True
                while not printed(run, b"SQLSTATE 40001") and run.process.poll() is None:
                    owner.execute("INSERT INTO churn SELECT generate_series(1, 10)")
                    owner.execute("DELETE FROM churn")
                    owner.execute("VACUUM churn")
            ended = run.wait()

        assert ended.exit_code == 0
        assert said(ended, "SQLSTATE 40001")
        assert_everything_once(database, ended)


@contextmanager
def small_disk_for_sorting(server: Server, database: Database) -> Iterator[Callable[[], object]]:
    """A file system of a MB under the server's temporary files; what is yielded makes it large.

    The server has its own view of what is mounted, from its start on; the file system is the same one.
    """
    database.disconnect()
    server.stop()
    folder = server.folder / "data" / "base" / "pgsql_tmp"
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("it takes root to put a small file system under a server")
    give(folder)
    server.start()
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=500m", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def sorted_rows(root: Root) -> Iterator[tuple[Server, Database]]:
    """A view that sorts more rows than fit in memory."""
    with Server(root, settings={"work_mem": "64kB"}) as server, server.database() as database:
        database.execute(
            "CREATE TABLE rows AS SELECT i AS n, repeat('x', 100) AS x FROM generate_series(1, 30000) i"
        )
        database.execute("CREATE VIEW sorted AS SELECT * FROM rows ORDER BY x, n DESC")
        database.grant_select("sorted")
        yield server, database


def test_fault_37_a_full_disk_on_the_server_is_waited_out(root: Root, tmp_path: Path) -> None:
    with sorted_rows(root) as (server, database), small_disk_for_sorting(server, database) as enlarge:
        ended = Connector(database.config(), tmp_path).read(
            catalog_of(database), at=[At("LOG", 2, once(enlarge))]
        )

    assert ended.exit_code == 0
    assert "SQLSTATE 53100" in ended.logs[1]
    assert [row["n"] for row in ended.rows("sorted")] == [*range(30000, 0, -1)]


@pytest.mark.parametrize("limit", ["disk", "temp_file_limit"])
def test_fault_37_a_disk_that_stays_full_is_one_transient_error_that_says_what_to_do(
    root: Root, tmp_path: Path, limit: str
) -> None:
    with sorted_rows(root) as (server, database):
        connector = Connector(database.config(), tmp_path, environment=GIVE_UP)
        if limit == "disk":
            with small_disk_for_sorting(server, database):
                ended = connector.read(catalog_of(database))
        else:
            database.as_superuser().execute(
                f'ALTER ROLE "{database.reader}" SET temp_file_limit = 100'.encode()
            )
            ended = connector.read(catalog_of(database))

    (error,) = ended.errors
    assert error["failure_type"] == "transient_error"
    words = ("53100", "Free disk space") if limit == "disk" else ("53400", "temp_file_limit")
    assert [word for word in words if word not in error["message"]] == []


def test_fault_38_a_server_that_refuses_everybody_is_left_alone_then_looked_for_once_and_gone_on_with(
    load: Database, tmp_path: Path
) -> None:
    with Proxy(load.cluster.address.host, load.cluster.address.port) as proxy:
        connector = Connector(load.config(port=proxy.port, timescaledb={"parallel_chunks": 3}), tmp_path)
        run = connector.start_read(
            catalog_of(load), at=[At("RECORD", 20_000, once(proxy.refuse))], pipe_bytes=65536
        )
        wait_until(lambda: printed(run, b"is left alone"), "the circuit is open")
        time.sleep(0.5)
        knocked = proxy.accepted
        time.sleep(2)
        assert proxy.accepted == knocked, "nobody knocks while the circuit is open"
        proxy.heal()

        ended = run.wait()

    assert ended.exit_code == 0
    told = [line for line in ended.logs if "primary" in line]
    assert told == [
        "The primary is left alone for 5 seconds: nobody has answered there 5 times in a row.",
        "One looks whether the primary answers.",
        "The primary answers again: all go on.",
    ]
    assert_everything_once(load, ended)
