"""The README and the pages in docs/, executed: their SQL, their configurations, their commands.

One rule replaces names, and the page on the connector tells its readers of it: `airbyte`, wherever it stands in SQL or in
a configuration, becomes a name of the test's own, because roles and slots belong to the whole server; so do the database
`metrics` and the password `…`. Where an `owner` is named, it is the owner of the tables.
"""

from __future__ import annotations

import io
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from integration_tests.inprocess import InProcess
from pages.reading import ROOT, block, blocks, cells, prose, section, statements
from source_timescaledb.doctor import consult
from source_timescaledb.source import SourceTimescaledb
from testkit.cluster import Cluster
from testkit.connector import Connector
from testkit.database import Database
from testkit.protocol import Json, configured_catalog

README: Final = (ROOT / "README.md").read_text()
CONNECTOR: Final = (ROOT / "docs" / "source-timescaledb.md").read_text()
SCALING: Final = (ROOT / "docs" / "scaling-out.md").read_text()
AGGREGATE: Final = "_materialized_hypertable_2"
PASSWORD: Final = "canary-of-the-pages"
TABLES: Final = """
CREATE TABLE metrics (time timestamptz NOT NULL, device int NOT NULL, value float8, PRIMARY KEY (device, time));
SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day');
INSERT INTO metrics SELECT '2024-01-01'::timestamptz + i * interval '1 hour', i % 3, i FROM generate_series(0, 47) i;
CREATE TABLE devices (id int PRIMARY KEY, name text);
INSERT INTO devices VALUES (1, 'one');
"""


class Reader:
    """Somebody who does what a page says, in a database with a hypertable `metrics` and a table `devices`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.name = f"{database.name}_airbyte"

    def named(self, text: str) -> str:
        """A text of a page with its names replaced."""
        text = re.sub(r"\bairbyte", self.name, text)
        text = re.sub(r"\bDATABASE metrics\b", f'DATABASE "{self.database.name}"', text)
        return re.sub(r"\bGRANT owner\b", f'GRANT "{self.database.owner}"', text).replace(
            "'…'", f"'{PASSWORD}'"
        )

    def runs(self, sql: str, *, as_owner: bool = False) -> None:
        """Run SQL of a page as written, as a superuser, or as the owner of the tables."""
        session = self.database.session("owner" if as_owner else "superuser")
        for statement in statements(self.named(sql)):
            session.execute(statement.encode())

    def config(self, *settings: str) -> Json:
        """The smallest configuration of the README with settings of pages, at a server that has no TLS."""
        config: Json = {}
        for text in (block(README, "json", '"host"'), *settings):
            config.update(json.loads(self.named(text)))
        ours = self.database.config()
        place = {name: ours[name] for name in ("host", "port", "database", "ssl_mode")}
        return {**config, **place, "password": PASSWORD}

    def prepares(self) -> None:
        """Make the role, as the README says."""
        self.runs(block(README, "sql", "CREATE ROLE"))


@pytest.fixture
def reader(server: Cluster) -> Iterator[Reader]:
    """A reader of the pages, whose role goes with the database."""
    with server.database() as database:
        found = Reader(database)
        for statement in statements(TABLES):
            database.execute(statement.encode())
        yield found
    with server.connect() as connection:
        connection.execute(f'DROP ROLE IF EXISTS "{found.name}"'.encode())


@pytest.mark.any_server
@pytest.mark.parametrize("page", [README, CONNECTOR, SCALING], ids=["README", "connector", "scaling out"])
def test_every_statement_of_a_page_runs_in_its_order(reader: Reader, page: str) -> None:
    if "CREATE ROLE airbyte" not in page:
        reader.prepares()

    for one in blocks(page, "sql"):
        if AGGREGATE not in one.text:
            reader.runs(one.text)


@pytest.mark.any_server
def test_the_settings_that_a_page_puts_into_the_servers_files_are_the_servers_own(reader: Reader) -> None:
    known = {name for (name,) in reader.database.rows("SELECT name FROM pg_settings")}
    lines = [line for one in blocks(CONNECTOR, "conf") for line in one.text.splitlines()]

    assert lines
    assert {line.partition(" =")[0] for line in lines} <= known


@pytest.mark.any_server
def test_the_readmes_grants_and_its_smallest_configuration_pass_the_check_and_every_command_runs(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.prepares()
    config = reader.config()
    connector = Connector(config, tmp_path)
    catalog = configured_catalog(connector.discover().catalog, "incremental")
    state = connector.read(catalog).state()
    for name, content in (("config", config), ("catalog", catalog), ("state", state)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)

    ran = [ran_by_a_shell(connector, line) for line in commands()]

    assert {verb for verb, _ in ran} == {"check", "discover", "read", "doctor"}
    assert [verb for verb, status in ran if status != 0] == []


def commands() -> list[str]:
    """The command lines of the connector on the pages; those with `docker run` are tried by test_image.py."""
    pages = (README, CONNECTOR, SCALING)
    lines = [line for page in pages for one in blocks(page, "sh") for line in one.text.splitlines()]
    return [*dict.fromkeys(line for line in lines if line.startswith("source-timescaledb "))]


def ran_by_a_shell(connector: Connector, line: str) -> tuple[str, int | None]:
    """Run a command line; its verb and its exit status."""
    _, verb, *arguments = shlex.split(line)
    if verb == "doctor":
        return verb, consult(SourceTimescaledb(), arguments, io.StringIO())
    ended = connector.start(verb, *arguments).wait()
    if verb == "check":
        assert ended.connection_status["status"] == "SUCCEEDED", ended.connection_status
    return verb, ended.exit_code


@pytest.mark.any_server
def test_the_steps_of_change_data_capture_bring_every_row_also_of_chunks_that_come_later(
    reader: Reader,
) -> None:
    """The first of the three ways for new chunks: the connector adds them."""
    database, steps = reader.database, section(CONNECTOR, "Step 4: change data capture")
    reader.prepares()
    rights, rest = block(steps, "sql", "REPLICATION;").split("\n", maxsplit=1)
    reader.runs(rights)
    publication, slot = statements(rest)
    reader.runs(publication, as_owner=True)
    reader.runs(slot)
    config = reader.config(block(steps, "json"))
    first = synced(config)
    database.execute("INSERT INTO metrics VALUES ('2025-01-01', 1, 1)")

    refused, message, _ = InProcess(config).check()
    reader.runs(inline(steps, "GRANT owner"))
    second = synced(config, first.state())

    assert not refused
    assert "are not in the publication" in message
    assert [len(one.rows("metrics")) for one in (first, second)] == [48, 1]


def test_a_server_that_publishes_chunks_by_itself_needs_no_owner(reader: Reader) -> None:
    """The second way and the third; the second is TimescaleDB's from 2.25 on, and no setting of an older one."""
    database, steps = reader.database, section(CONNECTOR, "Step 4: change data capture")
    reader.prepares()
    reader.runs(block(steps, "sql", "REPLICATION;").splitlines()[0])
    auto = inline(steps, "auto_publication")
    if database.value(
        "SELECT count(*) FROM pg_settings WHERE name = 'timescaledb.enable_chunk_auto_publication'"
    ):
        reader.runs(f"{auto}; {statements(block(steps, 'sql', 'CREATE PUBLICATION'))[1]}")
        database.disconnect()
    else:
        reader.runs(inline(steps, "TABLES IN SCHEMA"))
    reader.runs(statements(block(steps, "sql", "pg_create"))[2])
    config = reader.config(block(steps, "json"))
    first = synced(config)
    database.execute("INSERT INTO metrics VALUES ('2025-01-01', 1, 1)")

    passed, message, _ = InProcess(config).check()
    second = synced(config, first.state())

    assert passed, message
    assert [len(one.rows("metrics")) for one in (first, second)] == [48, 1]


