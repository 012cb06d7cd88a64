"""`python -m oracle`, which `make oracle` runs: play seeds, compare, and write the page."""

from __future__ import annotations

import argparse
import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path

import psycopg

from benchmarks.surroundings import surroundings
from oracle.hurry import Rule
from oracle.report import line, page
from oracle.scene import Outcome, Play, play
from testkit.connector import REPOSITORY
from testkit.errors import KitError
from testkit.servers import server

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
    """Play on the chosen server and write `oracle.md` into the output folder.

    Raises:
        KitError: there is no such server, or a seed could not be played.
    """
    without = Rule[options.without.upper()] if options.without else None
    outcomes: list[Outcome] = []
    with server(options.server) as cluster:
        where = surroundings(cluster, command, datetime.now(timezone.utc))
        for seed in range(options.first, options.first + options.seeds):
            for killed in (False, True) if options.kills else (False,):
                what = Play.of(seed, killed=killed)
                outcomes.append(play(cluster, what, keep=KEPT if options.keep else None, without=without))
                _tell(line(outcomes[-1]))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "oracle.md").write_text(page(where, outcomes, without))
    _tell(f"written: {options.output / 'oracle.md'}")
    return outcomes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m oracle", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, metavar="N", help="how many (default 200)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first of them (default 0)")
    parser.add_argument(
        "--kills", action="store_true", help="play each seed once more with syncs that are killed"
    )
    parser.add_argument(
        "--keep", action="store_true", help=f"keep what syncs of failing seeds print, in {KEPT}/"
    )
    parser.add_argument("--server", metavar="NAME", help="which server (see `python -m testkit list`)")
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
