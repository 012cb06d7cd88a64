"""What was found is shown to people as a table and to machines as JSON, whatever names it has."""

from __future__ import annotations

import io

import orjson
import pytest

from source_timescaledb.errors import TransientError
from source_timescaledb.health.finding import Finding, Severity, Topic
from source_timescaledb.health.report import as_json, print_table, summary
from source_timescaledb.remedy import Statement

BLOCKING = Finding(
    Severity.BLOCKING,
    Topic.SERVER,
    "Too little is logged.",
    "Then restart the server.",
    (Statement("ALTER SYSTEM SET wal_level = 'logical';", restart=True),),
    {"timescaledb.chunk_by_chunk": True},
)
NOTE = Finding(Severity.NOTE, Topic.SLOT, "All is well.")


def table(*findings: Finding) -> str:
    out = io.StringIO()
    print_table(findings, out)
    return out.getvalue()


def test_a_table_has_severity_sentence_and_everything_to_do() -> None:
    shown = table(BLOCKING, NOTE)

    for words in (
        "blocking",
        "Too little is logged.",
        "ALTER SYSTEM SET wal_level = 'logical';",
        "timescaledb.chunk_by_chunk = true",
        "Then restart the server.",
        "A sync would fail or lose data: 1 blocking, 1 note.",
    ):
        assert words in shown
    assert shown.index("Too little") < shown.index("All is well")


def test_without_findings_there_is_one_sentence() -> None:
    assert table() == "Nothing stands in the way of a sync.\n"


@pytest.mark.parametrize(
    ("severities", "words"),
    [
        ([Severity.WARNING, Severity.WARNING], "A sync can run: 2 warnings."),
        ([Severity.BLOCKING, Severity.WARNING], "A sync would fail or lose data: 1 blocking, 1 warning."),
    ],
)
def test_a_line_counts_them(severities: list[Severity], words: str) -> None:
    assert summary([Finding(one, Topic.SERVER, "") for one in severities]) == words


def test_names_are_no_markup_and_move_no_cursor() -> None:
    hostile = "public.[bold red]x[/] \x1b[2J\x07 日本"

    shown = table(Finding(Severity.NOTE, Topic.RIGHTS, hostile))

    assert "[bold red]x[/]" in shown
    assert "日本" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_a_table_shows_some_of_many_statements_and_says_where_the_others_are() -> None:
    many = tuple(Statement(f"S{number};") for number in range(20))

    shown = table(Finding(Severity.NOTE, Topic.RIGHTS, "many", statements=many))

    assert "S7;" in shown
    assert "S8;" not in shown
    assert "12 more statements, which --fix-sql prints" in shown


def test_json_has_the_same_as_data() -> None:
    passing = Finding.of(TransientError("It is being read."), Topic.SLOT)

    told = orjson.loads(as_json([BLOCKING, passing, NOTE]))

    assert told["fails"]
    first, second, third = told["findings"]
    assert first == {
        "severity": "blocking",
        "topic": "server",
        "sentence": "Too little is logged.",
        "failure_type": "config_error",
        "statements": [
            {
                "sql": "ALTER SYSTEM SET wal_level = 'logical';",
                "repeatable": "ALTER SYSTEM SET wal_level = 'logical';",
                "restart": True,
            }
        ],
        "settings": {"timescaledb.chunk_by_chunk": True},
        "remedy": "Then restart the server.",
        "choice": False,
    }
    assert second["failure_type"] == "transient_error"
    assert third["failure_type"] is None
    assert not orjson.loads(as_json([NOTE]))["fails"]
