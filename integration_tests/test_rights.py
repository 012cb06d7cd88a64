"""A role gets what its own SELECT gives it, no row and no column more, in every chunk, however late it was born.

Chunks carry neither the policies of their hypertable nor the column privileges granted before they were born, so what
is fast for others, reading chunks by name, is wrong for such a role. Each scene has chunks from before and after the
grant, in one dimension and in two, and in schemas of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import psycopg
import pytest
from psycopg import sql

from integration_tests.inprocess import Ended, InProcess
from integration_tests.truth import Truth
from testkit.database import Database
from testkit.protocol import Json

HYPERTABLES: Final = ("public.flat", "public.hashed", "plant.apart")
ALL_COLUMNS: Final = ("time", "device", "value", "note")


def make_hypertables(database: Database) -> None:
    """One hypertable by time, one by time and a hash of `device`, one in a schema of its own with chunks in another."""
    database.execute("CREATE SCHEMA plant")
    database.execute("CREATE SCHEMA store")
    for name, more in zip(
        HYPERTABLES,
        (
            "",
            ", partitioning_column => 'device', number_partitions => 3",
            ", partitioning_column => 'device', number_partitions => 2, associated_schema_name => 'store'",
        ),
        strict=True,
    ):
        database.execute(
            f"CREATE TABLE {name} (time timestamptz NOT NULL, device int NOT NULL, value float8, note text);"
            f"SELECT create_hypertable('{name}', 'time', chunk_time_interval => interval '1 day'{more})".encode()
        )
    let_use(database, "plant", "store")


def let_use(database: Database, *schemas: str) -> None:
    for schema in schemas:
        database.execute(
            sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(
                sql.Identifier(schema), sql.Identifier(database.reader)
            )
        )


def fill(database: Database, tables: Iterable[str], *, first_day: int) -> None:
    """Two days, 150 rows each, with several rows alike; both days' chunks are new."""
    for table in tables:
        database.execute(
            f"INSERT INTO {table} SELECT timestamptz '2024-01-01' + {first_day} * interval '1 day'"
            "  + (i / 2) * interval '19 minutes', i / 2 % 7, i / 2, CASE WHEN i % 5 > 0 THEN 'note' END"
            " FROM generate_series(0, 299) i".encode()
        )


def grant_columns(database: Database, table: str, columns: Iterable[str]) -> None:
    database.execute(
        sql.SQL("GRANT SELECT ({}) ON {} TO {}").format(
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.Identifier(*table.split(".")),
            sql.Identifier(database.reader),
        )
    )


def secure(database: Database, table: str) -> None:
    """Only even devices are for the reader."""
    database.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY".encode())
    database.execute(
        sql.SQL("CREATE POLICY even ON {} FOR SELECT TO {} USING (device % 2 = 0)").format(
            sql.Identifier(*table.split(".")), sql.Identifier(database.reader)
        )
    )


def source(database: Database, **timescaledb: object) -> InProcess:
    return InProcess(database.config(schemas=["public", "plant"], timescaledb=timescaledb))


def assert_complete(output: Ended) -> None:
    assert output.failure is None
    assert output.errors == []
    assert {status for _, _, status in output.statuses} == {"STARTED", "RUNNING", "COMPLETE"}


def assert_reads_as_it_selects(
    database: Database, output: Ended, table: str, columns: Iterable[str] = ALL_COLUMNS
) -> None:
    truth = Truth.of(database, f"SELECT {', '.join(columns)} FROM {table}", role="reader")
    schema, name = table.split(".")
    assert truth.rows
    assert truth.parsed(output.rows(name, schema)) == truth.rows


def chunk_names(database: Database, table: str) -> list[str]:
    return [row[0] for row in database.rows("SELECT show_chunks(%s)::text ORDER BY 1", (table,))]


@pytest.fixture
def secured(database: Database) -> Database:
    """Hypertables and a table with a key, not all of it for the reader; half the chunks were born after the grant."""
    make_hypertables(database)
    database.execute("CREATE TABLE keyed (id int PRIMARY KEY, device int NOT NULL, note text)")
    database.execute("INSERT INTO keyed SELECT i, i % 7, 'note' FROM generate_series(1, 5000) i")
    fill(database, HYPERTABLES, first_day=0)
    for table in (*HYPERTABLES, "public.keyed"):
        database.grant_select(table)
        secure(database, table)
    fill(database, HYPERTABLES, first_day=10)
    return database


def test_a_chunk_read_by_its_own_name_shows_the_rows_that_a_policy_hides(secured: Database) -> None:
    """The trap itself, so that reading through the hypertable is known to be needed on this server."""
    count = "SELECT count(*) FROM {} WHERE device % 2 = 1"

    through_the_hypertable = secured.session("reader").execute(count.format("public.flat").encode())
    by_name = [
        secured.session("reader").execute(count.format(chunk).encode()).fetchone()
        for chunk in chunk_names(secured, "public.flat")
    ]

    assert through_the_hypertable.fetchone() == (0,)
    assert all(found and found[0] > 0 for found in by_name)


def test_rows_hidden_by_row_level_security_are_not_read(secured: Database) -> None:
    by_chunk = source(secured).read()
    by_query = source(secured, chunk_by_chunk=False).read()
    in_small_fetches = source(secured, fetch_rows=1, max_transaction_seconds=0.05, parallel_chunks=3).read()

    for output in (by_chunk, by_query, in_small_fetches):
        assert_complete(output)
        for table in HYPERTABLES:
            assert_reads_as_it_selects(secured, output, table)
        assert_reads_as_it_selects(secured, output, "public.keyed", ("id", "device", "note"))
        devices = {row["device"] for rows in output.records.values() for row in rows}
        assert devices == {0, 2, 4, 6}


