"""`python -m oracle.soak`, which `make soak` runs: disturb the syncs of a thousand seeds, judge them, write the page."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import psycopg

from benchmarks.surroundings import Surroundings, surroundings
from oracle.programme import PROGRAMMES
from oracle.report import line
from oracle.scene import Play
from oracle.soak.report import Run, page
from oracle.stages import Staging, played
from oracle.syncs import Manner
from testkit.connector import REPOSITORY
from testkit.errors import KitError
from testkit.servers import Candidate, candidate, candidates

INTERRUPTED: Final = 130
KEPT: Final = Path("oracle-output")
PAGE: Final = "soak.md"


def main(arguments: list[str] | None = None) -> int:
    """Soak; 1 when a run did not recover or could not be played, and a sentence says why."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(words)
    try:
        runs = run(options, shlex.join(["python", "-m", "oracle.soak", *words]))
    except (KitError, OSError, psycopg.Error) as reason:
        print(f"\nThe soak failed: {str(reason).strip()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0 if all(one.outcome.well for one in runs) else 1


def run(options: argparse.Namespace, command: str) -> list[Run]:
    """Play the seeds on the servers in turn, and write the page into the output folder. Raises KitError."""
    chosen = [candidate(name) for name in options.server or ()] or [
        one for one in candidates() if one.root is not None
    ]
    where = _surroundings(chosen, command)
    dealt = [
        (chosen[seed % len(chosen)], seed) for seed in range(options.first, options.first + options.seeds)
    ]
    plays = [
        (_play(server, seed), Staging([server.name], KEPT if options.keep else None))
        for server, seed in dealt
    ]
    runs: list[Run] = []
    for (server, _), outcome in zip(dealt, played(plays, options.jobs), strict=True):
        runs.append(Run(server.label, outcome))
        _tell(f"{server.label}: {line(outcome)}")
        if len(runs) % options.every == 0 or len(runs) == len(plays):
            options.output.mkdir(parents=True, exist_ok=True)
            (options.output / PAGE).write_text(page(where, runs))
    _tell(f"written: {options.output / PAGE}")
    return runs


def _play(server: Candidate, seed: int) -> Play:
    programme = PROGRAMMES["compression" if server.community else "rows"]
    return Play.of(seed, programme, manner=Manner.DISTURBED)


def _surroundings(chosen: Sequence[Candidate], command: str) -> Surroundings:
    found = []
    for one in chosen:
        with one.open() as cluster:
            found.append(surroundings(cluster, command, datetime.now(timezone.utc)))
    return replace(found[0], server="; ".join(one.server for one in found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m oracle.soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, metavar="N", help="how many (default 1000)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first of them (default 0)")
    parser.add_argument(
        "--keep", action="store_true", help=f"keep what syncs of failing seeds print, in {KEPT}/"
    )
    parser.add_argument(
        "--server",
        action="append",
        metavar="NAME",
        help="only on this server (see `python -m testkit list`); repeatable: seeds are dealt out in turn",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="play so many at a time (default 1)")
    parser.add_argument(
        "--every", type=int, default=50, metavar="N", help="write the page after so many (default 50)"
    )
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs", help="folder for the page")
    return parser


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
