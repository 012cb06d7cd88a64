"""Part three: the same write-ahead log decoded by the connector and by `pg_recvlogical`, PostgreSQL's own client.

They take turns. The rows are inserted into chunks that exist, in transactions of one size. Everybody reads a slot of his
own, a copy of the one that stands before them, so all decode the same log. `pg_recvlogical` prints the messages of the
protocol as they come; the connector decodes them, asks for each row whether it is news, and prints Airbyte RECORD lines.

The server decodes for both, and is the slower half: what a client can do is to let it work in peace.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from benchmarks.contenders import Contender, catalog_of, file_of, python
from benchmarks.costs import Contest
from benchmarks.measuring import Bench, Command, Tell
from benchmarks.sizes import Sizes
from benchmarks.tables import START, ten_columns
from testkit.connector import COMMAND
from testkit.database import Database
from testkit.errors import KitError
from testkit.keeper import inside
from testkit.protocol import Json, Output
from testkit.server import Server

TRANSACTIONS: Final = (1, 100, 10_000)
"""Rows in each transaction."""
PUBLICATION: Final = "bench"
BASE_SLOT: Final = "bench_base"
CONNECTOR_SLOT: Final = "bench_connector"
METHOD: Final = {"method": "CDC", "replication_slot": CONNECTOR_SLOT, "publication": PUBLICATION}
MESSAGES_PER_ROW: Final = 4
"""A row in a transaction of its own is three messages; a message may have a line feed in it."""
FLOOR: Final = "pg_recvlogical"


def measure_changes(server: Server, bench: Bench, sizes: Sizes, tell: Tell) -> list[Contest]:
    """Measure all sizes of transactions. Raises KitError when somebody does not read what it should."""
    return [_contest(server, bench, size, sizes, tell) for size in TRANSACTIONS]


def _contest(server: Server, bench: Bench, size: int, sizes: Sizes, tell: Tell) -> Contest:
    rows = max(size, sizes.change_rows // size * size)
    title = f"{size:,} row{'s' if size > 1 else ''} a transaction"
    with server.database() as database:
        tell(f"{title}: writing {rows:,} rows")
        state, catalog = prepared(bench, database)
        end = written(database, rows, size)
        contest = Contest(title, f"inserts of ten columns into a hypertable, {title}", FLOOR)
        for number in range(1 - sizes.warm_ups, sizes.rounds + 1):
            runs = {}
            for one in (
                _recvlogical(server, database, rows, end),
                _connector(bench, database, catalog, state, rows),
            ):
                with copied_slot(database, _slot(one)):
                    runs[one.name] = one.run(bench)
            walls = ", ".join(f"{name} {run.cost.wall:.2f} s" for name, run in runs.items())
            tell(f"{title}: round {number}: {walls}")
            if number > 0:
                contest.add(runs)
        return contest


def prepared(bench: Bench, database: Database) -> tuple[list[Json], Json]:
    """The hypertable with its chunks, slot and publication, and the state of a sync that has read what there is."""
    replace(ten_columns(10), chunks=1).make(database)
    database.grant_replication()
    database.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE readings".encode())
    database.as_superuser().execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [BASE_SLOT])
    catalog = catalog_of(bench, database, "readings", "incremental", replication_method=METHOD)
    with copied_slot(database, CONNECTOR_SLOT):
        first = bench.measure(read_command(bench, database, catalog, None), keep=True)
    state = Output(first.kept.splitlines()).state()
    if not state:
        raise KitError("The connector told no state.")
    return state, catalog


def written(database: Database, rows: int, size: int) -> str:
    """Insert the rows, and return where the log ends then."""
    values = ", ".join(value for _, _, value in ten_columns(1).columns)
    with database.connect("owner") as connection:
        connection.execute("SET synchronous_commit = off")
        for first in range(100, 100 + rows, size):
            connection.execute(
                f"INSERT INTO readings SELECT {START} + i * interval '1 microsecond', {values}"  # noqa: S608 - no input
                f" FROM generate_series({first}, {first + size - 1}) AS i".encode()
            )
            connection.commit()
    database.value("SELECT pg_logical_emit_message(true, 'bench', 'flushes all before it')")
    return str(database.value("SELECT pg_current_wal_flush_lsn()::text"))


@contextmanager
def copied_slot(database: Database, name: str) -> Iterator[None]:
    """A slot for the connector or its rival that stands where the base slot does."""
    session = database.as_superuser()
    session.execute("SELECT pg_copy_logical_replication_slot(%s, %s, false)", [BASE_SLOT, name])
    try:
        yield
    finally:
        session.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE slot_name = %s AND NOT active",
            [name],
        )


def _slot(contender: Contender) -> str:
    return "bench_floor" if contender.name == FLOOR else CONNECTOR_SLOT


def _recvlogical(server: Server, database: Database, rows: int, end: str) -> Contender:
    environment = {
        "PGHOST": server.address.host,
        "PGPORT": str(server.address.port),
        "PGUSER": database.reader,
        "PGPASSWORD": database.passwords["reader"],
    }
    program = f"{server.root.programs}/pg_recvlogical"
    read = (
        *("--dbname", database.name, "--slot", "bench_floor", "--start", "--no-loop", "--endpos", end),
        *("--option", "proto_version=1", "--option", f"publication_names={PUBLICATION}"),
        *("--option", "messages=true", "--file", "-"),
    )
    command = Command(tuple(inside(server.root, [program, *read])), environment)
    idle = Command(tuple(inside(server.root, [program, "--version"])), environment)
    return Contender(FLOOR, command, idle, rows, rows * MESSAGES_PER_ROW)


def _connector(bench: Bench, database: Database, catalog: Json, state: list[Json], rows: int) -> Contender:
    return Contender(
        "connector", read_command(bench, database, catalog, state), python(*COMMAND, "spec"), rows
    )


def read_command(bench: Bench, database: Database, catalog: Json, state: list[Json] | None) -> Command:
    """The connector, told to go on from a state."""
    config = file_of(bench.workdir, database.config(replication_method=METHOD))
    files = ["--config", config, "--catalog", file_of(bench.workdir, catalog)]
    if state is not None:
        files += ["--state", file_of(bench.workdir, state)]
    return python(*COMMAND, "read", *files)
