"""The page of a soak: how many runs recovered with no help, what was lost, what was invented. Pure.

A run is a seed: its writers, its blows, its syncs back to back, the last one in the quiet, and the verdict. It has
recovered if no sync ended with an error that somebody would have to see to, and every destination holds what the source
holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.report import table
from benchmarks.surroundings import Surroundings
from oracle.faults import Fault
from oracle.report import complaints, facts
from oracle.scene import Outcome

HEAD: Final = """\
# The soak

Written by `{command}`.

A run is a seed. On an Apache edition its writers and tables are those of [the oracle](oracle.md), on a Community edition
those of [the oracle with compression](oracle-compression.md), which compress, merge, split and refresh besides. Syncs
with change data capture run back to back, each in a process of its own, through a proxy to a server of the run's own.
All the while blows fall, drawn from the seed (`oracle/faults.py`): on the network, on the connector's sessions, on the
server. Two processes in five are killed, told to stop, suspended or read slowly besides, and of every fifth sync the last
STATE gets lost. Then a last sync in the quiet, and each destination must hold what the source holds, row by row.

{facts}

## Outcome

{summary}

*Recovered with no help*: no sync ended with an error that wants somebody (`config_error`, `system_error`) or hung, and
every destination is equal. *Gave up once or more* is a part of them: a sync ended with an error that may pass
(`transient_error`), and the next one, which a platform starts by itself, went on.

{servers}

## Blows

{blows}

## Failures

{failures}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A seed that was played, and on which server."""

    server: str
    outcome: Outcome

    @property
    def well(self) -> bool:
        """Whether it has recovered with no help, and nothing is lost or invented."""
        return self.outcome.well

    @property
    def lost(self) -> int:
        """Rows of the source that some destination lacks."""
        return sum(deviation.missing for deviation in self.outcome.deviations)

    @property
    def invented(self) -> int:
        """Rows of some destination that the source does not have."""
        return sum(deviation.surplus for deviation in self.outcome.deviations)


def page(surroundings: Surroundings, runs: Sequence[Run]) -> str:
    """The whole page."""
    by_server = sorted({run.server for run in runs})
    return HEAD.format(
        command=surroundings.command,
        facts=facts(surroundings, [run.outcome for run in runs]),
        summary=_summary(runs),
        servers=table(
            _COLUMNS, [_row(name, [run for run in runs if run.server == name]) for name in by_server]
        ),
        blows=_blows(runs),
        failures=_failures(runs),
    )


def _summary(runs: Sequence[Run]) -> str:
    well = sum(run.outcome.well for run in runs)
    return (
        f"**{well:,} of {len(runs):,} runs recovered with no help; {sum(run.lost for run in runs):,} rows lost, "
        f"{sum(run.invented for run in runs):,} invented.**"
    )


_COLUMNS: Final = (
    "server",
    "runs",
    "recovered with no help",
    "of them gave up once or more",
    "not recovered",
    "rows lost",
    "rows invented",
    "syncs",
    "ended before their time",
    "transactions",
    "records",
    "blows",
)


def _row(name: str, runs: Sequence[Run]) -> Sequence[str]:
    outcomes = [run.outcome for run in runs]
    well = [outcome for outcome in outcomes if outcome.well]
    numbers = (
        len(runs),
        len(well),
        sum(bool(outcome.gave_up) for outcome in well),
        len(runs) - len(well),
        sum(run.lost for run in runs),
        sum(run.invented for run in runs),
        sum(outcome.syncs for outcome in outcomes),
        sum(outcome.broken_off for outcome in outcomes),
        sum(outcome.tally.committed for outcome in outcomes),
        sum(outcome.records for outcome in outcomes),
        sum(outcome.blows.total() for outcome in outcomes),
    )
    return (name, *(f"{number:,}" for number in numbers))


def _blows(runs: Iterable[Run]) -> str:
    dealt: Counter[Fault] = Counter()
    hit: Counter[Fault] = Counter()
    for run in runs:
        dealt += run.outcome.blows
        hit.update(run.outcome.blows.keys())
    rows = [(fault.value, f"{dealt[fault]:,}", f"{hit[fault]:,}") for fault in Fault]
    return table(("what befell them", "times", "runs"), rows)


def _failures(runs: Iterable[Run]) -> str:
    lines = [
        f"- seed {run.outcome.play.seed} on {run.server}: {complaint}"
        for run in runs
        for complaint in complaints(run.outcome)
    ]
    gave_up = Counter(sentence for run in runs for sentence in map(_without_detail, run.outcome.gave_up))
    told = [f"- {count} times: {sentence}" for sentence, count in gave_up.most_common()]
    return (
        ("\n".join(lines) or "None.")
        + "\n\nErrors that may pass, with which syncs gave up:\n\n"
        + ("\n".join(told) or "None.")
    )


def _without_detail(sentence: str) -> str:
    """The sentence alone, so that equal ones are counted together."""
    return sentence.partition(" (")[0]
