"""What pages quote of the benchmarks is what the benchmarks' page has, to the last digit that is quoted."""

from __future__ import annotations

import re
from typing import Final

import pytest

from pages.reading import ROOT, cells, section

BENCHMARKS: Final = (ROOT / "docs/benchmarks.md").read_text()
FULL_READ: Final = "A full read, beside `psql COPY … TO STDOUT`"
CHANGES: Final = "Changes, beside `pg_recvlogical`"
MEMORY: Final = "Memory, where there is much to hold"
CPU: Final = "client CPU s per million rows"
PEAK: Final = "peak memory MB"

Row = dict[str, str]


def rows(heading: str, *first: str) -> list[Row]:
    """The rows of all tables under a heading, by column, of which some cells are these."""
    found: list[Row] = []
    for block in section(BENCHMARKS, heading).split("\n\n"):
        lines = block.strip().splitlines()
        if len(lines) > 2 and lines[1].startswith("| ---"):
            header = cells(lines[0])
            found += [dict(zip(header, cells(line), strict=True)) for line in lines[2:]]
    return [row for row in found if set(first) <= set(row.values())]


def one(heading: str, column: str, *first: str) -> str:
    (value,) = {row[column] for row in rows(heading, *first) if column in row}
    return value


def span(column: str, values: list[Row]) -> tuple[str, str]:
    """The lowest and the highest figure of a column, to one digit behind the point."""
    numbers = [float(row[column]) for row in values if column in row]
    return f"{min(numbers):.1f}", f"{max(numbers):.1f}"


def readers(part: str, column: str) -> tuple[str, str]:
    """The figure of one reader, and of two."""
    return one(FULL_READ, column, part, "connector, 1 reader"), one(
        FULL_READ, column, part, "connector, 2 readers"
    )


def number(text: str) -> float:
    return float(text.replace(",", ""))


def times_the_rows() -> str:
    single, double = map(number, readers("10 columns", "rows/s"))
    return f"{double / single:.1f}"


def first_load() -> tuple[str, ...]:
    found = re.search(r"the first load took ([\d.]+) s", BENCHMARKS)
    assert found is not None
    return found.groups()


CONNECTOR_CHANGES: Final = [row for row in rows(CHANGES, "connector") if CPU in row]
TEN_COLUMNS: Final = [row for row in rows(FULL_READ, "10 columns") if row["read by"].startswith("connector")]

QUOTES: Final[list[tuple[str, str, tuple[str, ...]]]] = [
    ("guarantees", r"longest transaction was ([\d.]+) s", (one("One huge chunk", "longest transaction s"),)),
    ("guarantees", r"([\d]+) MB for a\s+transaction of five million", (one(MEMORY, PEAK, "all that comes"),)),
    ("guarantees", r"a STATE of (\d+) bytes at 5,000", (one("Many chunks", "largest STATE bytes", "5,000"),)),
    ("scaling-out", r"2 readers where there was 1: ([\d.]+) times the rows", (times_the_rows(),)),
    ("scaling-out", r"chunks were read, in ([\d.]+) s", first_load()),
    ("scaling-out", r"the connector printed (\d+) MB a second", (readers("10 columns", "MB/s")[1],)),
    (
        "scaling-out",
        r"Decoding took the server ([\d.]+) to ([\d.]+) s",
        span("server CPU s per million rows", CONNECTOR_CHANGES),
    ),
    ("scaling-out", r"reads ten columns, one reader, then two \| (\d+), (\d+)", readers("10 columns", PEAK)),
    ("scaling-out", r"reads 200 columns, two readers \| (\d+)", (readers("200 columns", PEAK)[1],)),
    ("scaling-out", r"reads texts of 1 MB, two readers \| (\d+)", (readers("1 MB texts", PEAK)[1],)),
    ("scaling-out", r"reads 5,000 chunks \| (\d+)", (one("Many chunks", PEAK, "5,000"),)),
    ("scaling-out", r"reads one chunk of five million rows \| (\d+)", (one("One huge chunk", PEAK),)),
    (
        "scaling-out",
        r"follows one transaction of five million rows \| (\d+)",
        (one(MEMORY, PEAK, "all that comes"),),
    ),
    (
        "scaling-out",
        r"waits for a destination that takes 1 MB a second \| (\d+)",
        (one(MEMORY, PEAK, "at most 1 MB a second"),),
    ),
    ("scaling-out", r"Processor time was ([\d.]+) to ([\d.]+) s for a million", span(CPU, TEN_COLUMNS)),
    (
        "scaling-out",
        r"in a first load, and ([\d.]+) to ([\d.]+) s in changes",
        span(CPU, CONNECTOR_CHANGES),
    ),
]


@pytest.mark.parametrize(("page", "quote", "figures"), QUOTES, ids=[quote for _, quote, _ in QUOTES])
def test_a_figure_that_a_page_quotes_was_measured(page: str, quote: str, figures: tuple[str, ...]) -> None:
    found = re.search(quote, (ROOT / "docs" / f"{page}.md").read_text())

    assert found is not None, "the page says it otherwise now"
    assert found.groups() == figures
