"""The page of a soak counts runs, rows and blows, and names what did not recover."""

from __future__ import annotations

from collections import Counter

from oracle.faults import Fault
from oracle.judging import Deviation
from oracle.scene import Outcome, Play
from oracle.soak.report import Run, page
from oracle.syncs import Manner
from oracle.workload import Policy
from oracle.writers import Tally
from unit_tests.oracle.test_report import WHERE


def outcome(seed: int, *, gave_up: list[str] | None = None, error: str | None = None) -> Outcome:
    play = Play(seed, Policy.EVERYTHING, Manner.DISTURBED)
    return Outcome(
        play,
        Tally(100, 20, 3),
        syncs=4,
        broken_off=2,
        records=5000,
        error=error,
        gave_up=gave_up or [],
        blows=Counter({Fault.CUT: 2, Fault.CRASHED: 1}),
    )


def test_runs_that_recovered_are_counted_by_server_and_with_them_those_of_which_a_sync_gave_up() -> None:
    text = page(
        WHERE, [Run("one", outcome(0)), Run("two", outcome(1)), Run("one", outcome(2, gave_up=["Gone."]))]
    )

    assert "**3 of 3 runs recovered with no help; 0 rows lost, 0 invented.**" in text
    assert "| one | 2 | 2 | 1 | 0 | 0 | 0 | 8 | 4 | 200 | 10,000 | 6 |" in text
    assert "| two | 1 | 1 | 0 | 0 | 0 | 0 | 4 | 2 | 100 | 5,000 | 3 |" in text
    assert f"| {Fault.CUT.value} | 6 | 3 |" in text
    assert f"| {Fault.FULL.value} | 0 | 0 |" in text
    assert "| Seeds | 0 to 2 |" in text
    assert "## Failures\n\nNone." in text


def test_rows_that_were_lost_or_invented_are_counted_and_the_seed_is_named() -> None:
    wrong = outcome(6)
    wrong.deviations.append(Deviation("events", "keeps all", 2, 1, ("missing: (1,)",)))

    text = page(WHERE, [Run("one", wrong), Run("one", outcome(7, error="A setting is wrong."))])

    assert "**0 of 2 runs recovered with no help; 2 rows lost, 1 invented.**" in text
    assert "- seed 6 on one: events (keeps all): 2 rows missing, 1 too many" in text
    assert "- seed 7 on one: a sync ended with: A setting is wrong." in text


def test_errors_with_which_syncs_gave_up_are_counted_without_their_details() -> None:
    gone = ["The server is gone. (08006)", "The server is gone. (57P01)"]

    text = page(WHERE, [Run("one", outcome(1, gave_up=gone))])

    assert "- 2 times: The server is gone.\n" in text
