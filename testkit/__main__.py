"""The servers on the command line.

`python -m testkit list` says which can be had; `python -m testkit prepare` makes them ready for work offline.
"""

from __future__ import annotations

import argparse
import sys

from testkit.datadir import template
from testkit.errors import KitError
from testkit.servers import Candidate, candidates
from testkit.sshd import prepare as prepare_sshd


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 1 when a server could not be prepared."""
    parser = argparse.ArgumentParser(
        prog="python -m testkit", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("command", choices=("list", "prepare"))
    command = parser.parse_args(arguments).command
    if command == "list":
        for one in candidates():
            print(f"{one.name:<16} {one.label}")
        return 0
    prepare_ssh()
    return max([prepare(one) for one in candidates()], default=0)


def prepare(one: Candidate) -> int:
    """Make one server ready and print a line about it."""
    try:
        if one.root is not None:
            root = one.root()
            template(root)
            versions = f"TimescaleDB {root.timescaledb}, PostgreSQL {root.postgres}"
            print(f"{root.name:<16} {root.label:<22} {versions}", flush=True)
            return 0
        with one.open() as running:
            print(f"{one.name:<16} {running.label:<22} TimescaleDB {running.timescaledb}", flush=True)
    except KitError as reason:
        print(f"{one.name:<16} {reason}", file=sys.stderr)
        return 1
    return 0


def prepare_ssh() -> None:
    """Make the SSH server ready and print a line about it; without one only its tests are skipped."""
    try:
        root = prepare_sshd()
    except KitError as reason:
        print(f"{'ssh':<16} {reason} Tests of SSH tunnels will be skipped.", file=sys.stderr)
    else:
        print(f"{'ssh':<16} {root.version}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
