"""Hypertables are offered under their own names, whatever they are called and cut by, and all of them can be read.

The database of the first fixture is only read, so all the tests of a server share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from psycopg import sql

from integration_tests.inprocess import Ended
from integration_tests.offered import (
    DAYS,
    Name,
    assert_rows,
    identifier,
    let_read_everything,
    read_whole,
    select,
    source,
    streams,
)
from integration_tests.truth import Truth
from testkit.cluster import Cluster
from testkit.database import Database
from testkit.protocol import Json

ODD: Final = ("Odd Schema", 'an "odd" name, 100 %s \\ {é}')

BY_MOMENT: Final = (("public", "by_timestamptz"), ("public", "by_timestamp"), ("public", "by_date"))
BY_NUMBER: Final = (("public", "by_smallint"), ("public", "by_int"), ("public", "by_bigint"))
BY_MORE: Final = (
    ("public", "by_function"),
    ("public", "by_hash"),
    ("other", "by_date"),
    ("other", "elsewhere"),
    ODD,
)
HYPERTABLES: Final = (*BY_MOMENT, *BY_NUMBER, *BY_MORE)

MAKE_HYPERTABLES: Final = f"""
CREATE SCHEMA other; CREATE SCHEMA store; CREATE SCHEMA "Odd Schema";
CREATE FUNCTION moment(text) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS 'SELECT $1::timestamptz';

CREATE TABLE by_timestamptz (at timestamptz NOT NULL, n int);
CREATE TABLE by_timestamp (at timestamp NOT NULL, n int);
CREATE TABLE by_date (at date NOT NULL, n int);
CREATE TABLE other.by_date (at date NOT NULL, m int);
CREATE TABLE other.elsewhere (at timestamptz NOT NULL, n int);
CREATE TABLE by_function (at text NOT NULL, n int);
CREATE TABLE by_hash (at timestamptz NOT NULL, n int, device text);
SELECT create_hypertable(name, 'at', chunk_time_interval => interval '1 day')
FROM unnest('{{by_timestamptz, by_timestamp, by_date, other.by_date}}'::regclass[]) name;
SELECT create_hypertable('other.elsewhere', 'at', chunk_time_interval => interval '1 day',
                         associated_schema_name => 'store', associated_table_prefix => 'metrics');
SELECT create_hypertable('by_function', 'at', chunk_time_interval => interval '1 day',
                         time_partitioning_func => 'moment');
