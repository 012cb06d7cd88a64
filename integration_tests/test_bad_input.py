"""Bad input: one clear error each, of the right kind, that names the thing and the remedy and gives nothing away."""

from __future__ import annotations

import copy
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from integration_tests.inprocess import Ended, InProcess
from testkit.connector import Connector
from testkit.database import Database
from testkit.protocol import Json, Output, configured_catalog

pytestmark = pytest.mark.any_server

IMPATIENT = {"SOURCE_TIMESCALEDB_RETRY_SECONDS": "0.5"}

ODD_NAMES = (
    'quo"te',
    "apo'strophe",
    "dot.ted",
    "per%cent",
    "per%s cent",
    "semi;colon",
    "brace{0}s",
    "back\\slash",
    "new\nline",
    "UPPER",
    "select",
    "日本語",
    "🦉",
    " space ",
    "x" * 63,
    "$dollar$",
    "--comment",
)


@pytest.fixture
def table(database: Database) -> Database:
    database.execute("CREATE TABLE metrics (time timestamptz NOT NULL, value int, note text)")
    database.execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')")
    database.execute(
        "INSERT INTO metrics SELECT timestamptz '2024-01-01' + i * interval '1 hour', i, 'canary-value'"
        " FROM generate_series(0, 71) i"
    )
    database.grant_select("metrics")
    return database


def says(error: Json, kind: str, *words: str) -> None:
    assert error["failure_type"] == kind
    for word in words:
        assert word in error["message"]


def secretless(database: Database, *outputs: Output) -> None:
    for output in outputs:
        text = repr(output.messages)
        assert not any(password in text for password in database.passwords.values())


def failed_check(config: Json, workdir: Path) -> str:
    """The sentence of a failed check, which is no failure of the process."""
    result = Connector(config, workdir, environment=IMPATIENT).check()
    assert result.exit_code == 0
    assert result.connection_status["status"] == "FAILED"
    return str(result.connection_status["message"])


def failed_read(config: Json, workdir: Path) -> Json:
    """The only error of a read that could not begin."""
    catalog = {
        "streams": [
            {
                "stream": {
                    "name": "metrics",
                    "namespace": "public",
                    "json_schema": {},
                    "supported_sync_modes": ["full_refresh"],
                },
                "sync_mode": "full_refresh",
                "destination_sync_mode": "append",
            }
        ]
    }
    result = Connector(config, workdir, environment=IMPATIENT).read(catalog)
    assert result.exit_code == 1
    (error,) = result.errors
    return error


def test_a_wrong_password_is_told_at_once_and_never_shown(table: Database, tmp_path: Path) -> None:
    config = table.config(password="wrong-canary")

    sentence = failed_check(config, tmp_path)
    error = failed_read(config, tmp_path)

    assert "password" in sentence
    says(error, "config_error", "password")
    assert "wrong-canary" not in sentence + repr(error)


def test_a_closed_port_is_named_and_may_pass(table: Database, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        config = table.config(port=port)

        sentence = failed_check(config, tmp_path)
        error = failed_read(config, tmp_path)

    assert str(port) in sentence
    says(error, "transient_error", str(port))


def test_an_unknown_host_and_an_absent_database_are_named(table: Database, tmp_path: Path) -> None:
    unknown = failed_check(table.config(host="no-such-host.invalid"), tmp_path)
    absent = failed_read(table.config(database="no_such_database"), tmp_path)

    assert "no-such-host.invalid" in unknown
    says(absent, "config_error", "no_such_database")


def test_every_missing_grant_is_told_at_once_as_sql(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE metrics (time timestamptz NOT NULL)")
    database.execute("CREATE TABLE other (id int)")
    database.execute("CREATE SCHEMA closed")

    sentence = failed_check(database.config(schemas=["public", "closed", "nowhere"]), tmp_path)

    assert 'GRANT SELECT ON "public"."metrics"' in sentence
    assert 'GRANT SELECT ON "public"."other"' in sentence
    assert 'GRANT USAGE ON SCHEMA "closed"' in sentence
    assert "nowhere" in sentence


def test_every_wrong_setting_is_named_in_one_sentence(table: Database, tmp_path: Path) -> None:
    config = table.config(port="many", timescaledb={"parallel_chunks": 0, "snapshot_order": "sideways"})
    del config["username"]

    sentence = failed_check(config, tmp_path)

    for setting in ("port", "username", "timescaledb.parallel_chunks", "timescaledb.snapshot_order"):
        assert setting in sentence


def test_xmin_is_refused_with_what_to_choose_instead(table: Database, tmp_path: Path) -> None:
    xmin = failed_check(table.config(replication_method={"method": "Xmin"}), tmp_path)

    assert "Standard" in xmin


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "not valid JSON"), ("[]", "JSON object"), (None, "cannot be read")],
    ids=["torn", "a list", "missing"],
)
def test_a_configuration_file_that_is_none(tmp_path: Path, content: str | None, words: str) -> None:
    file = tmp_path / "broken.json"
    if content is not None:
        file.write_text(content)

    result = Connector({}, tmp_path).start("discover", "--config", str(file)).wait()

    assert result.exit_code == 1
    (error,) = result.errors
    says(error, "config_error", words)


