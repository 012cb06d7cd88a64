"""The script is run by `psql` as it is printed, whatever names a database has, and twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg import sql

from integration_tests.cdc.conftest import Followed, fill, make_tables
from integration_tests.health.consulting import agrees, doctor
from integration_tests.test_bad_input import ODD_NAMES
from testkit.database import Database
from testkit.keeper import run
from testkit.roots import Root
from testkit.server import Server

pytestmark = pytest.mark.any_server

HOSTILE = (
    *ODD_NAMES,
    "$do$",
    "END'; DROP TABLE parts; --",
    "x\n; DROP TABLE parts; --",
    "\\! false",
    ":parts",
)


def make_hostile_tables(database: Database) -> None:
    """A table of each name, without a key, so that the script names it in an identity and in the publication."""
    with database.connect() as connection:
        for name in HOSTILE:
            table = sql.Identifier(name)
            connection.execute(sql.SQL("CREATE TABLE {} (a int)").format(table))
            connection.execute(sql.SQL("INSERT INTO {} VALUES (1)").format(table))


def run_by_psql(root: Root, server: Server, database: Database, script: str) -> None:
    """Run a script as a superuser, to its first error."""
    file = server.folder / "script.sql"
    file.write_text(script)
    run(
        root,
        "psql",
        "--no-psqlrc",
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        f"--file={server.place.inside}/{file.name}",
        f"--dbname={database.conninfo('superuser')}",
        place=server.place,
    )


def test_a_script_is_what_it_says_whatever_names_it_has(root: Root, tmp_path: Path) -> None:
    with Server(root) as server, server.database() as database:
        make_tables(database)
        fill(database, rows=9)
        make_hostile_tables(database)
        followed = Followed(database, f"slot_{database.name}")
        assert doctor(followed.config, tmp_path).status == 1

        for _ in range(2):
            run_by_psql(root, server, database, doctor(followed.config, tmp_path, "--fix-sql").said)

        found = doctor(followed.config, tmp_path)
        assert found.status == 0, found.said
        assert [one for one in found.findings if one["severity"] != "note"] == []
        assert agrees(followed.config, found)[0]
        ended = followed.sync()
        assert ended.failure is None, ended.errors
        assert all(ended.rows(name) for name in (*HOSTILE, "parts"))