SELECT create_hypertable('by_hash', 'at', 'device', 3, chunk_time_interval => interval '1 day');
INSERT INTO by_timestamptz SELECT {DAYS}, i FROM generate_series(0, 239) i;
INSERT INTO by_timestamp SELECT ({DAYS}) AT TIME ZONE 'UTC', i FROM generate_series(0, 239) i;
INSERT INTO by_date SELECT (({DAYS}) AT TIME ZONE 'UTC')::date, i FROM generate_series(0, 239) i;
INSERT INTO other.by_date SELECT date '2023-12-31' + i, -i FROM generate_series(0, 9) i;
INSERT INTO other.elsewhere SELECT {DAYS}, i FROM generate_series(0, 239) i;
INSERT INTO by_function SELECT to_char(({DAYS}) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI"Z"'), i
FROM generate_series(0, 239) i;
INSERT INTO by_hash SELECT {DAYS}, i, 'device ' || i % 11 FROM generate_series(0, 239) i;

CREATE TABLE by_smallint (at smallint NOT NULL, n int);
CREATE TABLE by_int (at int NOT NULL, n int);
CREATE TABLE by_bigint (at bigint NOT NULL, n int);
SELECT create_hypertable(name, 'at', chunk_time_interval => 100)
FROM unnest('{{by_smallint, by_int, by_bigint}}'::regclass[]) name;
INSERT INTO by_smallint SELECT i, i FROM generate_series(-350, 350, 7) i;
INSERT INTO by_int SELECT i, i FROM generate_series(-350, 350, 7) i;
INSERT INTO by_bigint SELECT i, i FROM generate_series(-350, 350, 7) i;
INSERT INTO by_smallint VALUES (-32768, 1), (32767, 2);
INSERT INTO by_int VALUES (-2147483648, 1), (2147483647, 2);
INSERT INTO by_bigint VALUES (-9223372036854775808, 1), (9223372036854775806, 2);
"""


def make_odd(database: Database) -> None:
    """A hypertable none of whose names can be written without quotes."""
    table, time = identifier(ODD), '"The ""Time"" %"'
    database.execute(
        f'CREATE TABLE {table} ({time} timestamptz NOT NULL, "n\'" int, "back\\slash" text)'.encode()
    )
    database.session("owner").execute(
        sql.SQL("SELECT create_hypertable({}, {}, chunk_time_interval => interval '1 day')").format(
            sql.Literal(table), sql.Literal('The "Time" %')
        )
    )
    database.execute(f"INSERT INTO {table} SELECT {DAYS}, i, 'x' FROM generate_series(0, 239) i".encode())


@pytest.fixture(scope="module")
def hypertables(server: Cluster) -> Iterator[Database]:
    """A database of hypertables of every kind, left as they are."""
    with server.database() as database:
        database.execute(MAKE_HYPERTABLES.encode())
        make_odd(database)
        let_read_everything(database, "public", "other", "store", "Odd Schema")
        yield database


def test_hypertables_are_offered_and_neither_their_chunks_nor_anything_internal(
    hypertables: Database,
) -> None:
    everywhere = streams(source(hypertables).discover())
    where_chunks_lie = streams(source(hypertables, ("store", "_timescaledb_internal")).discover())

    assert set(everywhere) == set(HYPERTABLES)
    assert where_chunks_lie == {}
    for name, stream in everywhere.items():
        assert stream["is_resumable"]
        cursor = "at" if name != ODD else 'The "Time" %'
        assert stream["default_cursor_field"] == [cursor]


def test_a_hypertable_of_any_kind_is_read_completely(hypertables: Database) -> None:
    by_chunk = read_whole(source(hypertables))
    by_query = read_whole(source(hypertables, chunk_by_chunk=False))
    in_slices = read_whole(source(hypertables, fetch_rows=1, max_transaction_seconds=0.05))

    for output in (by_chunk, by_query, in_slices):
        assert output.records.keys() == set(HYPERTABLES)
        for name in HYPERTABLES:
            assert_rows(hypertables, output, name)


@pytest.mark.parametrize("by_chunk", [True, False], ids=["by chunk", "in one query"])
def test_a_cursor_reads_a_hypertable_of_any_kind_completely_and_once(
    hypertables: Database, *, by_chunk: bool
) -> None:
    one = source(hypertables, chunk_by_chunk=by_chunk)
    catalog = select(one.discover(), sync_mode="incremental")

    first = one.read(catalog)
    second = one.read(catalog, first.state())

    for name in HYPERTABLES:
        assert_rows(hypertables, first, name)
    assert second.errors == []
    assert second.records == {}


def test_schemas_without_public_are_read_under_their_own_names(hypertables: Database) -> None:
    output = read_whole(source(hypertables, ("other", "Odd Schema")))

    assert output.records.keys() == {("other", "by_date"), ("other", "elsewhere"), ODD}
    for name in (("other", "by_date"), ("other", "elsewhere"), ODD):
        assert_rows(hypertables, output, name)


def test_a_stream_without_a_namespace_is_in_public(hypertables: Database) -> None:
    catalog = select(source(hypertables).discover(), ("public", "by_date"))
    del catalog["streams"][0]["stream"]["namespace"]

    output = source(hypertables).read(catalog)

    assert output.errors == []
    assert_rows(hypertables, output, ("public", "by_date"))


def test_patterns_choose_hypertables(hypertables: Database) -> None:
    settings: Json = {
        "include_hypertables": ["by_*", "Odd Schema.*"],
        "exclude_hypertables": ["other.*", "by_?igint"],
    }
    everything = source(hypertables).discover()
    chosen = source(hypertables, **settings)

    offered = set(streams(chosen.discover()))
    output = chosen.read(select(everything, ("public", "by_int"), ("public", "by_bigint")))

    assert offered == set(HYPERTABLES) - {
        ("public", "by_bigint"),
        ("other", "by_date"),
        ("other", "elsewhere"),
    }
    assert_rows(hypertables, output, ("public", "by_int"))
    (error,) = output.errors
    assert error["stream_descriptor"] == {"name": "by_bigint", "namespace": "public"}
    assert error["failure_type"] == "config_error"
    assert "exclude_hypertables" in error["message"]


def test_check_names_the_patterns_that_match_no_hypertable(hypertables: Database) -> None:
    settings: Json = {"include_hypertables": ["by_*", "metrix"], "exclude_hypertables": ["other.*", "late?"]}

    succeeded, _, logged = source(hypertables, **settings).check()

    assert succeeded
    assert [line.split(":")[0] for line in logged if "timescaledb.include_hypertables: metrix." in line] == [
        "WARNING"
    ]
    assert [line.split(":")[0] for line in logged if "timescaledb.exclude_hypertables: late?." in line] == [
        "INFO"
    ]


def test_the_chunk_of_every_row_can_be_named(hypertables: Database) -> None:
    name_of_chunk = (
        "(SELECT nspname || '.' || relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE c.oid = t.tableoid)"
    )
    one = source(hypertables, emit_chunk_metadata=True)

    catalog = one.discover()
    output = read_whole(one)

    for name, stream in streams(catalog).items():
        truth = Truth.of(hypertables, f"SELECT *, {name_of_chunk} AS _ts_chunk FROM {identifier(name)} t")
        assert truth.parsed(output.records[name]) == truth.rows
        assert list(stream["json_schema"]["properties"])[-1] == "_ts_chunk"


@pytest.mark.parametrize("by_chunk", [True, False], ids=["by chunk", "in one query"])
@pytest.mark.parametrize(
    ("since", "bounded", "where"),
    [
        ("2024-01-05T06:00:00Z", BY_MOMENT, "at >= timestamptz '2024-01-05 06:00Z' AT TIME ZONE 'UTC'"),
        ("2024-01-05", BY_MOMENT, "at >= timestamptz '2024-01-05 00:00Z' AT TIME ZONE 'UTC'"),
        ("-140", BY_NUMBER, "at >= -140"),
    ],
)
def test_a_load_begins_where_it_is_told_to(
    hypertables: Database, since: str, bounded: tuple[Name, ...], where: str, *, by_chunk: bool
) -> None:
    hypertables.session("owner").execute("SET TimeZone = 'UTC'")
    names = (*BY_MOMENT, *BY_NUMBER, ("public", "by_function"))

    output = read_whole(source(hypertables, snapshot_since=since, chunk_by_chunk=by_chunk), *names)

    warned = {line for line in output.logged if line.startswith("WARNING")}
    for name in names:
        assert_rows(hypertables, output, name, where if name in bounded else "true")
        does_not_fit = f"does not fit the time dimension of {'.'.join(name)}: all of it is read."
        assert any(does_not_fit in line for line in warned) == (name not in bounded)


def test_the_newest_chunks_can_be_read_first(hypertables: Database) -> None:
    newest = source(hypertables, snapshot_order="newest_first", parallel_chunks=1)

    output = read_whole(newest, ("public", "by_timestamptz"), ("public", "by_int"))

    days = [row["at"][:10] for row in output.rows("by_timestamptz")]
    hundreds = [row["at"] // 100 for row in output.rows("by_int")]
    assert days == sorted(days, reverse=True)
    assert hundreds == sorted(hundreds, reverse=True)
    assert_rows(hypertables, output, ("public", "by_timestamptz"))
    assert_rows(hypertables, output, ("public", "by_int"))


SCANS: Final = """
SELECT s.relid::regclass::text, s.seq_scan + coalesce(s.idx_scan, 0)
FROM pg_stat_all_tables s JOIN show_chunks('many') chunk ON chunk = s.relid
"""


def scanned(database: Database, act: Callable[[], object]) -> set[str]:
    """The chunks of `many` that were scanned while `act` ran; a backend tells its numbers when it ends."""
    before = dict(when_alone(database).execute(SCANS).fetchall())
    act()
    after = when_alone(database).execute(SCANS).fetchall()
    return {chunk for chunk, scans in after if scans > before[chunk]}


def chunks_with(database: Database, condition: str) -> set[str]:
    found = database.rows(f"SELECT DISTINCT tableoid::regclass::text FROM many WHERE {condition}".encode())
    return {row[0] for row in found}


def when_alone(database: Database) -> Any:
    database.disconnect()
    others = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    for _ in range(2000):
        if database.as_superuser().execute(others).fetchone() == (0,):
            return database.as_superuser()
    raise AssertionError("there are still other sessions")


def test_only_the_chunks_that_can_hold_wanted_rows_are_touched(database: Database) -> None:
    database.execute("CREATE TABLE many (at timestamptz NOT NULL, n int)")
    database.execute("SELECT create_hypertable('many', 'at', chunk_time_interval => interval '1 day')")
    hours = "SELECT now() - i * interval '1 hour' - interval '30 minutes', i FROM generate_series({}) i"
    database.execute(f"INSERT INTO many {hours.format('0, 1199')}".encode())
    database.grant_select("many")
    # Of the oldest day, too, where its rows of the last 72 hours would be: it may have none.
    recent = chunks_with(database, "at >= date_trunc('day', now() - interval '72 hours', 'UTC')")
    last = chunks_with(database, "n = 0")
    one = source(database, snapshot_since="72 hours")
    catalog = select(one.discover(), sync_mode="incremental")
    outputs: list[Ended] = []

    by_since = scanned(database, lambda: outputs.append(one.read(catalog)))
    database.execute(f"INSERT INTO many {hours.format('-1, -1')}".encode())
    last |= chunks_with(database, "n = -1")
    by_cursor = scanned(database, lambda: outputs.append(one.read(catalog, outputs[0].state())))

    first, second = outputs
    assert {row["n"] for row in first.rows("many")} == set(range(72))
    assert [row["n"] for row in second.rows("many")] == [-1]
    assert by_since == recent
    assert by_cursor == last
