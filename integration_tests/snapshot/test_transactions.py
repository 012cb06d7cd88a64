"""No transaction of a read lasts longer than allowed, so whoever needs a stronger lock gets it within that time.

And what those others do with their locks, dropping, rewriting and truncating, never leaves a gap that nobody tells of.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from integration_tests.inprocess import InProcess
from integration_tests.truth import Truth
from testkit.cluster import Cluster
from testkit.connector import Connector
from testkit.database import Database
from testkit.observer import Observer
from testkit.run import Result

ROWS = {"indexed": 300_000, "unindexed": 150_000, "instant": 100_000}
ALLOWED_SECONDS = 1.0
SLACK_SECONDS = 0.5


def create(database: Database, name: str, *, interval: str = "1 year", more: str = "") -> None:
    database.execute(f"CREATE TABLE {name} (time timestamptz NOT NULL, number int, note text)".encode())
    database.execute(
        f"SELECT create_hypertable('{name}', 'time', chunk_time_interval => interval '{interval}'{more})".encode()
    )
    database.grant_select(name)


def fill(database: Database, name: str, rows: int, *, step: str = "10 seconds") -> None:
    database.execute(
        f"INSERT INTO {name} SELECT '2024-01-01'::timestamptz + i * interval '{step}', i, repeat('n', 40)"
        f" FROM generate_series(0, {rows - 1}) i".encode()
    )


@pytest.fixture(scope="module")
def crowd(server: Cluster) -> Iterator[Database]:
    """Three hypertables of one chunk each: with an index on time, without, and with one moment for all rows."""
    with server.database() as database:
        create(database, "indexed")
        create(database, "unindexed", more=", create_default_indexes => false")
        create(database, "instant")
        for name, rows in ROWS.items():
            fill(database, name, rows, step="0" if name == "instant" else "10 seconds")
        yield database


def read(database: Database, tmp_path: Path, *streams: str, **timescaledb: float) -> Result:
    config = database.config(timescaledb=timescaledb)
    return Connector(config, tmp_path).read(InProcess(config).catalog(streams=streams), to_file=True)


def wait_until(holds: Callable[[], bool], what: str, *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.005)


def numbers(result: Result) -> dict[str, Counter[int]]:
    """How often each row was read, by stream; without keeping the messages, which are many."""
    found: dict[str, Counter[int]] = {}
    for line in result.lines():
        if line.startswith(b'{"type":"RECORD"'):
            record = orjson.loads(line)["record"]
            found.setdefault(record["stream"], Counter())[record["data"]["number"]] += 1
    return found


def each_once(rows: int) -> Counter[int]:
    return Counter(range(rows))


@pytest.mark.any_server
def test_a_big_chunk_is_read_in_short_transactions(crowd: Database, tmp_path: Path) -> None:
    with Observer(crowd.cluster, "source-timescaledb") as observer:
        ended = read(crowd, tmp_path, *ROWS)

    assert ended.exit_code == 0
    assert numbers(ended) == {name: each_once(rows) for name, rows in ROWS.items()}
    assert observer.observation.looks > 20
    assert observer.observation.longest_transaction_seconds <= ALLOWED_SECONDS + SLACK_SECONDS


@pytest.mark.any_server
def test_a_chunk_whose_rows_take_long_to_find_is_read_to_its_end_all_the_same(
    crowd: Database, tmp_path: Path
) -> None:
    allowed = 0.05
    with Observer(crowd.cluster, "source-timescaledb") as observer:
        ended = read(crowd, tmp_path, "unindexed", max_transaction_seconds=allowed)

    assert ended.exit_code == 0
    assert numbers(ended) == {"unindexed": each_once(ROWS["unindexed"])}
    assert observer.observation.longest_transaction_seconds <= allowed + SLACK_SECONDS


def seconds_for(database: Database, statement: str) -> float:
    """How long the application waits for a statement that no reader can run beside."""
    started = time.monotonic()
    database.execute(statement.encode())
    return time.monotonic() - started


@pytest.mark.any_server
def test_a_stronger_lock_waits_for_no_more_than_one_transaction(database: Database) -> None:
    create(database, "metrics", interval="10 days")
    fill(database, "metrics", 150_000)
    waited = []
    statements = ["ALTER TABLE metrics ADD COLUMN extra int", "ALTER TABLE metrics DROP COLUMN extra"]
    truth = Truth.of(database, "metrics")

    def ask(statement: str) -> Callable[[], None]:
        return lambda: waited.append(seconds_for(database, statement))

    acts = {("RECORD", 1 + 15_000 * turn): ask(statements[turn % 2]) for turn in range(8)}
    ended = InProcess(database.config()).read(acts=acts)

    assert ended.failure is None
    assert len(waited) == len(acts)
    assert max(waited) <= ALLOWED_SECONDS + SLACK_SECONDS
    assert truth.parsed(ended.rows("metrics")) == truth.rows


def test_chunks_dropped_during_the_read_are_normal(database: Database) -> None:
    create(database, "metrics", interval="1 day")
    fill(database, "metrics", 80_000)
    kept = Truth.of(database, "SELECT * FROM metrics WHERE time < '2024-01-03' OR time >= '2024-01-06'")
    every = Truth.of(database, "metrics")
    waited = []

    def drop() -> None:
        waited.append(
            seconds_for(
                database,
                "SELECT drop_chunks('metrics', older_than => '2024-01-06', newer_than => '2024-01-03')",
            )
        )

    ended = InProcess(database.config()).read(acts={("RECORD", 1): drop})

    read = every.parsed(ended.rows("metrics"))
    assert ended.statuses[-1] == ("public", "metrics", "COMPLETE")
    assert kept.rows - read == Counter()
    assert read - every.rows == Counter()
    assert waited[0] <= ALLOWED_SECONDS + SLACK_SECONDS


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize(
    "rewrite", ["ALTER COLUMN number TYPE int USING -number", "ADD COLUMN extra float8 DEFAULT random()"]
)
def test_a_rewrite_during_the_read_leaves_no_gap(database: Database, rewrite: str) -> None:
    create(database, "metrics", interval="6 hours")
    fill(database, "metrics", 20_000)

    ended = InProcess(database.config()).read(
        acts={("RECORD", 3000): lambda: database.execute(f"ALTER TABLE metrics {rewrite}".encode())}
    )

    assert ended.failure is None
    assert Counter(abs(row["number"]) for row in ended.rows("metrics")) == each_once(20_000)


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("table", ["metrics", "plain"])
def test_a_column_of_another_type_is_an_error_and_not_a_broken_line(database: Database, table: str) -> None:
    create(database, "metrics", interval="6 hours")
    fill(database, "metrics", 20_000)
    database.execute("CREATE TABLE plain AS SELECT * FROM metrics")
    database.execute("ALTER TABLE plain ADD PRIMARY KEY (number)")
    database.grant_select("plain")
    sync = InProcess(database.config())

    ended = sync.read(
        sync.catalog(streams=[table]),
        acts={
            ("RECORD", 3000): lambda: database.execute(
                f"ALTER TABLE {table} ALTER COLUMN note TYPE int USING length(note),"
                f" ALTER COLUMN number TYPE text USING 'canary \"' || number".encode()
            )
        },
    )

    (error,) = ended.errors
    assert error["failure_type"] == "config_error"
    assert f"public.{table}" in error["message"]
    assert "canary" not in str(error)
    assert all(isinstance(row["number"], int) for row in ended.rows(table))
    assert ended.statuses[-1] == ("public", table, "INCOMPLETE")


@pytest.mark.usefixtures("small_slices")
def test_a_column_that_holds_more_than_its_type_was_is_an_error_and_not_rounded(database: Database) -> None:
    create(database, "metrics", interval="6 hours")
    fill(database, "metrics", 20_000)
    sync = InProcess(database.config())

    ended = sync.read(
        acts={
            ("RECORD", 3000): lambda: database.execute(
                "ALTER TABLE metrics ALTER COLUMN number TYPE numeric USING number + 0.25"
            )
        }
    )

    times = Truth.of(database, "SELECT time, number - 0.25 AS number FROM metrics")
    assert {
        *times.parsed({"time": row["time"], "number": row["number"]} for row in ended.rows("metrics"))
    } <= {*times.rows}
    (error,) = ended.errors
    assert error["failure_type"] == "config_error"
    assert "public.metrics" in error["message"]


@pytest.mark.usefixtures("small_slices")
def test_rows_truncated_during_the_read_are_gone_and_those_written_since_are_there(
    database: Database,
) -> None:
    create(database, "metrics", interval="6 hours")
    fill(database, "metrics", 20_000)

    def start_over() -> None:
        database.execute("TRUNCATE metrics")
        database.execute(
            "INSERT INTO metrics SELECT '2024-06-01'::timestamptz + i * interval '1 second', -i, 'new'"
            " FROM generate_series(1, 500) i"
        )

    ended = InProcess(database.config()).read(acts={("RECORD", 3000): start_over})

    found = Counter(row["number"] for row in ended.rows("metrics"))
    assert ended.statuses[-1] == ("public", "metrics", "COMPLETE")
    assert {number: found[number] for number in range(-500, 0)} == dict.fromkeys(range(-500, 0), 1)
    assert max(found.values()) == 1


@pytest.mark.parametrize(
    ("stream", "table"),
    [("plain", "plain"), ("seen", "plain"), ("metrics", "metrics")],
    ids=["table with column privileges", "view", "hypertable with column privileges"],
)
def test_a_rewrite_that_ends_while_we_wait_for_it_leaves_no_gap(
    database: Database, stream: str, table: str
) -> None:
    create(database, "metrics")
    fill(database, "metrics", 500)
    database.execute("CREATE TABLE plain AS SELECT * FROM metrics")
    database.execute("CREATE VIEW seen AS SELECT time, number FROM plain")
    database.execute(f"REVOKE SELECT ON metrics FROM {database.reader}".encode())
    database.execute(f"GRANT SELECT (time, number) ON plain, metrics TO {database.reader}".encode())
    database.grant_select("seen")
    sync = InProcess(database.config())
    catalog = sync.catalog(streams=[stream])
    with database.connect() as rewriting, ThreadPoolExecutor() as threads:
        rewriting.execute(f"ALTER TABLE {table} ALTER COLUMN note TYPE int USING length(note)".encode())
        reading = threads.submit(sync.read, catalog)
        wait_until(lambda: somebody_waits(database), "the reader waits for the lock")
        rewriting.commit()
        ended = reading.result(timeout=60)

    assert ended.failure is None
    assert Counter(row["number"] for row in ended.rows(stream)) == each_once(500)


def somebody_waits(database: Database) -> bool:
    found = (
        database.as_superuser()
        .execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND application_name LIKE 'source-timescaledb%'"
        )
        .fetchone()
    )
    return found != (0,)


@pytest.mark.usefixtures("small_slices")
def test_a_chunk_that_renders_larger_than_its_statistics_promise_is_cut(database: Database) -> None:
    create(database, "metrics")
    database.execute(
        "INSERT INTO metrics SELECT '2024-01-01'::timestamptz + i * interval '1 hour', i, repeat('n', 6000)"
        " FROM generate_series(0, 99) i"
    )
    database.execute("ANALYZE metrics")

    ended = InProcess(database.config()).read()

    assert Counter(row["number"] for row in ended.rows("metrics")) == each_once(100)
    assert len(ended.states) > 2


@pytest.mark.usefixtures("small_slices")
def test_a_chunk_behind_a_partitioning_function_is_read_whole_however_large(database: Database) -> None:
    database.execute(
        "CREATE FUNCTION moment(text) RETURNS timestamptz LANGUAGE sql IMMUTABLE"
        " AS $$ SELECT '2024-01-01'::timestamptz + $1::int * interval '1 minute' $$"
    )
    database.execute("CREATE TABLE opaque (label text NOT NULL, number int, note text)")
    database.execute(
        "SELECT create_hypertable('opaque', 'label', time_partitioning_func => 'moment',"
        " chunk_time_interval => interval '1 day')"
    )
    database.execute(
        "INSERT INTO opaque SELECT i::text, i, repeat('n', 1000) FROM generate_series(0, 1999) i"
    )
    database.grant_select("opaque")

    ended = InProcess(database.config()).read()

    assert Counter(row["number"] for row in ended.rows("opaque")) == each_once(2000)


@pytest.mark.slow
@pytest.mark.any_server
def test_five_million_rows_in_one_chunk_need_little_memory_and_short_transactions(
    database: Database, tmp_path: Path
) -> None:
    create(database, "metrics", interval="10 years")
    fill(database, "metrics", 5_000_000, step="1 second")

    with Observer(database.cluster, "source-timescaledb") as observer:
        ended = read(database, tmp_path, "metrics")

    assert ended.exit_code == 0
    assert sum(1 for line in ended.lines() if line.startswith(b'{"type":"RECORD"')) == 5_000_000
    assert observer.observation.longest_transaction_seconds <= ALLOWED_SECONDS + SLACK_SECONDS
    assert ended.peak_rss < 150 * 2**20
