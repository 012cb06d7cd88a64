"""What was found, as a table for people and as JSON for machines.

Names come from a database and may hold anything: they are shown as text, not as markup, and what is not printable, such
as the sequences that move a terminal's cursor, is shown by its number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, TextIO

import orjson

from source_timescaledb.health.finding import Finding, Severity
from source_timescaledb.remedy import Statement

STATEMENTS_SHOWN: Final = 8
"""How many statements of one finding a table shows; a script has all of them."""
PIPED_WIDTH: Final = 120
"""Columns of a table that no terminal shows."""

_STYLES: Final = {Severity.BLOCKING: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def as_json(findings: Sequence[Finding]) -> bytes:
    """The findings as one JSON object, with `fails` to tell whether a sync would; a line of its own."""
    return orjson.dumps(
        {
            "fails": any(one.severity is Severity.BLOCKING for one in findings),
            "findings": [_as_object(one) for one in findings],
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )


def print_table(findings: Sequence[Finding], out: TextIO) -> None:
    """The findings in a table, what blocks first, and a line that counts them."""
    from rich.console import Console  # noqa: PLC0415 - no other command shows a table, and its import takes long
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=out, highlight=False, width=None if out.isatty() else PIPED_WIDTH)
    if findings:
        table = Table(show_lines=True, expand=True)
        table.add_column("", no_wrap=True)
        table.add_column("about", no_wrap=True)
        table.add_column("what is so", ratio=2, overflow="fold")
        table.add_column("what to do", ratio=3, overflow="fold")
        for one in findings:
            cells = (one.severity.value, one.topic.value, one.sentence, "\n".join(_to_do(one)))
            texts = [Text(printable(cell)) for cell in cells]
            texts[0].stylize(_STYLES[one.severity])
            table.add_row(*texts)
        console.print(table)
    console.print(Text(summary(findings)))


def summary(findings: Sequence[Finding]) -> str:
    """What it comes to, in a line."""
    if not findings:
        return "Nothing stands in the way of a sync."
    counts = Counter(one.severity for one in findings)
    numbers = ", ".join(
        f"{counts[one]} {one.value}{'s' if one is not Severity.BLOCKING and counts[one] > 1 else ''}"
        for one in Severity
        if counts[one]
    )
    would = "A sync would fail or lose data" if counts[Severity.BLOCKING] else "A sync can run"
    return f"{would}: {numbers}."


def printable(text: str) -> str:
    """The text, in which what cannot be printed is shown by its number."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _to_do(finding: Finding) -> list[str]:
    """A line for each thing to do: what to run, what to set, what to think of."""
    shown = [statement.text for statement in finding.statements[:STATEMENTS_SHOWN]]
    if len(finding.statements) > STATEMENTS_SHOWN:
        shown.append(
            f"… and {len(finding.statements) - STATEMENTS_SHOWN} more statements, which --fix-sql prints."
        )
    settings = [f"{path} = {orjson.dumps(value).decode()}" for path, value in finding.settings.items()]
    return [*shown, *settings, *([finding.remedy] if finding.remedy else [])]


def _as_object(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity.value,
        "topic": finding.topic.value,
        "sentence": finding.sentence,
        "failure_type": finding.kind.failure_type.value if finding.severity is Severity.BLOCKING else None,
        "statements": [_statement(one) for one in finding.statements],
        "settings": dict(finding.settings),
        "remedy": finding.remedy,
        "choice": finding.choice,
    }


def _statement(statement: Statement) -> dict[str, Any]:
    return {"sql": statement.text, "repeatable": statement.repeatable, "restart": statement.restart}
