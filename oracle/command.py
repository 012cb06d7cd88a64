"""What the commands of the oracle have in common: how they end, where they play, what can be asked of them."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, Protocol

import psycopg

from benchmarks.surroundings import Surroundings, surroundings
from testkit.connector import REPOSITORY
from testkit.errors import KitError
from testkit.servers import Candidate

INTERRUPTED: Final = 130
KEPT: Final = Path("oracle-output")


class Judged(Protocol):
    """Something that has come out well, or not."""

    @property
    def well(self) -> bool:
        """Whether it has."""


Doing = Callable[[argparse.Namespace, str], Sequence[Judged]]
"""What a command does, given its options and its own words."""


def carry_out(parser: argparse.ArgumentParser, arguments: list[str] | None, doing: Doing) -> int:
    """Do what a command line asks for; 1 if something did not come out well or could not be done, which is said."""
    words = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(words)
    try:
        judged = doing(options, shlex.join([*parser.prog.split(), *words]))
    except (KitError, OSError, psycopg.Error) as reason:
        print(f"\n`{parser.prog}` failed: {str(reason).strip()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0 if all(one.well for one in judged) else 1


def seed_parser(prog: str, description: str | None, *, seeds: int) -> argparse.ArgumentParser:
    """A parser of what can be asked of all who play seeds; so many by default."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--seeds", type=int, default=seeds, metavar="N", help=f"how many (default {seeds})")
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
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs", help="folder for the page")
    return parser


def seeds_of(options: argparse.Namespace) -> range:
    """The seeds that are asked for."""
    return range(options.first, options.first + options.seeds)


def surroundings_of(chosen: Sequence[Candidate], command: str) -> Surroundings:
    """Where a command plays, on which servers. Raises NoServerError."""
    found = []
    for one in chosen:
        with one.open() as cluster:
            found.append(surroundings(cluster, command, datetime.now(timezone.utc)))
    return replace(found[0], server="; ".join(one.server for one in found))


def tell(text: str) -> None:
    """Say how it goes, to whoever waits."""
    print(text, file=sys.stderr, flush=True)
