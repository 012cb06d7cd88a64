"""Counts the rows of compressed chunks without reading them: each batch says how many it has.

Some chunks at a time, in one short transaction: the chunks and their compressed relations are locked, ACCESS SHARE,
before the snapshot is taken, so nobody is rewriting them. Both are read as the plain tables they are, by `ONLY`, without
what TimescaleDB plans from a chunk's live status. A chunk whose form has changed since the catalog was read has another
compressed relation, and the query fails; the caller looks again.

How many at a time is learned: so many that a transaction stays far below the limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from source_timescaledb.cdc.ledger import Count
from source_timescaledb.cdc.visibility import Snapshot
from source_timescaledb.hypertables.bounds import internal_of
from source_timescaledb.hypertables.model import Chunk, Hypertable, Span, TimeKind
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.postgres.durability import ensure_durable
from source_timescaledb.snapshot.query import relation_name

FIRST: Final = 16
MOST: Final = 256
"""Each takes two locks, and the server has room for some thousands."""
_TARGET_SHARE: Final = 0.25
_DEADLINE_SHARE: Final = 0.85
_LOCK_SHARE: Final = 0.15


@dataclass(slots=True)
class Tally:
    """Counts so far; `seen` is the first snapshot of all, as the server writes it."""

    counts: dict[int, Count]
    seen: str = ""
    transactions: int = 0
    longest_seconds: float = 0.0

    def keep(self, chunks: Container[int]) -> None:
        """Forget the counts of all other chunks."""
        self.counts = {chunk: count for chunk, count in self.counts.items() if chunk in chunks}


def count_rows(
    connection: Connection,
    chunks: Iterable[Chunk],
    tally: Tally,
    *,
    seconds: float,
    clock: Callable[[], float],
) -> None:
    """Count the rows of compressed chunks into a tally; a chunk that takes too long, or that somebody holds, is left out.

    Raises psycopg errors as they come: UndefinedTable where a chunk is not what it was any more.
    """
    left = deque(chunks)
    size = FIRST
    while left:
        group = [left.popleft() for _ in range(min(size, len(left)))]
        started = clock()
        try:
            snapshot, rows = _count(connection, group, seconds)
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
            if len(group) > 1:
                left.extendleft(reversed(group))
                size = max(1, size // 4)
            continue
        finally:
            took = clock() - started
            tally.transactions += 1
            tally.longest_seconds = max(tally.longest_seconds, took)
        tally.seen = tally.seen or snapshot
        seen = Snapshot.parse(snapshot)
        tally.counts.update({chunk: Count(number, seen) for chunk, number in rows})
        size = max(1, min(MOST, size * 2, int(len(group) * seconds * _TARGET_SHARE / max(took, 1e-4)) + 1))


def _count(
    connection: Connection, chunks: Sequence[Chunk], seconds: float
) -> tuple[str, list[tuple[int, int]]]:
    parts, tables = [], []
    for chunk in chunks:
        assert chunk.compressed is not None
        heap, batches = relation_name(chunk.name), relation_name(chunk.compressed.name)
        tables += [heap, batches]
        parts.append(
            sql.SQL(
                "SELECT {}::int8, (SELECT coalesce(sum(_ts_meta_count), 0) FROM ONLY {})"
                " + (SELECT count(*) FROM ONLY {})"
            ).format(sql.Literal(chunk.id), batches, heap)
        )
    with connection.transaction():
        connection.execute(_frame(tables, seconds))
        row = connection.execute("SELECT pg_catalog.pg_current_snapshot()::text").fetchone()
        assert row is not None
        counted = connection.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall()
    ensure_durable(connection)
    return row[0], [(chunk, int(number)) for chunk, number in counted]


def _frame(tables: Sequence[sql.Composable], seconds: float) -> sql.Composed:
    return sql.SQL(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {};"
        " SET LOCAL lock_timeout = {}; LOCK TABLE {} IN ACCESS SHARE MODE"
    ).format(
        sql.Literal(max(1, int(seconds * _DEADLINE_SHARE * 1000))),
        sql.Literal(max(1, int(seconds * _LOCK_SHARE * 1000))),
        sql.SQL(", ").join(sql.SQL("ONLY {}").format(table) for table in tables),
    )


_ROWS_WHEN_COMPRESSED: Final = """
SELECT chunk_id, numrows_pre_compression FROM _timescaledb_catalog.compression_chunk_size WHERE chunk_id = ANY (%s)
"""


def rows_when_compressed(connection: Connection, chunks: Iterable[int]) -> dict[int, int]:
    """How many rows chunks had when they were compressed, where the catalog says so. Raises psycopg errors."""
    rows = connection.execute(_ROWS_WHEN_COMPRESSED, [list(chunks)]).fetchall()
    return {chunk: number for chunk, number in rows if number}


_TIME_IN_ORDER: Final = """
SELECT array_position(orderby, %s) FROM _timescaledb_catalog.compression_settings WHERE relid = %s::oid::regclass
"""


def new_batches(
    connection: Connection, hypertable: Hypertable, chunk: Chunk, seen: Snapshot, rows: int
) -> Span | None:
    """The range of time in which all of so many rows appeared, as batches that an earlier snapshot does not see.

    None where that cannot be said: rows were decompressed or recompressed meanwhile, or their time is not kept apart.
    Raises psycopg errors as they come.
    """
    kind = hypertable.time.time
    if chunk.compressed is None or kind is None or kind is TimeKind.OPAQUE:
        return None
    place = connection.execute(_TIME_IN_ORDER, [hypertable.time.column, chunk.oid]).fetchone()
    if place is None or place[0] is None:
        return None
    query = sql.SQL(
        "SELECT xmin::text::int8, sum(_ts_meta_count)::int8, min({low})::text, max({high})::text FROM ONLY {batches}"
        " GROUP BY xmin::text"
    ).format(
        low=sql.Identifier(f"_ts_meta_min_{place[0]}"),
        high=sql.Identifier(f"_ts_meta_max_{place[0]}"),
        batches=relation_name(chunk.compressed.name),
    )
    new = [row for row in connection.execute(query).fetchall() if not seen.sees(row[0])]
    if sum(row[1] for row in new) != rows:
        return None
    lowest = min(internal_of(kind, row[2].encode()) for row in new)
    return Span(lowest, max(internal_of(kind, row[3].encode()) for row in new) + 1)