def read(database: Database, change: Callable[[Json], None], state: list[Json] | None = None) -> Ended:
    """Read in this process with a changed catalog."""
    connector = InProcess(database.config())
    catalog = copy.deepcopy(connector.catalog())
    change(catalog)
    ended = connector.read(catalog, state)
    secretless(database, ended)
    return ended


def unchanged(_catalog: Json) -> None:
    """The catalog as it was discovered."""


def whole_sync_fails(ended: Ended, *words: str) -> None:
    assert ended.rows("metrics") == []
    assert ended.failure is not None
    assert ended.failure.failure_type is not None
    assert ended.failure.failure_type.value == "config_error"
    for word in words:
        assert word in str(ended.failure.message)


def stream_fails(ended: Ended, *words: str) -> None:
    (error,) = ended.errors
    says(error, "config_error", *words)
    assert error["stream_descriptor"]["name"] == "metrics"
    assert ended.statuses[-1][1:] == ("metrics", "INCOMPLETE")
    assert ended.failure is not None


def test_an_empty_catalog(table: Database) -> None:
    whole_sync_fails(read(table, lambda catalog: catalog["streams"].clear()), "selects no stream")


def test_a_stream_listed_twice(table: Database) -> None:
    ended = read(table, lambda catalog: catalog["streams"].append(catalog["streams"][0]))

    whole_sync_fails(ended, "public.metrics", "more than once")


def test_a_file_that_is_no_catalog(table: Database, tmp_path: Path) -> None:
    connector = Connector(table.config(), tmp_path)
    catalog = configured_catalog(connector.discover().catalog)
    catalog["streams"][0]["sync_mode"] = "sideways"

    result = connector.read(catalog)

    assert result.exit_code == 1
    (error,) = result.errors
    says(error, "config_error", "configured catalog")


def test_a_stream_that_is_not_in_the_database(table: Database) -> None:
    def rename(catalog: Json) -> None:
        catalog["streams"].append(copy.deepcopy(catalog["streams"][0]))
        catalog["streams"][1]["stream"]["name"] = "gone"

    ended = read(table, rename)

    (error,) = ended.errors
    says(error, "config_error", "public.gone", "Refresh the source schema")
    assert len(ended.rows("metrics")) == 72


def test_a_column_that_was_removed(table: Database) -> None:
    def add(catalog: Json) -> None:
        catalog["streams"][0]["stream"]["json_schema"]["properties"]["removed"] = {"type": "string"}

    stream_fails(read(table, add), "removed", "Refresh the source schema")


def test_a_cursor_of_a_type_without_order(table: Database) -> None:
    table.execute("ALTER TABLE metrics ALTER COLUMN note TYPE jsonb USING NULL")

    def follow(catalog: Json) -> None:
        catalog["streams"][0].update(sync_mode="incremental", cursor_field=["note"])

    stream_fails(read(table, follow), "cursor note", "have no order", "Choose a number")


