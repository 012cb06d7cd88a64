"""`python -m benchmarks.start_up`: what `spec` takes beside the import of airbyte-cdk alone, as whole processes.

No server takes part. Each round starts everybody once, in the same order, so that whatever else the machine does
meets all of them; each round gives one ratio.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from benchmarks.contenders import STOCK, STOCK_COMMAND
from benchmarks.costs import Contest, Cost, Measure, Run, typical
from benchmarks.measuring import Bench, Command
from benchmarks.report import MEGABYTE, facts, table, times
from benchmarks.surroundings import Surroundings, surroundings
from testkit.connector import COMMAND, REPOSITORY

ROUNDS: Final = 30
FLOOR: Final = "`import airbyte_cdk`"
ENVIRONMENT: Final = {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": ""}
"""Modules are compiled once, as pip compiles what it installs."""

COMMANDS: Final = {
    FLOOR: (sys.executable, "-c", "import airbyte_cdk"),
    f"{STOCK}, `spec`": (*STOCK_COMMAND, "spec"),
    "connector, `spec`": (*COMMAND, "spec"),
    "connector, `spec`, collector at work": (
        sys.executable,
        "-c",
        "import sys; from source_timescaledb.command import execute; sys.exit(execute(['spec']))",
    ),
}

PAGE: Final = """\
# Start-up

Written by `{command}`; `make bench` does it, too.

{facts}Whole processes, from start to end, in turns ({rounds} rounds): a Python that imports airbyte-cdk and ends
(`python -c "import airbyte_cdk"`); `spec` of a plain `AbstractSource` (`benchmarks/stock_source.py`); and `spec` of the
connector. Importing any module of airbyte-cdk imports the whole package, its declarative half included: nobody who uses
it starts sooner. Each round gives one ratio to the bare import of that round; the table has their median and range.

{ratios}

{figures}

The connector imports psycopg, pydantic, its own rooms and what else a sync needs besides, and makes up for it by
letting the garbage collector rest meanwhile (`source_timescaledb/run.py`); the last line is without that. What only some
syncs need is not imported before they do: asyncssh (tunnels), OpenTelemetry (metrics), rich (terminals).
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write the page."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start_up", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="default %(default)s")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs", help="folder for the page")
    options = parser.parse_args(words)
    where = surroundings(
        None, shlex.join(["python", "-m", "benchmarks.start_up", *words]), datetime.now(timezone.utc)
    )
    (options.output / "start-up.md").write_text(page(where, contest(options.rounds)))
    return 0


def contest(rounds: int) -> Contest:
    """So many rounds, after one that counts for nothing, in which modules are compiled."""
    result = Contest("", "", FLOOR)
    with tempfile.TemporaryDirectory(prefix="start-up-") as workdir:
        bench = Bench(Path(workdir), lambda: 0.0, idle_runs=0)
        for number in range(rounds + 1):
            runs = {name: _start(bench, words) for name, words in COMMANDS.items()}
            if number:
                result.add(runs)
    return result


def _start(bench: Bench, words: tuple[str, ...]) -> Run:
    measured = bench.measure(Command(words, ENVIRONMENT))
    return Run(rows=1, output=measured.output, cost=measured.cost)


def page(where: Surroundings, contest: Contest) -> str:
    """The page in Markdown."""
    measures = (Measure.WALL, Measure.CLIENT_CPU, Measure.MEMORY)
    ratios = [
        (name, *(times(contest.ratio(name, measure)) for measure in measures)) for name in contest.contenders
    ]
    figures = [
        (name, *_seconds(typical([run.cost for run in runs]))) for name, runs in contest.everybody.items()
    ]
    return PAGE.format(
        command=where.command,
        facts=facts(where),
        rounds=contest.rounds,
        ratios=table(("", *(measure.value for measure in measures)), ratios),
        figures=table(("median of", "wall s", "CPU s", "peak memory MB"), figures),
    )


def _seconds(cost: Cost) -> tuple[str, ...]:
    return f"{cost.wall:.2f}", f"{cost.client_cpu:.2f}", f"{cost.peak_memory / MEGABYTE:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