@pytest.mark.any_server
def test_a_sync_opens_no_more_connections_than_the_page_counts(reader: Reader) -> None:
    """And those of change data capture come on top of what `max_db_connections` bounds."""
    header, *kinds = (
        cells(line) for line in section(SCALING, "Connections to the server").splitlines() if "|" in line
    )
    counted = {kind: dict(zip(header[1:], row, strict=True)) for kind, *row in kinds[1:]}
    database = reader.database
    reader.prepares()
    reader.runs("ALTER ROLE airbyte REPLICATION; CREATE PUBLICATION airbyte FOR TABLE metrics, devices")
    reader.runs("SELECT pg_create_logical_replication_slot('airbyte', 'pgoutput')")
    seen: list[Counter[str]] = []

    def look() -> None:
        rows = database.as_superuser().execute(
            "SELECT regexp_replace(application_name, '.* ', '') FROM pg_stat_activity WHERE usename = %s",
            [reader.name],
        )
        seen.append(Counter("readers" if name == "reader" else name for (name,) in rows))

    acts = {(kind, number): look for kind in ("RECORD", "STATE") for number in range(1, 40)}
    cdc = block(section(CONNECTOR, "Step 4: change data capture"), "json")
    for kind, config in (("full refresh, or a cursor", reader.config()), ("CDC", reader.config(cdc))):
        seen.clear()
        source = InProcess(config)
        assert source.read(source.catalog("incremental", ["metrics", "devices"]), acts=acts).errors == []

        allowed = {name: 2 if name == "readers" else 1 for name, number in counted[kind].items() if number}
        assert seen
        for connections in seen:
            assert all(number <= allowed[name] for name, number in connections.items())
            assert connections.total() <= int(counted[kind]["in all, by default"])
        assert allowed.keys() - {"watcher", "in all, by default"} <= set().union(*seen), (
            "a watcher may come too late"
        )
    bounded = InProcess({**config, "max_db_connections": 2})
    seen.clear()
    assert bounded.read(bounded.catalog("incremental", ["metrics"]), acts=acts).errors == []
    assert max(one.total() for one in seen) <= 2 + 2


@pytest.mark.community
def test_the_statements_for_a_continuous_aggregate_let_it_be_refreshed(reader: Reader) -> None:
    database = reader.database
    reader.runs("CREATE PUBLICATION airbyte FOR TABLE metrics, devices")
    database.execute(
        "CREATE MATERIALIZED VIEW daily WITH (timescaledb.continuous) AS SELECT time_bucket('1 day', time) AS day,"
        " avg(value) FROM metrics GROUP BY 1 WITH NO DATA"
    )
    name = database.value(
        "SELECT '_materialized_hypertable_' || max(id) FROM _timescaledb_catalog.hypertable"
    )

    reader.runs(block(CONNECTOR, "sql", AGGREGATE).replace(AGGREGATE, name))
    database.execute("CALL refresh_continuous_aggregate('daily', NULL, NULL)")
    database.execute("UPDATE metrics SET value = value + 1")
    database.execute("CALL refresh_continuous_aggregate('daily', NULL, NULL)")

    assert database.value("SELECT count(*) FROM daily") == 2


def inline(text: str, containing: str) -> str:
    """The code in a text's line that has something in it."""
    found: list[str] = [code for code in re.findall(r"`([^`]+)`", prose(text)) if containing in code]
    (only,) = found
    return only


def synced(config: Json, state: list[Json] | None = None) -> Any:
    """A sync that has succeeded."""
    source = InProcess(config)
    ended = source.read(source.catalog("incremental", ["metrics", "devices"]), state)
    assert ended.errors == []
    return ended