@pytest.mark.parametrize("path", [["_ab_cdc_lsn"], ["gone"], ["note", "part"]])
def test_a_cursor_that_is_not_there_is_told_as_that_and_not_by_its_type(
    table: Database, path: list[str]
) -> None:
    def follow(catalog: Json) -> None:
        catalog["streams"][0].update(sync_mode="incremental", cursor_field=path)

    stream_fails(
        read(table, follow), f"cursor {'.'.join(path)}: it has no such column", "Refresh the source schema"
    )


def test_deduplication_without_a_key(table: Database) -> None:
    def dedup(catalog: Json) -> None:
        catalog["streams"][0].update(destination_sync_mode="append_dedup", primary_key=None)

    stream_fails(read(table, dedup), "no primary key")


def state_of(database: Database) -> Json:
    ended = read(database, unchanged)
    message: Json = copy.deepcopy(ended.states[-1].message)
    return message


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["version"], 99, "version 99"),
        (["version"], None, "version"),
        (["database", "oid"], 1, "another database"),
        (["database", "system"], "1", "another database"),
        (["relation"], "canary-value", "damaged at: relation"),
        (["progress"], {"unit": "tuples"}, "damaged at: progress"),
    ],
)
def test_a_state_that_is_not_ours_is_refused_and_never_taken_as_empty(
    table: Database, path: list[str], value: Any, words: str
) -> None:
    state = state_of(table)
    place = state["stream"]["stream_state"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value

    ended = read(table, unchanged, [state])

    stream_fails(ended, "public.metrics", words)
    assert ended.rows("metrics") == []
    assert "canary-value" not in str(ended.errors)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"type": "GLOBAL", "global": {"shared_state": {}, "stream_states": []}}, "GLOBAL"),
        ({"type": "LEGACY", "data": {"cursor": 1}}, "LEGACY"),
        (
            {
                "type": "STREAM",
                "stream": {
                    "stream_descriptor": {"name": "metrics", "namespace": "public"},
                    "stream_state": {"version": 2, "state_type": "ctid", "ctid": "(0,1)"},
                },
            },
            "version 2",
        ),
    ],
    ids=["global", "legacy", "source-postgres"],
)
def test_another_connectors_state_is_refused(table: Database, state: Json, words: str) -> None:
    ended = read(table, unchanged, [state])

    assert ended.rows("metrics") == []
    assert words in str(ended.failure and ended.failure.message) + str(ended.errors)


def test_a_state_file_that_is_no_json(table: Database, tmp_path: Path) -> None:
    connector = Connector(table.config(), tmp_path)
    catalog = tmp_path / "given.json"
    catalog.write_bytes(orjson.dumps(configured_catalog(connector.discover().catalog)))
    state = tmp_path / "torn.json"
    state.write_text('[{"type": "STR')

    result = connector.start(
        "read",
        "--config",
        connector._config,
        "--catalog",
        str(catalog),
        "--state",
        str(state),
    ).wait()

    assert result.exit_code == 1
    (error,) = result.errors
    says(error, "config_error", "state", "not valid JSON")


def test_the_state_of_a_stream_that_is_no_longer_configured_is_dropped_with_a_line(table: Database) -> None:
    state = state_of(table)
    state["stream"]["stream_descriptor"]["name"] = "removed"

    ended = read(table, unchanged, [state])

    assert ended.failure is None
    assert len(ended.rows("metrics")) == 72
    assert any("public.removed" in line for line in ended.logged)


def create(database: Database, schema: str, table: str, column: str) -> None:
    """A hypertable and a plain table with a key, of hostile names, with two rows each."""
    names = {
        "schema": sql.Identifier(schema),
        "table": sql.Identifier(schema, table),
        "plain": sql.Identifier(schema, table[:60] + "_p"),
        "column": sql.Identifier(column),
    }
    with database.connect() as connection:
        for statement in (
            "CREATE SCHEMA {schema}",
            "GRANT USAGE ON SCHEMA {schema} TO PUBLIC",
            "CREATE TABLE {table} ({column} timestamptz NOT NULL)",
            "INSERT INTO {table} VALUES ('2024-01-01Z'), ('2024-02-01Z')",
            "CREATE TABLE {plain} ({column} text PRIMARY KEY)",
            "INSERT INTO {plain} VALUES ('a''\"\\%s'), ('b')",
            "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO PUBLIC",
        ):
            connection.execute(sql.SQL(statement).format(**names))
        connection.execute(
            "SELECT create_hypertable(%s::regclass, %s::name, migrate_data => true)",
            (names["table"].as_string(connection), column),
        )


