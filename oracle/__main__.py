"""`python -m oracle`, which `make oracle` runs: play seeds, compare, and write the page."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import psycopg

from benchmarks.surroundings import Surroundings, surroundings
from oracle.hurry import Rule
from oracle.programme import PROGRAMMES, Programme
from oracle.report import line, page
from oracle.scene import Outcome, Play
from oracle.stages import Staging, played
from oracle.syncs import Manner
from testkit.connector import REPOSITORY
from testkit.errors import KitError, NoServerError
from testkit.servers import NO_COMMUNITY, Candidate, candidate, candidates

INTERRUPTED = 130
KEPT = Path("oracle-output")


def main(arguments: list[str] | None = None) -> int:
    """Play the seeds; 1 when one failed, or could not be played, and a sentence says why."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(words)
    try:
        outcomes = run(options, shlex.join(["python", "-m", "oracle", *words]))
    except (KitError, OSError, psycopg.Error) as reason:
        print(f"\nThe oracle failed: {str(reason).strip()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0 if all(outcome.well for outcome in outcomes) else 1


def run(options: argparse.Namespace, command: str) -> list[Outcome]:
    """Play on the chosen servers and write the programme's page into the output folder.

    Raises:
        KitError: there is no such server, or a seed could not be played.
    """
    without = Rule[options.without.upper()] if options.without else None
    programme = PROGRAMMES[options.programme]
    chosen = _servers(options.server, programme)
    where = _surroundings(chosen, command)
    plays = [
        Play.of(seed, programme, manner=manner)
        for seed in range(options.first, options.first + options.seeds)
        for manner in ((None, Manner.KILLED) if options.kills else (None,))
    ]
    staging = Staging([one.name for one in chosen], KEPT if options.keep else None, without)
    outcomes: list[Outcome] = []
    for outcome in played([(one, staging) for one in plays], options.jobs):
        outcomes.append(outcome)
        _tell(line(outcome))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / programme.page).write_text(page(where, outcomes, without))
    _tell(f"written: {options.output / programme.page}")
    return outcomes


def _servers(names: Sequence[str] | None, programme: Programme) -> list[Candidate]:
    """Those that are named, else all that can play the programme."""
    found = [candidate(name) for name in names or ()] or [
        one for one in candidates() if one.community or not programme.upkeep
    ]
    if not found:
        raise NoServerError(NO_COMMUNITY)
    return found


def _surroundings(chosen: Sequence[Candidate], command: str) -> Surroundings:
    found = []
    for one in chosen:
        with one.open() as cluster:
            found.append(surroundings(cluster, command, datetime.now(timezone.utc)))
    return replace(found[0], server="; ".join(one.server for one in found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m oracle", description=__doc__)
    parser.add_argument(
        "--programme", choices=list(PROGRAMMES), default="rows", help="what is played (default rows)"
    )
    parser.add_argument("--seeds", type=int, default=200, metavar="N", help="how many (default 200)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first of them (default 0)")
    parser.add_argument(
        "--kills", action="store_true", help="play each seed once more with syncs that are killed"
    )
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
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs", help="folder for the page")
    parser.add_argument(
        "--without",
        choices=[rule.name.lower() for rule in Rule],
        help="switch a rule of the connector off: seeds must fail",
    )
    return parser


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
