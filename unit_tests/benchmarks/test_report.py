"""The benchmark page: numbers become cells, and every number of a measurement has one."""

from __future__ import annotations

import pytest

from benchmarks.costs import (
    Chunks,
    Contest,
    Cost,
    HugeChunk,
    LargeTransaction,
    ManyChunks,
    RecentChunks,
    Run,
    Spread,
)
from benchmarks.report import page, table, times
from benchmarks.surroundings import Surroundings


def test_numbers_stand_right_and_words_left() -> None:
    rows = [("psql", "1.50", "-"), ("other", "12,000", "7")]

    assert table(("who", "much", "more"), rows).splitlines() == [
        "| who | much | more |",
        "| --- | ---: | ---: |",
        "| psql | 1.50 | - |",
        "| other | 12,000 | 7 |",
    ]


@pytest.mark.parametrize(
    ("spread", "text"),
    [
        (Spread(1.018, 0.98, 1.1), "1.02 (0.98 to 1.10)"),
        (Spread(21.44, 19.96, 103.2), "21.4 (20.0 to 103)"),
        (None, "-"),
    ],
)
def test_a_ratio_is_told_with_its_range(spread: Spread | None, text: str) -> None:
    assert times(spread) == text


def test_the_page_tells_everything_that_was_measured() -> None:
    start_up = Cost(0.5, 0.5, 0.0, 0)
    contest = Contest("10 columns", "a time and nine more", "psql COPY")
    contest.add(
        {
            "psql COPY": Run(1_000_000, 10**8, Cost(1.5, 0.75, 1.25, 12_000_000), start_up),
            "connector, 2 readers": Run(1_000_000, 2 * 10**8, Cost(2.0, 1.0, 2.5, 108_000_000), start_up),
        }
    )
    many = ManyChunks(
        chunks=1000,
        rows=10_000,
        read_seconds=3.25,
        copy_seconds=0.5,
        discover_seconds=0.125,
        largest_state=777,
        peak_memory=110_000_000,
    )
    huge = HugeChunk(
        [Run(5_000_000, 10**9, Cost(9.5, 3.0, 12.0, 140_000_000), start_up)],
        columns=3,
        longest_transaction=0.321,
        longest_gap=0.033,
        limit=1.0,
    )
    recent = RecentChunks(chunks=5000, wanted=10, scanned=10, rows=100, read_seconds=0.75)
    where = Surroundings(
        date="2026-01-02 03:04 UTC",
        command="python -m benchmarks",
        connector="0.1.0 (abc)",
        server="PostgreSQL 17.11",
        python="CPython 3.11",
        libraries="airbyte-cdk 7",
        machine="2 cores",
        load="0.01 / 0.02 / 0.03",
    )

    text = page(
        where,
        [contest],
        Chunks([many], recent, huge),
        [contest],
        [LargeTransaction(5_000_000, 1_000_000, 10**9, 123.4, 107_000_000)],
    )

    ratios = "| 10 columns | connector, 2 readers | 1.50 (1.50 to 1.50) | 1.33 (1.33 to 1.33) | 2.00 (2.00 to 2.00) |"
    figures = (
        "| 10 columns | connector, 2 readers | 1,000,000 | 666,667 | 133 | 2.00 | 0.50 | 0.50 | 2.50 | 108 |"
    )
    assert f"{ratios} 2.00 (2.00 to 2.00) | 9.00 (9.00 to 9.00) |" in text
    assert figures in text
    assert "| 1,000 | 10,000 | 3.25 | 3.25 | 0.12 | 777 | 110 | 0.50 |" in text
    assert "last 10 days of 5,000 daily chunks, the first load took 0.75 s" in text
    assert "10 chunks were scanned" in text
    assert "| 555,556 | 9.50 | 0.50 | 1,000 | 140 | 0.321 | 0.033 |" in text
    assert "| at most 1 MB a second | 5,000,000 | 1,000 | 123.4 | 107 |" in text
    for fact in (
        "2026-01-02 03:04 UTC",
        "python -m benchmarks",
        "0.1.0 (abc)",
        "PostgreSQL 17.11",
        "2 cores",
    ):
        assert fact in text