def read_odd(database: Database, schema: str) -> Output:
    return InProcess(database.config(schemas=[schema])).read()


@pytest.mark.parametrize("name", ODD_NAMES)
def test_hostile_names_of_schemas_tables_and_columns_work(database: Database, name: str) -> None:
    create(database, name, name, name)

    ended = read_odd(database, name)

    assert ended.errors == []
    assert sorted(row[name] for row in ended.rows(name, name)) == [
        "2024-01-01T00:00:00.000000Z",
        "2024-02-01T00:00:00.000000Z",
    ]
    assert sorted(row[name] for row in ended.rows(name[:60] + "_p", name)) == ["a'\"\\%s", "b"]


IDENTIFIERS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=15
).filter(lambda name: not name.lower().startswith(("pg_", "_timescaledb", "timescaledb")))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=IDENTIFIERS, column=IDENTIFIERS, number=st.integers(0, 2**62))
def test_any_identifier_works(database: Database, table: str, column: str, number: int) -> None:
    schema = f"s{number}"
    create(database, schema, table, column)

    ended = read_odd(database, schema)

    assert ended.errors == []
    assert len(ended.rows(table, schema)) == 2
    database.execute(f"DROP SCHEMA {schema} CASCADE")


def test_tables_of_odd_shapes_are_read_as_they_are(database: Database) -> None:
    wide = ", ".join(f"c{number} bool" for number in range(1600))
    database.execute("CREATE TABLE nothing ()")
    database.execute("INSERT INTO nothing DEFAULT VALUES")
    database.execute(f"CREATE TABLE wide ({wide})")
    database.execute("INSERT INTO wide (c1599) VALUES (true)")
    database.execute("CREATE TABLE made (a int, b int GENERATED ALWAYS AS (a * 2) STORED, c int)")
    database.execute("INSERT INTO made (a, c) VALUES (1, 2), (NULL, NULL)")
    database.execute("ALTER TABLE made DROP COLUMN c")
    database.grant_select("nothing", "wide", "made")

    ended = InProcess(database.config()).read()

    assert ended.errors == []
    assert [row for row in ended.rows("made") if row["a"]] == [{"a": 1, "b": 2}]
    assert {"a": None, "b": None} in ended.rows("made")
    (row,) = ended.rows("wide")
    assert len(row) == 1600
    assert row["c1599"] is True
    assert row["c0"] is None


def test_a_row_too_large_for_airbyte_names_the_table_and_its_key_and_not_the_value(
    database: Database,
) -> None:
    database.execute("CREATE TABLE blobs (id int PRIMARY KEY, content text)")
    database.execute("INSERT INTO blobs VALUES (1, repeat('canary', 10000000))")
    database.grant_select("blobs")

    ended = InProcess(database.config()).read()

    (error,) = ended.errors
    says(error, "config_error", "public.blobs", "50 MiB", "id")
    assert "canary" not in str(ended.messages) + str(ended.logged)


def test_no_secret_and_no_row_value_appears_in_what_is_said(table: Database, tmp_path: Path) -> None:
    """Everything but the records themselves."""
    connector = Connector(table.config(), tmp_path)
    catalog = configured_catalog(connector.discover().catalog)

    outputs = [connector.check(), connector.discover(), connector.read(catalog)]

    for output in outputs:
        said = [message for message in output.messages if message["type"] != "RECORD"]
        text = orjson.dumps(said).decode() + output.stderr
        assert "canary-value" not in text
        assert not any(password in text for password in table.passwords.values())


def test_a_database_that_lacks_nothing_is_checked_well(table: Database, tmp_path: Path) -> None:
    result = Connector(table.config(), tmp_path).check()

    assert result.exit_code == 0
    assert result.connection_status == {"status": "SUCCEEDED"}
