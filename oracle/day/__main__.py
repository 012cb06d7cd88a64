"""`python -m oracle.day`: live through a day on each Community edition server, compare, and write the page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from benchmarks.report import table
from benchmarks.surroundings import Surroundings, surroundings
from oracle.command import carry_out, tell
from oracle.day.orders import DROPPED_AFTER_SECONDS
from oracle.day.scene import CHUNK_SECONDS, COMPRESSED_AFTER_SECONDS, HABITS, Day, live_through
from testkit.connector import REPOSITORY
from testkit.errors import NoServerError
from testkit.servers import NO_COMMUNITY, Candidate, candidate, candidates

PAGE: Final = "oracle-day.md"
HEAD: Final = """\
# A day of policies in minutes

Written by `{command}`. Chunks of {chunk} seconds; policies that run every second compress them after {compressed}
seconds, drop them after {dropped} seconds and refresh a continuous aggregate; three writers add rows, some late, and
change and delete young and compressed ones. Syncs run back to back with change data capture. After a last one in the
quiet, each destination ({habits}) must hold what the source holds, row by row; what retention dropped is kept, which
is documented.

"""


def main(arguments: list[str] | None = None) -> int:
    """Live through the days; 1 when one failed, or could not be lived through, and a sentence says why."""
    return carry_out(_parser(), arguments, run)


def run(options: argparse.Namespace, command: str) -> list[Day]:
    """Live through a day on each of the servers and write the page into the output folder. Raises KitError."""
    days: list[Day] = []
    places: list[Surroundings] = []
    for one in _servers(options.server):
        with one.open() as cluster:
            places.append(surroundings(cluster, command, datetime.now(timezone.utc)))
            days.append(live_through(cluster, options.seed, options.seconds))
        tell(f"{one.label}: {'; '.join(complaints(days[-1])) or 'equal'}")
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / PAGE).write_text(page(places, days))
    return days


def page(places: Sequence[Surroundings], days: Sequence[Day]) -> str:
    """The whole page. Pure."""
    head = HEAD.format(
        command=places[0].command,
        chunk=CHUNK_SECONDS,
        compressed=COMPRESSED_AFTER_SECONDS,
        dropped=DROPPED_AFTER_SECONDS,
        habits="; ".join(habit.value for habit in HABITS),
    )
    columns = [_column(place, day) for place, day in zip(places, days, strict=True)]
    names = [name for name, _ in columns[0]]
    rows = [(name, *(column[number][1] for column in columns)) for number, name in enumerate(names)]
    faults = [f"- {complaint}" for day in days for complaint in complaints(day)]
    return (
        head
        + table(("", *("" for _ in days)), rows)
        + "\n\n## Failures\n\n"
        + ("\n".join(faults) or "None.")
        + "\n"
    )


def complaints(day: Day) -> list[str]:
    """What is wrong, in sentences."""
    error = [f"a sync ended with: {day.error}"] if day.error is not None else []
    return [*error, *map(str, day.deviations)]


def _column(place: Surroundings, day: Day) -> list[tuple[str, str]]:
    return [
        ("Server", place.server),
        ("Date", place.date),
        ("Connector", place.connector),
        ("Python", f"{place.python}; {place.libraries}"),
        ("Machine", place.machine),
        ("Seed", str(day.seed)),
        ("Written for", f"{day.seconds:.0f} s"),
        ("Statements", f"{day.tally.committed:,}"),
        ("Statements that failed", f"{day.tally.failed:,}"),
        ("Runs of policies", f"{day.jobs:,}"),
        ("Chunks made, compressed relations included", f"{day.born:,}"),
        ("Chunks at the end", f"{day.left:,}"),
        ("Syncs", f"{day.syncs:,}"),
        ("Longest sync", f"{day.longest_sync:.1f} s"),
        ("Records", f"{day.records:,}"),
        ("Rows compared", f"{day.rows:,}"),
        ("Keys that the source itself holds twice", f"{day.twins:,}"),
        ("Outcome", "equal" if day.well else "not equal"),
    ]


def _servers(names: Sequence[str] | None) -> list[Candidate]:
    found = [candidate(name) for name in names or ()] or [one for one in candidates() if one.community]
    if not found:
        raise NoServerError(NO_COMMUNITY)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m oracle.day", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long is written (default 600)")
    parser.add_argument("--seed", type=int, default=1, help="of the writers (default 1)")
    parser.add_argument("--server", action="append", metavar="NAME", help="only on this server; repeatable")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs", help="folder for the page")
    return parser


if __name__ == "__main__":
    sys.exit(main())
