"""`python -m benchmarks`, which `make bench` runs: measure everything and write the page with its plots."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from dataclasses import fields, replace
from datetime import datetime, timezone
from pathlib import Path

import psycopg

from benchmarks.changes import measure_changes
from benchmarks.chunks import measure_chunks
from benchmarks.large_transactions import measure_large_transactions
from benchmarks.measuring import Bench, ServerClock
from benchmarks.plot import draw_chunks, draw_contests
from benchmarks.report import page
from benchmarks.sizes import QUICK, Sizes
from benchmarks.snapshot import contests
from benchmarks.surroundings import surroundings
from testkit.connector import REPOSITORY
from testkit.errors import KitError, NoServerError
from testkit.roots import Root
from testkit.server import Server, Settings
from testkit.servers import candidate, candidates

INTERRUPTED = 130
SETTINGS: Settings = {
    "shared_buffers": "1GB",
    "autovacuum": "off",
    "max_wal_size": "8GB",
    "max_locks_per_transaction": 512,
}
"""Everything in memory, nothing in the background, and room for a COPY that locks thousands of chunks."""


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks; 1 when something could not be measured, and one sentence says what."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(words)
    try:
        run(
            _root(options.server),
            _sizes(options),
            options.output,
            shlex.join(["python", "-m", "benchmarks", *words]),
        )
    except (KitError, OSError, psycopg.Error) as reason:
        print(f"\nThe benchmarks failed: {str(reason).strip()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def run(root: Root, sizes: Sizes, output: Path, command: str) -> None:
    """Measure on a server of this root and write `benchmarks.md` and `benchmarks/` into a folder.

    Raises:
        KitError: something could not be measured.
    """
    with (
        Server(root, settings=SETTINGS, in_memory=sizes == QUICK) as server,
        tempfile.TemporaryDirectory(prefix="benchmarks-") as workdir,
    ):
        where = surroundings(server, command, datetime.now(timezone.utc))
        bench = Bench(Path(workdir), ServerClock(server.process).seconds, idle_runs=min(3, sizes.rounds))
        measured = contests(server, bench, sizes, _tell)
        chunks = measure_chunks(server, bench, sizes, _tell)
        changes = measure_changes(server, bench, sizes, _tell)
        transactions = measure_large_transactions(server, bench, sizes, _tell)
    plots = output / "benchmarks"
    plots.mkdir(parents=True, exist_ok=True)
    caption = f"{where.server}; connector {where.connector}; {where.date}"
    draw_contests(measured, plots / "snapshot.svg", caption)
    draw_chunks(chunks.many, plots / "chunks.svg", caption)
    (output / "benchmarks.md").write_text(page(where, measured, chunks, changes, transactions))
    _tell(f"written: {output / 'benchmarks.md'}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--server", metavar="NAME", help="which server (see `python -m testkit list`)")
    parser.add_argument(
        "--output", type=Path, default=REPOSITORY / "docs", help="folder for the page and its plots"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it work at all?")
    for size in fields(Sizes):
        parser.add_argument(
            f"--{size.name.replace('_', '-')}", type=int, metavar="N", help=f"default {size.default}"
        )
    return parser


def _sizes(options: argparse.Namespace) -> Sizes:
    given = {size.name: getattr(options, size.name) for size in fields(Sizes)}
    chosen = {name: number for name, number in given.items() if number is not None}
    return replace(QUICK if options.quick else Sizes(), **chosen)


def _root(name: str | None) -> Root:
    """The named server, or the first that can be had; it must be the kit's own, so that its processes can be seen."""
    offered = [candidate(name)] if name else candidates()
    root = next((one.root for one in offered if one.root is not None), None)
    if root is None:
        raise NoServerError("The benchmarks need a server of the test kit's own: they look at its processes.")
    return root()


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