def test_a_cursor_follows_only_the_rows_that_row_level_security_shows(secured: Database) -> None:
    catalog = source(secured).catalog("incremental", ["flat", "hashed", "apart"])

    first = source(secured).read(catalog)
    fill(secured, HYPERTABLES, first_day=20)
    second = source(secured).read(catalog, first.state())

    for table in HYPERTABLES:
        schema, name = table.split(".")
        truth = Truth.of(secured, table, role="reader")
        assert second.rows(name, schema)
        assert truth.parsed(first.rows(name, schema) + second.rows(name, schema)) == truth.rows


def test_a_role_without_a_policy_gets_no_row_and_a_complete_stream(database: Database) -> None:
    make_hypertables(database)
    fill(database, ["public.hashed"], first_day=0)
    database.grant_select("hashed")
    database.execute("ALTER TABLE hashed ENABLE ROW LEVEL SECURITY")

    output = source(database).read()

    assert output.records == {}
    assert output.errors == []
    assert output.statuses[-1] == ("public", "hashed", "COMPLETE")


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param(("time", "device", "value"), id="with both dimensions"),
        pytest.param(("time", "value", "note"), id="without the hashed column"),
        pytest.param(("device", "value"), id="without time"),
        pytest.param(("note",), id="without any dimension"),
    ],
)
def test_a_role_with_column_privileges_gets_every_row_of_these_columns(
    database: Database, columns: tuple[str, ...]
) -> None:
    make_hypertables(database)
    fill(database, HYPERTABLES, first_day=0)
    for table in HYPERTABLES:
        grant_columns(database, table, columns)
    fill(database, HYPERTABLES, first_day=10)

    catalog = source(database).discover()
    by_chunk = source(database).read()
    in_small_fetches = source(database, fetch_rows=1, max_transaction_seconds=0.05, parallel_chunks=3).read()

    assert [properties(stream) for stream in catalog["streams"]] == [list(columns)] * len(HYPERTABLES)
    for output in (by_chunk, in_small_fetches):
        assert_complete(output)
        for table in HYPERTABLES:
            assert_reads_as_it_selects(database, output, table, columns)


def properties(stream: Json) -> list[str]:
    return list(stream["json_schema"]["properties"])


def test_what_needs_a_column_that_may_not_be_read_is_left_undone_and_said(database: Database) -> None:
    make_hypertables(database)
    fill(database, HYPERTABLES, first_day=0)
    grant_columns(database, "public.flat", ["device", "value"])
    grant_columns(database, "public.hashed", ["time", "value"])

    output = source(database, snapshot_since="2024-01-02", emit_chunk_metadata=True).read()

    chunk = "NULL::text AS _ts_chunk"
    flat = Truth.of(database, f"SELECT device, value, {chunk} FROM flat", role="reader")
    hashed = Truth.of(
        database, f"SELECT time, value, {chunk} FROM hashed WHERE time >= '2024-01-02 00:00Z'", role="reader"
    )
    assert_complete(output)
    assert flat.parsed(output.rows("flat")) == flat.rows
    assert hashed.parsed(output.rows("hashed")) == hashed.rows
    (warning,) = [line for line in output.logged if line.startswith("WARNING")]
    assert "needs the time column of public.flat" in warning


def test_a_chunk_born_after_a_column_grant_cannot_be_read_by_its_own_name(database: Database) -> None:
    """The trap itself."""
    make_hypertables(database)
    grant_columns(database, "public.flat", ["time"])
    fill(database, ["public.flat"], first_day=0)

    for chunk in chunk_names(database, "public.flat"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            database.session("reader").execute(f"SELECT time FROM {chunk}".encode())


def test_a_key_is_offered_only_where_all_of_it_may_be_read(database: Database) -> None:
    database.execute("CREATE TABLE pairs (a int, b int, note text, PRIMARY KEY (a, b))")
    database.execute("INSERT INTO pairs SELECT i / 10, i, 'note' FROM generate_series(0, 99) i")
    grant_columns(database, "pairs", ["a", "note"])

    (stream,) = source(database).discover()["streams"]
    output = source(database).read()

    assert "source_defined_primary_key" not in stream
    assert_complete(output)
    assert_reads_as_it_selects(database, output, "public.pairs", ("a", "note"))


def test_only_what_the_role_may_read_is_offered(database: Database) -> None:
    make_hypertables(database)
    fill(database, HYPERTABLES, first_day=0)
    database.execute("CREATE TABLE plain (id int)")
    database.execute("CREATE VIEW seen AS SELECT * FROM plain")
    database.grant_select("public.hashed")

    for schemas in (["public", "plant"], []):
        catalog = InProcess(database.config(schemas=schemas)).discover()

        assert [(stream["namespace"], stream["name"]) for stream in catalog["streams"]] == [
            ("public", "hashed")
        ]


def test_a_right_held_through_another_role_counts(database: Database) -> None:
    make_hypertables(database)
    fill(database, HYPERTABLES, first_day=0)
    group = sql.Identifier(f"{database.name}_group")
    superuser = database.as_superuser()
    superuser.execute(sql.SQL("CREATE ROLE {}").format(group))
    try:
        superuser.execute(sql.SQL("GRANT {} TO {}").format(group, sql.Identifier(database.reader)))
        database.execute(sql.SQL("GRANT SELECT ON public.flat TO {}").format(group))
        fill(database, ["public.flat"], first_day=10)

        output = source(database).read()

        assert_complete(output)
        assert_reads_as_it_selects(database, output, "public.flat")
    finally:
        superuser.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(group))
