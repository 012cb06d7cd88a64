"""What is offered is what the database's users know, and all of it can be read: every kind of relation, under any name.

The databases of the first two fixtures are only read, so all the tests of a server share them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from jsonschema import Draft7Validator
from psycopg import sql

from integration_tests.inprocess import Ended, InProcess
from integration_tests.truth import Truth
from testkit.cluster import Cluster
from testkit.database import Database
from testkit.protocol import Json, configured

Name = tuple[str, str]
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
DAYS: Final = "timestamptz '2024-01-01 00:00Z' + i * interval '1 hour'"

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


def identifier(name: Name) -> str:
    return sql.Identifier(*name).as_string(None)


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


def let_read_everything(database: Database, *schemas: str) -> None:
    for schema in schemas:
        for right in ("USAGE ON SCHEMA {}", "SELECT ON ALL TABLES IN SCHEMA {}"):
            database.execute(
                sql.SQL(f"GRANT {right} TO {{}}").format(
                    sql.Identifier(schema), sql.Identifier(database.reader)
                )
            )


def source(database: Database, schemas: tuple[str, ...] = (), **overrides: Any) -> InProcess:
    """The connector for these schemas, all by default; other settings are those of `timescaledb`."""
    return InProcess(database.config(schemas=list(schemas), timescaledb=overrides))


def streams(catalog: Json) -> dict[Name, Json]:
    found = {(stream["namespace"], stream["name"]): stream for stream in catalog["streams"]}
    assert len(found) == len(catalog["streams"])
    return found


def select(catalog: Json, *names: Name, sync_mode: str = "full_refresh") -> Json:
    """A configured catalog of these streams, all by default; names are those of schema and table."""
    found = streams(catalog)
    return {"streams": [configured(found[name], sync_mode, None) for name in names or found]}


def read_whole(source: InProcess, *names: Name) -> Ended:
    output = source.read(select(source.discover(), *names))
    assert output.failure is None
    assert output.errors == []
    return output


def assert_rows(database: Database, output: Ended, name: Name, where: str = "true") -> None:
    truth = Truth.of(database, f"SELECT * FROM {identifier(name)} WHERE {where}")
    assert truth.rows
    assert truth.parsed(output.records[name]) == truth.rows


def keys(stream: Json) -> list[str] | None:
    found = stream.get("source_defined_primary_key")
    return [name for (name,) in found] if found else None


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


MAKE_RELATIONS: Final = """
CREATE SCHEMA far;
CREATE TABLE keyed (id int PRIMARY KEY, code text NOT NULL UNIQUE, n int);
CREATE TABLE keyed_by_two (a int, b text, n int, PRIMARY KEY (b, a));
CREATE TABLE far.keyed (id int, name text NOT NULL UNIQUE);
CREATE TABLE uniquely (n int, code text NOT NULL UNIQUE);
CREATE TABLE included (n int NOT NULL, code text NOT NULL); CREATE UNIQUE INDEX ON included (code) INCLUDE (n);
CREATE TABLE nullable (code text UNIQUE);
CREATE TABLE partly (code text NOT NULL, n int NOT NULL); CREATE UNIQUE INDEX ON partly (code) WHERE n > 0;
CREATE TABLE by_expression (code text NOT NULL); CREATE UNIQUE INDEX ON by_expression (lower(code));
CREATE TABLE unordered (flag boolean);
CREATE TABLE measured (device int, at timestamptz, n int, PRIMARY KEY (device, at));
CREATE TABLE measured_uniquely (at timestamptz NOT NULL, device int NOT NULL, n int);
CREATE UNIQUE INDEX ON measured_uniquely (device, at);
SELECT create_hypertable(name, 'at') FROM unnest('{measured, measured_uniquely}'::regclass[]) name;
CREATE TABLE split (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
CREATE TABLE split_low PARTITION OF split FOR VALUES FROM (0) TO (50);
CREATE TABLE split_high PARTITION OF split FOR VALUES FROM (50) TO (1000) PARTITION BY RANGE (id);
CREATE TABLE far.split_highest PARTITION OF split_high FOR VALUES FROM (50) TO (1000);
CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (more text) INHERITS (parent);
CREATE VIEW seen AS SELECT id, n * 2 AS twice FROM keyed;
CREATE MATERIALIZED VIEW stored AS SELECT code, n FROM keyed WITH NO DATA;
CREATE UNIQUE INDEX ON stored (code);
CREATE SEQUENCE counted; CREATE TYPE pair AS (a int, b int);
CREATE TABLE forbidden (id int);
INSERT INTO keyed SELECT i, 'code ' || i, i % 7 FROM generate_series(1, 100) i;
INSERT INTO keyed_by_two SELECT i / 10, 'b' || i % 10, i FROM generate_series(1, 100) i;
INSERT INTO far.keyed SELECT -i, 'name ' || i FROM generate_series(1, 100) i;
INSERT INTO uniquely SELECT i, 'code ' || i FROM generate_series(1, 100) i;
INSERT INTO included SELECT i, 'code ' || i FROM generate_series(1, 100) i;
INSERT INTO nullable SELECT nullif('code ' || i % 50, 'code 0') FROM generate_series(1, 49) i;
INSERT INTO nullable VALUES (NULL), (NULL);
INSERT INTO partly SELECT 'code', -i FROM generate_series(1, 100) i;
INSERT INTO by_expression SELECT 'code ' || i FROM generate_series(1, 100) i;
INSERT INTO unordered VALUES (true), (false), (NULL);
INSERT INTO measured SELECT i % 3, timestamptz '2024-01-01' + i * interval '5 hours', i FROM generate_series(1, 100) i;
INSERT INTO measured_uniquely SELECT at, device, n FROM measured;
INSERT INTO split SELECT i, i FROM generate_series(1, 100) i;
INSERT INTO parent SELECT generate_series(1, 10); INSERT INTO child SELECT i, 'more' FROM generate_series(11, 20) i;
REFRESH MATERIALIZED VIEW stored;
"""

KEYS: Final[dict[Name, list[str] | None]] = {
    ("far", "keyed"): ["name"],
    ("public", "by_expression"): None,
    ("public", "child"): None,
    ("public", "distant"): None,
    ("public", "included"): ["code"],
    ("public", "keyed"): ["id"],
    ("public", "keyed_by_two"): ["b", "a"],
    ("public", "measured"): ["device", "at"],
    ("public", "measured_uniquely"): ["device", "at"],
    ("public", "nullable"): None,
    ("public", "parent"): ["id"],
    ("public", "partly"): None,
    ("public", "seen"): None,
    ("public", "split"): ["id"],
    ("public", "stored"): None,
    ("public", "uniquely"): ["code"],
    ("public", "unordered"): None,
}
"""Every stream of `MAKE_RELATIONS` and its key. Of a materialized view no column is NOT NULL, so none has a key."""


def make_foreign_table(database: Database) -> None:
    """`distant`, which is `keyed` seen through a connection of the server to itself."""
    superuser, address = database.as_superuser(), database.cluster.address
    superuser.execute("CREATE EXTENSION postgres_fdw")
    superuser.execute("CREATE EXTENSION pg_stat_statements SCHEMA public")
    literals = {
        "host": sql.Literal(address.host),
        "port": sql.Literal(str(address.port)),
        "database": sql.Literal(database.name),
        "reader": sql.Identifier(database.reader),
        "user": sql.Literal(database.reader),
        "password": sql.Literal(database.passwords["reader"]),
    }
    for statement in (
        "CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host {host}, port {port}, dbname {database})",
        "CREATE USER MAPPING FOR {reader} SERVER loop OPTIONS (user {user}, password {password})",
        "CREATE FOREIGN TABLE distant (id int, code text, n int) SERVER loop OPTIONS (table_name 'keyed')",
        "GRANT SELECT ON distant TO {reader}",
    ):
        superuser.execute(sql.SQL(statement).format(**literals))


@pytest.fixture(scope="module")
def relations(server: Cluster) -> Iterator[Database]:
    """A database of relations of every kind, with keys of every kind, left as they are."""
    with server.database() as database:
        database.execute(MAKE_RELATIONS.encode())
        let_read_everything(database, "public", "far")
        revoke = sql.SQL("REVOKE SELECT ON forbidden FROM {}")
        database.execute(revoke.format(sql.Identifier(database.reader)))
        make_foreign_table(database)
        yield database


def test_every_relation_is_offered_with_the_key_it_really_has(relations: Database) -> None:
    offered = streams(source(relations).discover())

    assert {name: keys(stream) for name, stream in offered.items()} == KEYS
    for name, stream in offered.items():
        assert stream["is_resumable"] == (KEYS[name] is not None)
        assert stream["source_defined_cursor"] is False
        cursor = ["at"] if name[1].startswith("measured") else None
        assert stream.get("default_cursor_field") == cursor
        modes = ["full_refresh"] if name[1] == "unordered" else ["full_refresh", "incremental"]
        assert stream["supported_sync_modes"] == modes


def test_every_relation_is_read_completely_and_as_its_schema_says(relations: Database) -> None:
    one = source(relations)

    catalog = one.discover()
    output = read_whole(one)

    assert output.records.keys() == KEYS.keys()
    for name, stream in streams(catalog).items():
        as_reader = Truth.of(relations, f"SELECT * FROM {identifier(name)}", role="reader")
        assert as_reader.parsed(output.records[name]) == as_reader.rows
        schema = Draft7Validator(stream["json_schema"])
        for record in output.records[name]:
            schema.validate(record)


def test_without_checking_privileges_what_the_role_may_not_read_is_offered_too(relations: Database) -> None:
    config = relations.config(schemas=[], check_privileges=False)

    offered = streams(InProcess(config).discover())

    assert set(offered) == {*KEYS, ("public", "forbidden")}


def test_every_type_of_the_server_has_a_valid_schema(database: Database) -> None:
    names = database.rows(
        "SELECT oid::regtype::text FROM pg_type WHERE typtype IN ('b', 'r', 'm')"
        " AND typnamespace = 'pg_catalog'::regnamespace AND typelem NOT IN"
        " (SELECT oid FROM pg_type WHERE typtype IN ('c', 'p')) ORDER BY oid"
    )
    columns = ", ".join(f"c{number} {name}" for number, (name,) in enumerate(names))
    database.execute(f"CREATE TABLE typed ({columns})".encode())
    database.execute("INSERT INTO typed DEFAULT VALUES")
    database.grant_select("typed")

    (stream,) = source(database).discover()["streams"]
    output = read_whole(source(database))

    properties = stream["json_schema"]["properties"]
    assert len(properties) == len(names) > 100
    Draft7Validator.check_schema(stream["json_schema"])
    for schema in properties.values():
        Draft7Validator.check_schema(schema)
        assert "null" in schema["type"]
    assert output.rows("typed") == [dict.fromkeys(properties)]


def test_a_database_without_the_extension_is_read_as_plain_postgresql(plain_database: Database) -> None:
    plain_database.execute("CREATE TABLE parts (id int PRIMARY KEY, note text)")
    plain_database.execute("INSERT INTO parts SELECT i, 'note' FROM generate_series(1, 5000) i")
    plain_database.execute("CREATE VIEW seen AS SELECT * FROM parts WHERE id < 10")
    plain_database.grant_select("parts", "seen")

    offered = streams(source(plain_database).discover())
    output = read_whole(source(plain_database, snapshot_since="1 day", emit_chunk_metadata=True))

    assert set(offered) == {("public", "parts"), ("public", "seen")}
    for name in offered:
        assert_rows(plain_database, output, name)


MAKE_AGGREGATES: Final = f"""
CREATE SCHEMA reports;
CREATE TABLE metrics (at timestamptz NOT NULL, device int NOT NULL, value int);
SELECT create_hypertable('metrics', 'at', chunk_time_interval => interval '1 day');
ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device');
INSERT INTO metrics SELECT {DAYS}, i % 5, i FROM generate_series(0, 239) i;
CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous) AS
SELECT time_bucket('6 hours', at) AS bucket, device, sum(value) AS total FROM metrics GROUP BY 1, 2 WITH NO DATA;
CALL refresh_continuous_aggregate('hourly', NULL, NULL);
CREATE MATERIALIZED VIEW reports.daily WITH (timescaledb.continuous) AS
SELECT time_bucket('1 day', bucket) AS day, sum(total) AS total FROM hourly GROUP BY 1 WITH NO DATA;
CALL refresh_continuous_aggregate('reports.daily', NULL, NULL);
CREATE MATERIALIZED VIEW live WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket('1 day', at) AS day, count(*) AS number FROM metrics GROUP BY 1 WITH NO DATA;
CALL refresh_continuous_aggregate('live', NULL, '2024-01-06 00:00Z');
CREATE MATERIALIZED VIEW parities WITH (timescaledb.continuous) AS
SELECT device % 2 AS parity, count(DISTINCT device) AS devices, time_bucket('1 day', at) AS day FROM metrics
GROUP BY 3, 1 WITH NO DATA;
CALL refresh_continuous_aggregate('parities', NULL, NULL);
ALTER MATERIALIZED VIEW hourly RENAME TO six_hourly;
ALTER MATERIALIZED VIEW six_hourly RENAME COLUMN device TO machine;
SELECT compress_chunk(chunk) FROM show_chunks('metrics', older_than => timestamptz '2024-01-07') chunk
"""
AGGREGATES: Final[dict[Name, list[str]]] = {
    ("public", "parities"): ["day", "parity"],
    ("public", "six_hourly"): ["bucket", "machine"],
    ("reports", "daily"): ["day"],
    ("public", "live"): ["day"],
}


@pytest.fixture(scope="module")
def aggregates(community_server: Cluster) -> Iterator[Database]:
    """A database of a compressed hypertable and continuous aggregates, whose rows are left as they are."""
    with community_server.database() as database:
        for statement in MAKE_AGGREGATES.split(";"):
            database.execute(statement.encode())
        let_read_everything(database, "public", "reports")
        yield database


@pytest.mark.community
@pytest.mark.parametrize("by_chunk", [True, False], ids=["by chunk", "in one query"])
def test_continuous_aggregates_are_read_under_their_own_names_as_far_as_they_are_materialized(
    aggregates: Database, *, by_chunk: bool
) -> None:
    one = source(aggregates, chunk_by_chunk=by_chunk)

    offered = streams(one.discover())
    output = read_whole(one)

    assert set(offered) == {("public", "metrics"), *AGGREGATES}
    assert {name: keys(offered[name]) for name in AGGREGATES} == AGGREGATES
    for name, (bucket, *_) in AGGREGATES.items():
        assert offered[name]["default_cursor_field"] == [bucket]
        assert offered[name]["is_resumable"]
    for name in offered.keys() - {("public", "live")}:
        assert_rows(aggregates, output, name)
    assert_rows(aggregates, output, ("public", "live"), "day < '2024-01-06 00:00Z'")
    assert aggregates.value("SELECT count(*) FROM live") > len(output.rows("live"))


@pytest.mark.community
def test_continuous_aggregates_can_be_left_out(aggregates: Database) -> None:
    offered = streams(source(aggregates, continuous_aggregates=False).discover())

    assert set(offered) == {("public", "metrics")}


@pytest.mark.community
@pytest.mark.parametrize("by_chunk", [True, False], ids=["by chunk", "in one query"])
def test_a_cursor_follows_a_continuous_aggregate_as_far_as_it_is_materialized(
    aggregates: Database, *, by_chunk: bool
) -> None:
    one = source(aggregates, chunk_by_chunk=by_chunk)
    catalog = select(one.discover(), *AGGREGATES, sync_mode="incremental")

    first = one.read(catalog)
    second = one.read(catalog, first.state())

    assert_rows(aggregates, first, ("public", "six_hourly"))
    assert_rows(aggregates, first, ("reports", "daily"))
    assert_rows(aggregates, first, ("public", "live"), "day < '2024-01-06 00:00Z'")
    assert second.errors == []
    assert second.records == {}


@pytest.mark.community
def test_compressed_relations_are_nowhere_offered(aggregates: Database) -> None:
    superuser = aggregates.as_superuser()
    superuser.execute(
        sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA _timescaledb_internal TO {}").format(
            sql.Identifier(aggregates.reader)
        )
    )

    offered = streams(source(aggregates).discover())
    internal = streams(source(aggregates, ("_timescaledb_internal", "_timescaledb_catalog")).discover())

    assert set(offered) == {("public", "metrics"), *AGGREGATES}
    assert internal == {}
