"""The page: which seeds were played where, and what came of them. Pure: outcomes in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from benchmarks.report import table
from benchmarks.surroundings import Surroundings
from oracle.destinations import Habit
from oracle.hurry import Rule
from oracle.scene import Outcome

HEAD: Final = """\
# The oracle

Written by `{command}`.

{about} Syncs run back to back meanwhile; after a last one in the quiet, each destination must hold what the source
holds, row by row. A seed fixes everything but how the server interleaves the sessions, so a seed that fails is played
again until it fails again, with `--seeds 1 --first SEED --keep`.

{facts}

"""

BATCHES: Final = """\
## Outcome

{table}

Destinations: {habits}. A table without a key may have rows twice at a destination that keeps what no STATE counts,
after a sync was broken off; nowhere else, and it may never lack one. Where chunks are dropped, tables truncated or whole
compressed batches deleted without a trace in the log, destinations keep the rows, which is documented, as they do of
chunks that were split or merged into new ones, which a sync has named: what may have been removed so is excused, what is
missing never is.
Where TimescaleDB itself has let a key into a table twice, a destination has one of the two rows.

"""


def page(surroundings: Surroundings, outcomes: Sequence[Outcome], without: Rule | None) -> str:
    """The whole page."""
    off = () if without is None else (("Switched off", f"the rule that {without.value}: seeds must fail"),)
    habits = "; ".join(habit.value for habit in Habit)
    return "".join(
        (
            HEAD.format(
                command=surroundings.command,
                about=_about(outcomes),
                facts=facts(surroundings, outcomes, *off),
            ),
            BATCHES.format(table=_batches(outcomes), habits=habits),
            _failures([outcome for outcome in outcomes if not outcome.well]),
        )
    )


def facts(surroundings: Surroundings, outcomes: Sequence[Outcome], *more: tuple[str, str]) -> str:
    """Where and when what was played, as a table."""
    rows = [
        ("Date", surroundings.date),
        ("Connector", surroundings.connector),
        ("Servers, dealt out by seed", surroundings.server),
        ("Python", f"{surroundings.python}; {surroundings.libraries}"),
        ("Machine", surroundings.machine),
        ("Seeds", _seeds(outcomes)),
        *more,
    ]
    return table(("", ""), rows)


def line(outcome: Outcome) -> str:
    """One seed in a line for a terminal."""
    verdict = "equal" if outcome.well else "; ".join(complaints(outcome))
    what = outcome.play
    return (
        f"seed {what.seed} ({what.policy.value}; syncs {what.manner.value}): {outcome.syncs} syncs, "
        f"{outcome.broken_off} broken off, {outcome.tally.committed} transactions, {outcome.records} records, "
        f"{outcome.seconds:.1f} s: {verdict}"
    )


def complaints(outcome: Outcome) -> list[str]:
    """What is wrong, in sentences."""
    error = [f"a sync ended with: {outcome.error}"] if outcome.error is not None else []
    return [*error, *map(str, outcome.deviations)]


def _about(outcomes: Sequence[Outcome]) -> str:
    return outcomes[0].play.programme.about if outcomes else "Nothing was played."


def _seeds(outcomes: Sequence[Outcome]) -> str:
    seeds = sorted({outcome.play.seed for outcome in outcomes})
    return f"{seeds[0]} to {seeds[-1]}" if seeds else "none"


def _batches(outcomes: Sequence[Outcome]) -> str:
    head = (
        "what must hold",
        "syncs",
        "seeds",
        "equal",
        "not equal",
        "syncs run",
        "broken off",
        "transactions",
        "rolled back or failed",
        "records",
        "keys twice in the source",
    )
    kinds = sorted(
        {(outcome.play.manner, outcome.play.policy) for outcome in outcomes},
        key=lambda kind: (kind[0].name, kind[1].name),
    )
    return table(head, [_batch([one for one in outcomes if _kind(one) == kind]) for kind in kinds])


def _kind(outcome: Outcome) -> tuple[object, object]:
    return outcome.play.manner, outcome.play.policy


def _batch(batch: Sequence[Outcome]) -> Sequence[str]:
    well = sum(outcome.well for outcome in batch)
    numbers = (
        len(batch),
        well,
        len(batch) - well,
        sum(outcome.syncs for outcome in batch),
        sum(outcome.broken_off for outcome in batch),
        sum(outcome.tally.committed for outcome in batch),
        sum(outcome.tally.rolled_back + outcome.tally.failed for outcome in batch),
        sum(outcome.records for outcome in batch),
        sum(outcome.twins for outcome in batch),
    )
    first = batch[0].play
    return (first.policy.value, first.manner.value, *(f"{number:,}" for number in numbers))


def _failures(failed: Iterable[Outcome]) -> str:
    lines = [
        f"- seed {outcome.play.seed}, syncs {outcome.play.manner.value}: {complaint}"
        for outcome in failed
        for complaint in complaints(outcome)
    ]
    return "## Failures\n\n" + ("\n".join(lines) or "None.") + "\n"
