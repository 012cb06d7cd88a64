"""The page tells what was played, what came of it, and how to play a failure again."""

from __future__ import annotations

from benchmarks.surroundings import Surroundings
from oracle.hurry import Rule
from oracle.judging import Deviation
from oracle.report import line, page
from oracle.scene import Outcome, Play
from oracle.syncs import Manner
from oracle.workload import Policy
from oracle.writers import Tally

WHERE = Surroundings(
    date="2026-01-02 03:04 UTC",
    command="python -m oracle --seeds 3",
    connector="0.1.0 (abc)",
    server="PostgreSQL 17.11, TimescaleDB 2.19.3",
    python="CPython 3.11",
    libraries="airbyte-cdk 7",
    machine="2 cores",
    load="0.01 / 0.02 / 0.03",
)


def outcome(seed: int, manner: Manner = Manner.WHOLE, error: str | None = None) -> Outcome:
    play = Play(seed, Policy.EVERYTHING, manner)
    return Outcome(play, Tally(1000, 20, 3), syncs=9, broken_off=2, records=5000, error=error, seconds=4.25)


def test_batches_are_added_up() -> None:
    text = page(WHERE, [outcome(4), outcome(5), outcome(4, Manner.KILLED)], None)

    assert "| everything equal | run to their end | 2 | 2 | 0 | 18 | 4 | 2,000 | 46 | 10,000 | 0 |" in text
    assert (
        "| everything equal | killed at a random message | 1 | 1 | 0 | 9 | 2 | 1,000 | 23 | 5,000 | 0 |"
        in text
    )
    assert "| Seeds | 4 to 5 |" in text
    assert "## Failures\n\nNone.\n" in text
    for fact in (WHERE.date, WHERE.connector, WHERE.server, WHERE.command, WHERE.python):
        assert fact in text


def test_failures_are_told_by_seed() -> None:
    wrong = outcome(6)
    wrong.deviations.append(Deviation("events", "last to come wins", 2, 0, ("missing: (1,)",)))

    text = page(WHERE, [wrong, outcome(7, error="The server went away.")], None)

    assert "- seed 6, syncs run to their end: events (last to come wins): 2 rows missing, 0 too many" in text
    assert "- seed 7, syncs run to their end: a sync ended with: The server went away." in text
    assert "| 2 | 0 | 2 |" in text


def test_a_rule_that_is_switched_off_is_named() -> None:
    assert Rule.FILTER.value in page(WHERE, [outcome(1)], Rule.FILTER)
    assert "Switched off" not in page(WHERE, [outcome(1)], None)


def test_a_seed_is_a_line() -> None:
    said = line(outcome(8))

    assert said.startswith("seed 8 (everything equal; syncs run to their end): 9 syncs, 2 broken off")
    assert said.endswith("4.2 s: equal")
