"""The page on PyAirbyte, executed: its program, its settings and its statements, with DuckDB behind it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from integration_tests.cdc.conftest import fill, make_tables
from pages.reading import ROOT, block
from testkit.database import Database
from testkit.protocol import Json
from testkit.roots import cache_folder

pytestmark = [pytest.mark.pyairbyte, pytest.mark.any_server]

PAGE = (ROOT / "docs" / "pyairbyte.md").read_text()
TIMEOUT_SECONDS = 600
ASK = """
import duckdb, json, sys
rows = duckdb.connect("warehouse.duckdb", read_only=True).execute(sys.argv[1]).fetchall()
print(json.dumps(rows, default=str))
"""


class PyAirbyte:
    """PyAirbyte in a folder, with the connector of this repository on its PATH."""

    def __init__(self, python: Path, folder: Path) -> None:
        self._python = python
        self._folder = folder

    def run(self, config: Json, *streams: str) -> subprocess.CompletedProcess[str]:
        """Run the program of the page, for other streams where some are named."""
        program = block(PAGE, "python")
        if streams:
            program = program.replace('["metrics", "parts"]', repr(list(streams)))
        (self._folder / "config.json").write_text(json.dumps(config))
        return self._python_runs(program)

    def ask(self, query: str) -> list[list[Any]]:
        """Rows of the warehouse."""
        answer = self._python_runs(ASK, query)
        assert answer.returncode == 0, answer.stderr
        rows: list[list[Any]] = json.loads(answer.stdout)
        return rows

    def _python_runs(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        connector = str(Path(sys.executable).parent)
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([connector, os.environ["PATH"]]),
            "AIRBYTE_OFFLINE_MODE": "1",
            "DO_NOT_TRACK": "1",
        }
        return subprocess.run(
            [str(self._python), "-c", program, *arguments],
            cwd=self._folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )


@pytest.fixture
def pyairbyte(tmp_path: Path) -> PyAirbyte:
    """PyAirbyte in an empty folder."""
    home = cache_folder() / "pyairbyte"
    if not (home / "version").exists():
        pytest.skip("there is no environment with PyAirbyte: make pyairbyte")
    return PyAirbyte(home / "bin" / "python", tmp_path)


@pytest.fixture
def tables(database: Database) -> Database:
    """`metrics`, a hypertable, and `parts`, of some rows, their owner able to replicate."""
    make_tables(database)
    fill(database, rows=500)
    return database


def config_of(database: Database, **changes: Any) -> Json:
    return database.config(username=database.owner, password=database.passwords["owner"], **changes)


def assert_loaded(pyairbyte: PyAirbyte, database: Database, condition: str = "true") -> None:
    """The warehouse has the rows of both tables, no more and no less."""
    for columns, table in (
        ("device, CAST(value AS double precision), note", "metrics"),
        ("id, note", "parts"),
    ):
        query = f"SELECT {columns} FROM {table} {{}} ORDER BY {columns}"
        expected = [list(row) for row in database.as_superuser().execute(query.format("").encode())]
        assert pyairbyte.ask(query.format(f"WHERE {condition}")) == expected


def test_one_program_loads_everything_and_then_what_is_new(tables: Database, pyairbyte: PyAirbyte) -> None:
    config = config_of(tables)

    first = pyairbyte.run(config)
    assert first.returncode == 0, first.stderr
    assert "['events', 'metrics', 'parts']" in first.stdout
    assert first.stdout.splitlines()[-1] == "1000"
    assert_loaded(pyairbyte, tables)

    tables.execute("INSERT INTO metrics VALUES ('2024-02-01', 1, 5, 'later')")
    tables.execute("UPDATE parts SET note = 'changed' WHERE id = 1")
    second = pyairbyte.run(config)
    tables.execute("INSERT INTO metrics VALUES ('2024-02-02', 1, 5, 'later still')")
    third = pyairbyte.run(config)

    assert [run.stdout.splitlines()[-1] for run in (second, third)] == ["501", "501"]
    assert_loaded(pyairbyte, tables)


def test_with_states_of_streams_changes_are_followed_from_run_to_run(
    tables: Database, pyairbyte: PyAirbyte
) -> None:
    settings = json.loads(block(PAGE, "json"))
    settings["replication_method"]["replication_slot"] = slot = f"slot_{tables.name}"
    tables.execute(b"CREATE PUBLICATION airbyte FOR TABLE metrics, parts")
    tables.as_superuser().execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    config = config_of(tables, **settings)
    current = block(PAGE, "sql", "_ab_cdc_deleted_at").partition("WHERE ")[2].strip()

    first = pyairbyte.run(config)
    assert first.returncode == 0, first.stderr
    assert_loaded(pyairbyte, tables, current)

    tables.execute("UPDATE metrics SET note = 'changed' WHERE device = 1 AND value < 50")
    tables.execute("DELETE FROM parts WHERE id <= 3")
    second = pyairbyte.run(config)
    assert_loaded(pyairbyte, tables, current)
    tables.execute("INSERT INTO parts VALUES (1, 'again')")
    third = pyairbyte.run(config)

    told = [int(run.stdout.splitlines()[-1]) for run in (first, second, third)]
    assert told[0] == 1000
    assert 0 < told[1] < 20
    assert told[2] == 1
    assert_loaded(pyairbyte, tables, current)


def test_a_number_that_does_not_fit_fails_and_comes_through_a_view(
    database: Database, pyairbyte: PyAirbyte
) -> None:
    database.execute("CREATE TABLE bills (id int PRIMARY KEY, amount numeric(25,0))")
    database.execute("INSERT INTO bills VALUES (1, 12345678901234567890)")

    failed = pyairbyte.run(config_of(database), "bills")
    database.execute(block(PAGE, "sql", "VIEW").encode())
    loaded = pyairbyte.run(config_of(database), "bills_as_text")

    assert failed.returncode != 0
    assert "Failed to cast value to numerical" in failed.stderr
    assert loaded.returncode == 0, loaded.stderr
    assert pyairbyte.ask(
        "SELECT * EXCLUDE (_airbyte_raw_id, _airbyte_extracted_at, _airbyte_meta) FROM bills_as_text"
    ) == [[1, "12345678901234567890"]]


def test_a_name_in_two_schemas_fails_and_one_schema_does_not(tables: Database, pyairbyte: PyAirbyte) -> None:
    tables.execute("CREATE SCHEMA elsewhere")
    tables.execute("CREATE TABLE elsewhere.parts (id int PRIMARY KEY)")

    failed = pyairbyte.run(config_of(tables, schemas=[]))
    loaded = pyairbyte.run(config_of(tables, schemas=["public"]))

    assert failed.returncode != 0
    assert "duplicate key" in failed.stderr
    assert loaded.returncode == 0, loaded.stderr
    assert_loaded(pyairbyte, tables)


def test_the_page_names_the_version_that_it_was_run_with() -> None:
    script = (ROOT / ".ci" / "pyairbyte").read_text()
    (version,) = re.findall(r"^version=(.+)$", script, re.MULTILINE)

    assert set(re.findall(r"PyAirbyte (\d[\d.]+\d)", PAGE)) == {version}
    assert f"airbyte=={version}" in PAGE
