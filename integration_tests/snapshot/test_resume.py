"""A read that was killed goes on where its last STATE says: nothing is lost, and nothing before that STATE comes twice.

What a killed process leaves behind is a prefix of its output, and what the next process sees of it is the last STATE
in that prefix. So the scenes here resume from every STATE there is, which covers a kill at every line; a few real kills
prove that a killed process leaves no more and no less than such a prefix.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from integration_tests.inprocess import Ended, InProcess
from integration_tests.truth import Rows, Truth
from testkit.connector import Connector
from testkit.database import Database
from testkit.protocol import Json, Output
from testkit.run import At, signalled

LARGEST_STATE = 4096
KEYS: dict[str, tuple[str, ...]] = {
    "text": ("", " ", "'", '"', "\\", "a%b", "Z", "a", "ä", "日本", "NULL", "(a,b)"),
    'text COLLATE "und-x-icu"': ("a", "B", "b", "ä", "z", "Z", "Å"),
    "char(4)": ("", "a", "ab", "abc", "abcd", "b"),
    "int8": ("-9223372036854775808", "-1", "0", "1", "9223372036854775807"),
    "float8": ("-Infinity", "-1.5", "0", "1e-300", "0.1", "0.30000000000000004", "1e300", "Infinity", "NaN"),
    "numeric": ("-Infinity", "-1.50", "0.0", "0.10", "1e40", "Infinity", "NaN"),
    "timestamptz": (
        *(
            "-infinity",
            "4713-01-01 BC",
            "2024-01-01",
            "2024-01-01 00:00:00.000001",
            "294276-01-01",
            "infinity",
        ),
    ),
    "timestamp": ("-infinity", "0044-03-15 BC", "1999-12-31", "2024-01-01 00:00:00.000001", "infinity"),
    "date": ("-infinity", "4713-01-01 BC", "2024-01-01", "5874897-01-01", "infinity"),
    "timetz": ("00:00+14", "12:00+00", "24:00:00-12", "23:59:59.999999+05"),
    "interval": ("-1 year", "1 day", "24:00:01", "1 mon -1 day", "2 years 3 days 04:05:06.7"),
    "uuid": tuple(f"{digit * 8}-0000-0000-0000-000000000000" for digit in "037af"),
    "bytea": ("\\x", "\\x00", "\\x5c27", "\\x6b70", "\\xff"),
    "inet": ("::1", "10.0.0.1", "10.0.0.0/8", "192.168.1.1/24", "fe80::1"),
    "bit varying": ("", "0", "1", "01", "0101"),
    "boolean": ("false", "true"),
    "mood": ("sad", "o'k", "happy"),
    "small": ("-1", "0", "1", "2", "3"),
    "int[]": ("{}", "{1}", "{1,2}", "{NULL}", "[0:1]={1,2}"),
    "int4range": ("empty", "[1,2)", "[1,5)", "(,3)", "[4,)"),
    "jsonb": ("null", '"a"', "1", "[]", '{"a": 1}', "true"),
    "pair": ("(1,a)", '(1,"b c")', "(2,)", "(,)"),
}
"""Types that can be keys, with values that are easily written wrong."""
NAMES = (
    "",
    " ",
    "o'brien",
    'dou"ble',
    "back\\slash",
    "per%cent",
    "tab\there",
    "line\nbreak",
    "Ünï\u0301cödé",
    "日本",
    "🐘",
)


@pytest.fixture
def slices_of_two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("source_timescaledb.snapshot.key_plan.MOST_ROWS", 2)


def fill(database: Database, first_day: str, days: int, *, per_day: int = 40) -> None:
    database.execute(
        "INSERT INTO metrics SELECT %s::timestamptz + i * interval '1 day' / %s, i %% 7, i, 'row ' || i, NULL"
        " FROM generate_series(0, %s - 1) i",
        [first_day, per_day, days * per_day],
    )


def create_hypertable(database: Database) -> None:
    database.execute(
        "CREATE TABLE metrics (time timestamptz NOT NULL, device int, value float8, note text, bulk text)"
    )
    database.execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')")
    database.grant_select("metrics")


def create_chunks_one_of_them_large(database: Database, *, rows: int = 480) -> None:
    """Six chunks; the third renders to a KiB for each of so many rows more."""
    create_hypertable(database)
    fill(database, "2024-01-01", 6)
    database.execute(
        "INSERT INTO metrics SELECT '2024-01-03'::timestamptz + i * interval '1 day' / %s, i, i, NULL, repeat('x', 1000)"
        " FROM generate_series(0, %s - 1) i",
        [rows, rows],
    )


def rows_before(output: Output, state: int, truth: Truth, stream: str = "metrics") -> Rows:
    """The rows that a destination has kept when the STATE of that number (from 0) arrives."""
    return truth.parsed(output.rows(stream)[: output.states[state].records_before])


def assert_every_state_splits_the_read(
    sync: InProcess, catalog: Json, whole: Ended, truth: Truth, stream: str = "metrics"
) -> None:
    assert truth.parsed(whole.rows(stream)) == truth.rows
    for number in range(len(whole.states)):
        resumed = sync.read(catalog, whole.state(number + 1))

        assert resumed.failure is None
        assert rows_before(whole, number, truth, stream) + truth.parsed(resumed.rows(stream)) == truth.rows


def open_chunks(output: Output) -> int:
    """In how many states a chunk was finished in part."""
    return sum(bool((state_of(state.message).get("progress") or {}).get("open")) for state in output.states)


def state_of(message: Json) -> Json:
    return message["stream"]["stream_state"]  # type: ignore[no-any-return] # JSON


@pytest.mark.any_server
@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("order", ["oldest_first", "newest_first"])
def test_a_hypertable_resumes_from_every_state(database: Database, order: str) -> None:
    create_chunks_one_of_them_large(database)
    truth = Truth.of(database, "metrics")
    sync = InProcess(database.config(timescaledb={"snapshot_order": order, "parallel_chunks": 3}))
    catalog = sync.catalog()

    whole = sync.read(catalog)

    assert open_chunks(whole) >= 3, "no chunk was cut: the scene is not the one that was meant"
    assert_every_state_splits_the_read(sync, catalog, whole, truth)


def test_the_newest_chunk_comes_first_where_that_is_asked_for(database: Database) -> None:
    create_hypertable(database)
    fill(database, "2024-01-01", 12)
    settings = {"snapshot_order": "newest_first", "parallel_chunks": 1}

    days = [
        row["time"][:10] for row in InProcess(database.config(timescaledb=settings)).read().rows("metrics")
    ]

    assert days == sorted(days, reverse=True)


@pytest.mark.usefixtures("small_slices")
def test_a_load_from_a_moment_on_keeps_its_moment_when_it_is_resumed(database: Database) -> None:
    create_chunks_one_of_them_large(database)
    truth = Truth.of(database, "SELECT * FROM metrics WHERE time >= '2024-01-03 06:30'")
    sync = InProcess(database.config(timescaledb={"snapshot_since": "2024-01-03T06:30:00Z"}))
    catalog = sync.catalog()
    whole = sync.read(catalog)
    later = InProcess(database.config(timescaledb={"snapshot_since": "2024-01-05T00:00:00Z"}))

    assert len(whole.states) >= 4
    assert_every_state_splits_the_read(later, catalog, whole, truth)


@pytest.mark.any_server
@pytest.mark.usefixtures("small_slices")
def test_a_table_with_a_composite_key_resumes_from_every_state(database: Database) -> None:
    database.execute("CREATE TABLE parts (name text, number int, bulk text, PRIMARY KEY (name, number))")
    database.execute(
        "INSERT INTO parts SELECT name, number, repeat('y', 300) FROM unnest(%s::text[]) name,"
        " generate_series(-50, 50) number",
        [list(NAMES)],
    )
    database.grant_select("parts")
    truth = Truth.of(database, "parts")
    sync = InProcess(database.config())
    catalog = sync.catalog()

    whole = sync.read(catalog)

    assert len(whole.states) >= 5
    assert_every_state_splits_the_read(sync, catalog, whole, truth, "parts")


@pytest.mark.any_server
@pytest.mark.usefixtures("small_slices", "slices_of_two_rows")
def test_a_key_of_any_type_cuts_its_table(database: Database) -> None:
    database.execute("CREATE TYPE mood AS ENUM ('sad', 'o''k', 'happy')")
    database.execute("CREATE DOMAIN small AS int CHECK (VALUE < 100)")
    database.execute("CREATE TYPE pair AS (a int, b text)")
    for number, (kind, values) in enumerate(KEYS.items()):
        database.execute(f"CREATE TABLE keyed_{number} (key {kind} PRIMARY KEY, row int)".encode())
        for row, value in enumerate(values):
            cast = kind.partition(" COLLATE")[0]
            database.execute(f"INSERT INTO keyed_{number} VALUES (%s::{cast}, %s)".encode(), [value, row])
        database.grant_select(f"keyed_{number}")
    sync = InProcess(database.config())
    everything = sync.catalog()

    for number, (kind, values) in enumerate(KEYS.items()):
        stream = f"keyed_{number}"
        catalog = only(everything, stream)
        whole = sync.read(catalog)

        assert (kind, row_numbers(whole, stream)) == (kind, [*range(len(values))])
        for state in range(len(whole.states)):
            resumed = sync.read(catalog, whole.state(state + 1))
            before = whole.rows(stream)[: whole.states[state].records_before]
            assert (kind, sorted(row["row"] for row in [*before, *resumed.rows(stream)])) == (
                kind,
                [*range(len(values))],
            )
        assert len(whole.states) >= len(values) // 2


def only(catalog: Json, stream: str) -> Json:
    return {"streams": [one for one in catalog["streams"] if one["stream"]["name"] == stream]}


def row_numbers(output: Output, stream: str) -> list[int]:
    return sorted(row["row"] for row in output.rows(stream))


@pytest.mark.any_server
@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("cursor", ["time", "value"])
def test_an_incremental_read_resumes_from_every_state(database: Database, cursor: str) -> None:
    create_chunks_one_of_them_large(database)
    sync = InProcess(database.config(timescaledb={"parallel_chunks": 3}))
    catalog = sync.catalog("incremental", metrics=cursor)
    first = sync.read(catalog)
    assert_every_state_splits_the_read(sync, catalog, first, Truth.of(database, "metrics"))
    database.execute(
        "INSERT INTO metrics SELECT time + interval '6 days', device, value + 10000, note, bulk FROM metrics"
    )
    added = Truth.of(database, "SELECT * FROM metrics WHERE value >= 10000")

    second = sync.read(catalog, first.state())

    assert_every_state_splits_the_read(sync, catalog, second, added)


@pytest.mark.usefixtures("small_slices")
def test_what_is_written_between_kill_and_resume_belongs_to_the_next_incremental_read(
    database: Database,
) -> None:
    create_hypertable(database)
    fill(database, "2024-01-01", 6)
    sync = InProcess(database.config())
    catalog = sync.catalog("incremental")
    old = Truth.of(database, "metrics")
    killed = sync.read(catalog)
    fill(database, "2024-01-07", 2)
    new = Truth.of(database, "SELECT * FROM metrics WHERE time >= '2024-01-07'")

    for number in range(len(killed.states) - 1):
        resumed = sync.read(catalog, killed.state(number + 1))
        following = sync.read(catalog, resumed.state())

        assert rows_before(killed, number, old) + old.parsed(resumed.rows("metrics")) == old.rows
        assert new.parsed(following.rows("metrics")) == new.rows


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("order", ["oldest_first", "newest_first"])
def test_chunks_born_and_dropped_between_kill_and_resume_are_read_and_forgotten(
    database: Database, order: str
) -> None:
    create_hypertable(database)
    fill(database, "2024-01-05", 8)
    sync = InProcess(database.config(timescaledb={"snapshot_order": order}))
    catalog = sync.catalog()
    before = Truth.of(database, "metrics")
    killed = sync.read(catalog)
    database.execute("SELECT drop_chunks('metrics', older_than => timestamptz '2024-01-07')")
    database.execute("SELECT drop_chunks('metrics', newer_than => timestamptz '2024-01-12')")
    fill(database, "2024-01-01", 3)
    fill(database, "2024-01-20", 2)
    now = Truth.of(database, "metrics")

    for number in range(len(killed.states) - 1):
        resumed = sync.read(catalog, killed.state(number + 1))

        read = rows_before(killed, number, before) + now.parsed(resumed.rows("metrics"))
        assert now.rows - read == Rows(), "lost"
        assert (read - now.rows) - (before.rows - now.rows) == Rows(), "repeated or invented"
        assert resumed.statuses[-1] == ("public", "metrics", "COMPLETE")


@pytest.mark.community
@pytest.mark.usefixtures("small_slices")
def test_chunks_compressed_and_decompressed_between_kill_and_resume_are_read_once(database: Database) -> None:
    create_chunks_one_of_them_large(database)
    database.execute(
        "ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')"
    )
    database.execute("SELECT compress_chunk(c) FROM show_chunks('metrics') c LIMIT 3")
    truth = Truth.of(database, "metrics")
    sync = InProcess(database.config())
    catalog = sync.catalog()

    killed = sync.read(catalog)
    database.execute(
        "SELECT CASE WHEN is_compressed THEN decompress_chunk(chunk) ELSE compress_chunk(chunk) END"
        " FROM (SELECT format('%I.%I', chunk_schema, chunk_name)::regclass AS chunk, is_compressed"
        " FROM timescaledb_information.chunks WHERE hypertable_name = 'metrics') AS c"
    )

    assert open_chunks(killed) >= 1
    assert_every_state_splits_the_read(sync, catalog, killed, truth)


@pytest.mark.parametrize("recreate", ["hypertable", "table"])
def test_a_relation_that_was_recreated_is_read_from_its_start(database: Database, recreate: str) -> None:
    def create() -> None:
        if recreate == "hypertable":
            create_hypertable(database)
        else:
            database.execute(
                "CREATE TABLE metrics (time timestamptz, device int, value int PRIMARY KEY, note text, bulk text)"
            )
            database.grant_select("metrics")

    create()
    fill(database, "2024-01-01", 6)
    sync = InProcess(database.config(timescaledb={"parallel_chunks": 1}))
    catalog = sync.catalog()
    killed = sync.read(catalog)
    database.execute("DROP TABLE metrics")
    create()
    fill(database, "2024-01-01", 6)

    for number in range(len(killed.states)):
        resumed = sync.read(catalog, killed.state(number + 1))

        assert Truth.of(database, "metrics").rows == Truth.of(database, "metrics").parsed(
            resumed.rows("metrics")
        )
        assert any("recreated" in line for line in resumed.logged)


@pytest.mark.usefixtures("small_slices")
def test_another_cursor_in_the_middle_of_a_read_starts_it_over(database: Database) -> None:
    create_hypertable(database)
    fill(database, "2024-01-01", 6)
    sync = InProcess(database.config())
    by_time, by_value = sync.catalog("incremental"), sync.catalog("incremental", metrics="value")
    killed = sync.read(by_time)
    truth = Truth.of(database, "metrics")

    for number in range(len(killed.states)):
        resumed = sync.read(by_value, killed.state(number + 1))

        assert truth.parsed(resumed.rows("metrics")) == truth.rows


def test_a_complete_state_of_a_full_refresh_leaves_nothing_to_read(database: Database) -> None:
    create_hypertable(database)
    fill(database, "2024-01-01", 3)
    sync = InProcess(database.config())
    whole = sync.read()

    again = sync.read(state=whole.state())

    assert again.rows("metrics") == []
    assert again.state() == [{**whole.state()[0], "sourceStats": {"recordCount": 0.0}}]
    assert again.statuses[-1] == ("public", "metrics", "COMPLETE")


@pytest.mark.usefixtures("small_slices")
def test_a_state_stays_small_however_many_chunks_there_are(database: Database) -> None:
    create_hypertable(database)
    fill(database, "2020-01-01", 150, per_day=1)
    settings = {"parallel_chunks": 8}

    states = InProcess(database.config(timescaledb=settings)).read().states

    assert len(states) >= 150
    assert max(len(orjson.dumps(state_of(state.message))) for state in states) <= LARGEST_STATE


def test_every_state_counts_the_records_since_the_one_before(database: Database) -> None:
    create_chunks_one_of_them_large(database)

    states = InProcess(database.config()).read().states

    counted, before = [state.message["sourceStats"]["recordCount"] for state in states], 0
    for state, count in zip(states, counted, strict=True):
        assert count == state.records_before - before
        before = state.records_before


@pytest.mark.any_server
def test_a_read_killed_again_and_again_ends_with_every_row(database: Database, tmp_path: Path) -> None:
    create_chunks_one_of_them_large(database, rows=20_000)
    truth = Truth.of(database, "metrics")
    connector = Connector(database.config(), tmp_path)
    catalog = InProcess(database.config()).catalog()
    kept: Rows = Rows()
    state = None

    for at in kills():
        killed = connector.read(catalog, state, at=[at], pipe_bytes=4096)
        printed = killed.rows("metrics")
        committed = killed.states[-1].records_before if killed.states else 0
        kept += truth.parsed(printed[:committed])

        assert killed.exit_code == -signal.SIGKILL
        assert len(printed) > committed
        state = killed.state() or state
    last = connector.read(catalog, state)

    assert last.exit_code == 0
    assert kept + truth.parsed(last.rows("metrics")) == truth.rows


def kills() -> Iterator[At]:
    """In the middle of a slice, with states before it; then at a STATE of the process that went on from there."""
    yield At("RECORD", 3000, signalled(signal.SIGKILL))
    yield At("RECORD", 9000, signalled(signal.SIGKILL))
