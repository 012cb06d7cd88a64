"""Who reads the tables, each as a command line that prints rows to its standard output.

The floor is `psql` with COPY: PostgreSQL's own and fastest way out, in its own text format. Nobody who prints JSON can
do less work than it does.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.costs import Run
from benchmarks.measuring import Bench, Command, Measured
from testkit.connector import COMMAND, REPOSITORY
from testkit.database import Database
from testkit.errors import KitError
from testkit.keeper import inside
from testkit.protocol import Json, Output, configured_catalog
from testkit.server import Server

FLOOR: Final = "psql COPY"
STOCK: Final = "stock airbyte-cdk source"
STOCK_COMMAND: Final = (sys.executable, "-m", "benchmarks.stock_source")
MORE_LINES: Final = 1000
"""So many lines, and one for every fifty rows, may be states and logs."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that reads `rows` rows; `idle` is a command of it that does nothing but start.

    It may print `more_lines` besides, as states for each of many chunks.
    """

    name: str
    command: Command
    idle: Command
    rows: int
    more_lines: int = 0

    def run(self, bench: Bench) -> Run:
        """Read once.

        Raises:
            KitError: it failed, or did not print as many lines as there are rows.
        """
        return self.judged(bench.measure(self.command), bench)

    def judged(self, measured: Measured, bench: Bench) -> Run:
        """The run that was measured, if it printed what it should. Raises KitError otherwise."""
        if not self.rows <= measured.lines <= self.rows + self.rows // 50 + self.more_lines + MORE_LINES:
            raise KitError(f"{self.name} printed {measured.lines} lines for {self.rows} rows.")
        return Run(self.rows, measured.output, measured.cost, bench.idle(self.idle))


def psql(server: Server, database: Database, table: str, rows: int) -> Contender:
    """COPY of a whole table, as text, by the server's own `psql`."""
    environment = {
        "PGHOST": server.address.host,
        "PGPORT": str(server.address.port),
        "PGDATABASE": database.name,
        "PGUSER": database.reader,
        "PGPASSWORD": database.passwords["reader"],
    }
    program = f"{server.root.programs}/psql"

    def command(*arguments: str) -> Command:
        return Command(tuple(inside(server.root, [program, "--no-psqlrc", *arguments])), environment)

    copy = f"COPY (TABLE public.{table}) TO STDOUT"
    return Contender(FLOOR, command("--command", copy), command("--version"), rows)


def connector(
    database: Database,
    workdir: Path,
    catalog: Json,
    rows: int,
    readers: int,
    chunks: int = 0,
    **timescaledb: Any,
) -> Contender:
    """The connector with so many readers, reading completely what a catalog configures, in so many chunks."""
    config = database.config(timescaledb={"parallel_chunks": readers, **timescaledb})
    files = ("--config", file_of(workdir, config), "--catalog", file_of(workdir, catalog))
    name = f"connector, {readers} reader{'s' if readers > 1 else ''}"
    return Contender(name, python(*COMMAND, "read", *files), python(*COMMAND, "spec"), rows, chunks)


def discover(database: Database, workdir: Path, **settings: Any) -> Command:
    """The connector's `discover`."""
    return python(*COMMAND, "discover", "--config", file_of(workdir, database.config(**settings)))


def catalog_of(
    bench: Bench, database: Database, table: str, sync_mode: str = "full_refresh", **settings: Any
) -> Json:
    """A catalog that configures one table, as the connector discovers it under these settings."""
    found = bench.measure(discover(database, bench.workdir, **settings), keep=True).kept.splitlines()
    return configured_catalog(Output(found).catalog, sync_mode, streams=[table])


def stock(database: Database, workdir: Path, catalog: Json, table: str, rows: int) -> Contender:
    """The stock source, reading the first rows of one table."""
    config = {**database.config(), "table": table, "limit": rows}
    files = ("--config", file_of(workdir, config), "--catalog", file_of(workdir, catalog))
    return Contender(STOCK, python(*STOCK_COMMAND, "read", *files), python(*STOCK_COMMAND, "spec"), rows)


def python(*words: str) -> Command:
    """A program of this interpreter, with this repository's modules."""
    return Command(words, {"PYTHONPATH": str(REPOSITORY)})


def file_of(workdir: Path, content: Json | list[Json]) -> str:
    """The path of a new file with this content, which only we can read."""
    path = workdir / f"{len(list(workdir.iterdir()))}.json"
    path.touch(mode=0o600)
    path.write_bytes(orjson.dumps(content))
    return str(path)
