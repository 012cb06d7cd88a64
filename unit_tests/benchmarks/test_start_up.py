"""The page of the start-up: a ratio for each but the floor, and figures for all."""

from __future__ import annotations

from benchmarks.costs import Contest, Cost, Run
from benchmarks.start_up import page
from benchmarks.surroundings import Surroundings


def run(seconds: float, megabytes: int) -> Run:
    return Run(rows=1, output=0, cost=Cost(seconds, seconds / 2, 0.0, megabytes * 1_000_000))


def test_a_round_is_compared_with_the_floor_of_that_round() -> None:
    contest = Contest("", "", "import")
    for import_seconds, spec_seconds in ((1.0, 1.1), (2.0, 2.0), (1.0, 1.2)):
        contest.add({"import": run(import_seconds, 80), "spec": run(spec_seconds, 100)})
    where = Surroundings("today", "the command", "0.1.0", "", "CPython", "airbyte-cdk", "2 cores", "0.01")

    text = page(where, contest)

    assert "| spec | 1.10 (1.00 to 1.20) | 1.10 (1.00 to 1.20) | 1.25 (1.25 to 1.25) |" in text
    assert "| import | 1.00 | 0.50 | 80 |" in text
    assert "| spec | 1.20 | 0.60 | 100 |" in text
    assert "Written by `the command`" in text
    assert "Server" not in text
