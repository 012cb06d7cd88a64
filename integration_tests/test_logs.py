"""What a sync logs, with names made to look like more than they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration_tests.inprocess import InProcess
from testkit.connector import Connector
from testkit.database import Database

NAME = 'two\nlines "and" %s {x}'
QUOTED = '"two\nlines ""and"" %s {x}"'
pytestmark = pytest.mark.any_server


def test_a_name_of_two_lines_is_logged_in_one_and_no_values_are(database: Database, tmp_path: Path) -> None:
    database.execute(f"CREATE TABLE {QUOTED} (id int PRIMARY KEY, note text)".encode())
    database.execute(f"INSERT INTO {QUOTED} VALUES (1, 'canary-value')".encode())
    database.execute(f'GRANT SELECT ON {QUOTED} TO "{database.reader}"'.encode())
    ended = Connector(database.config(), tmp_path).read(InProcess(database.config()).catalog())

    assert ended.rows(NAME) == [{"id": 1, "note": "canary-value"}]
    assert any(line.startswith('public.two lines "and" %s {x}: 1 rows, ') for line in ended.logs)
    assert all(len(line.splitlines()) == 1 for line in ended.logs)
    assert "canary-value" not in "".join(ended.logs)
    assert database.config()["password"] not in "".join(ended.logs)


def test_with_debug_every_line_is_a_protocol_message_too(database: Database, tmp_path: Path) -> None:
    connector = Connector(database.config(), tmp_path)
    ended = connector.start("spec", "--debug").wait()

    assert ended.exit_code == 0
    assert {"level": "DEBUG", "message": "Debug logs enabled"} in ended.of_type("LOG")
