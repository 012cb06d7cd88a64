"""Carries out the upkeep of chunks: sessions without transactions of their own, and the server's policies.

A chore may fail: another session has the chunk, it is gone, it is compressed already, a version cannot split it. All that
is a part of the workload and counted. A lost connection is not, and ends the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any, Final

import psycopg

from integration_tests.cdc.aggregates import refresh_by_policy, start_background_workers
from oracle.tables import Kind, Table
from oracle.upkeep import HIDES_DELETES, SEGMENTWISE, TRUNCATION, UNTRUNCATED, Chore, Order
from oracle.workload import DROPPED_BEFORE, Policy
from oracle.writers import LOCK_SECONDS, Sleep, Tally
from testkit.database import Database

_CHUNKS: Final = """
SELECT c.name FROM show_chunks(%s::regclass) shown
JOIN (SELECT format('%%I.%%I', chunk_schema, chunk_name) AS name, range_start
      FROM timescaledb_information.chunks) c ON c.name = shown::text
ORDER BY c.range_start
"""


def settle_settings(database: Database) -> None:
    """Let the log tell every DELETE, and nobody wait to truncate, unless a session wants it otherwise."""
    for setting, value in ((HIDES_DELETES, "off"), (TRUNCATION, UNTRUNCATED)):
        database.as_superuser().execute(f'ALTER DATABASE "{database.name}" SET {setting} = {value}'.encode())


def keep(
    database: Database,
    chores: Iterable[Chore | Order],
    stopped: Callable[[], bool],
    sleep: Sleep,
    tally: Tally,
    *,
    hiding: bool = False,
) -> None:
    """Do chores one after the other until they end or `stopped` says so; with `hiding`, the log need not tell DELETEs.

    Raises psycopg errors of a connection that was lost.
    """
    with closing(database.connect("owner", options=f"-c lock_timeout={LOCK_SECONDS}s")) as connection:
        connection.autocommit = True
        if hiding:
            connection.execute(f"SET {HIDES_DELETES} = on".encode())
        for chore in chores:
            sleep(chore.after)
            if stopped():
                break
            try:
                _carry_out(connection, chore)
                tally.committed += 1
            except psycopg.Error:
                if connection.broken:
                    raise
                tally.failed += 1


def _carry_out(connection: psycopg.Connection, chore: Chore | Order) -> None:
    if isinstance(chore, Order):
        connection.execute(chore.statement.encode(), chore.parameters)
        return
    chunks = [name for (name,) in connection.execute(_CHUNKS, [chore.table]).fetchall()]
    chosen = _neighbours(chunks, chore)
    connection.execute(f"SET {SEGMENTWISE} = {'on' if chore.segmentwise else 'off'}".encode())
    connection.execute(f"SET {TRUNCATION} = {chore.truncation}".encode())
    connection.execute(chore.deed.statement.encode(), chosen)


def _neighbours(chunks: Sequence[str], chore: Chore) -> Sequence[Any]:
    first = int(chore.place * (len(chunks) - chore.deed.chunks + 1))
    return chunks[first : first + chore.deed.chunks]


def start_policies(database: Database, tables: Sequence[Table], policy: Policy) -> None:
    """Let the server compress and refresh every second, and drop chunks where that is in the programme."""
    for table in tables:
        match table.kind:
            case Kind.HYPERTABLE:
                database.execute(
                    "SELECT add_compression_policy(%s, interval '1 day', schedule_interval => interval '1 second')",
                    [table.name],
                )
                if policy is Policy.DROPS:
                    database.execute(
                        "SELECT add_retention_policy(%s, now() - %s, schedule_interval => interval '1 second')",
                        [table.name, DROPPED_BEFORE],
                    )
            case Kind.AGGREGATE:
                refresh_by_policy(database, table.name)
            case Kind.PLAIN:
                pass
    start_background_workers(database)
