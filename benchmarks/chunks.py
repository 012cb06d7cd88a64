"""Part two: what it costs that a hypertable has many chunks, and that one chunk is huge.

A chunk costs some milliseconds however few rows it has: a transaction, a lock, two fingerprints. That must not grow
with the number of chunks, neither must what is kept in the state, and a first load that begins late (`snapshot_since`)
must not even look at the chunks before. The server itself counts which chunks were scanned.

A chunk larger than memory is read in slices: resident memory and the length of transactions stay what they are for
small chunks. Transactions are watched from outside, in `pg_stat_activity`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

import orjson

from benchmarks.contenders import catalog_of, connector, discover, psql
from benchmarks.costs import Chunks, HugeChunk, ManyChunks, RecentChunks, Run
from benchmarks.measuring import Bench, Tell
from benchmarks.sizes import Sizes
from benchmarks.tables import settle
from source_timescaledb.postgres.connection import APPLICATION_NAME
from testkit.database import Database
from testkit.observer import Observation, Observer
from testkit.server import Server

ROUNDS: Final = 3
READERS: Final = 2
LIMIT_SECONDS: Final = 1.0
RECENT_CHUNKS: Final = 10
CHUNKS_PER_TRANSACTION: Final = 250
STATISTICS_SECONDS: Final = 10.0

FILL_MANY: Final = """
INSERT INTO many
SELECT timestamptz '2010-01-01 00:00:00+00' + day * interval '1 day' + i * interval '1 minute', i, i / 7.0
FROM generate_series(%s::int, %s::int) AS day, generate_series(1, %s::int) AS i
"""
FILL_HUGE: Final = """
INSERT INTO huge
SELECT timestamptz '2020-01-01 00:00:00+00' + i * interval '1 second', i %% 1000, i / 7.0
FROM generate_series(0, %s::int - 1) AS i
"""
SCANNED: Final = b"""
SELECT count(*) FROM pg_stat_all_tables WHERE relname LIKE '\\_hyper\\_%' AND seq_scan + coalesce(idx_scan, 0) > 0
"""


def measure_chunks(server: Server, bench: Bench, sizes: Sizes, tell: Tell) -> Chunks:
    """Measure all of part two. Raises KitError when something does not read what it should."""
    rounds = min(sizes.rounds, ROUNDS)
    few = _Many(server, bench, sizes.few_chunks, sizes.rows_per_chunk, tell)
    many = _Many(server, bench, sizes.many_chunks, sizes.rows_per_chunk, tell)
    with few.made() as database:
        small = few.measured(database, rounds)
    with many.made() as database:
        large, recent = many.measured(database, rounds), many.recent(database)
    return Chunks([small, large], recent, _huge(server, bench, sizes.huge_chunk_rows, rounds, tell))


@dataclass(frozen=True, slots=True)
class _Many:
    """A hypertable of many chunks of a day, with a few rows in each."""

    server: Server
    bench: Bench
    chunks: int
    rows_per_chunk: int
    tell: Tell

    @contextmanager
    def made(self) -> Iterator[Database]:
        """A database with the hypertable."""
        self.tell(f"{self.chunks:,} chunks: loading")
        with self.server.database() as database:
            _create(database, "many", "1 day")
            for first in range(0, self.chunks, CHUNKS_PER_TRANSACTION):
                last = min(first + CHUNKS_PER_TRANSACTION, self.chunks) - 1
                database.execute(FILL_MANY, [first, last, self.rows_per_chunk])
            settle(database, "many")
            yield database

    def measured(self, database: Database, rounds: int) -> ManyChunks:
        """Read all of it, by the connector and by COPY, and discover it."""
        bench, rows = self.bench, self.chunks * self.rows_per_chunk
        catalog = catalog_of(bench, database, "many")
        ours = connector(database, bench.workdir, catalog, rows, READERS, chunks=self.chunks)
        floor, looking = psql(self.server, database, "many", rows), discover(database, bench.workdir)
        read: list[Run] = []
        copied: list[Run] = []
        discovered: list[float] = []
        largest = 0
        for number in range(1, rounds + 1):
            measured = bench.measure(ours.command, keep=True)
            read.append(ours.judged(measured, bench))
            largest = max(largest, _largest_state(measured.kept))
            copied.append(floor.run(bench))
            discovered.append(bench.measure(looking).cost.wall - bench.idle(ours.idle).wall)
            self.tell(f"{self.chunks:,} chunks: round {number}: {read[-1].cost.wall:.2f} s")
        return ManyChunks(
            chunks=self.chunks,
            rows=rows,
            read_seconds=median(run.wall for run in read),
            copy_seconds=median(run.wall for run in copied),
            discover_seconds=median(discovered),
            largest_state=largest,
            peak_memory=max(run.cost.peak_memory for run in read),
        )

    def recent(self, database: Database) -> RecentChunks:
        """Read the last days only, and ask the server which chunks were scanned."""
        bench, wanted = self.bench, min(RECENT_CHUNKS, self.chunks)
        since = database.value("SELECT max(time)::date - %s::int FROM many", [wanted - 1])
        rows, catalog = wanted * self.rows_per_chunk, catalog_of(bench, database, "many")
        ours = connector(database, bench.workdir, catalog, rows, READERS, snapshot_since=f"{since}T00:00:00Z")
        database.as_superuser().execute("SELECT pg_stat_reset()")
        run = ours.run(bench)
        return RecentChunks(self.chunks, wanted, _scanned(database), rows, run.wall)


def _largest_state(output: bytes) -> int:
    others = (line for line in output.splitlines(keepends=True) if not line.startswith(b'{"type":"RECORD"'))
    return max((len(line) for line in others if orjson.loads(line)["type"] == "STATE"), default=0)


def _scanned(database: Database) -> int:
    """How many chunks were scanned; backends report that when they end, so it is asked for until it rests."""
    seen, deadline = 0, time.monotonic() + STATISTICS_SECONDS
    while time.monotonic() < deadline:
        (now,) = database.as_superuser().execute(SCANNED).fetchone() or (0,)
        if seen and now == seen:
            break
        seen = int(now)
        time.sleep(0.5)
    return seen


def _huge(server: Server, bench: Bench, rows: int, rounds: int, tell: Tell) -> HugeChunk:
    runs: list[Run] = []
    seen: list[Observation] = []
    with server.database() as database:
        tell(f"one chunk: loading {rows:,} rows")
        _create(database, "huge", "3650 days")
        database.execute(FILL_HUGE, [rows])
        settle(database, "huge")
        catalog = catalog_of(bench, database, "huge")
        ours = connector(
            database, bench.workdir, catalog, rows, READERS, max_transaction_seconds=LIMIT_SECONDS
        )
        for number in range(1, rounds + 1):
            with Observer(server, APPLICATION_NAME) as observer:
                runs.append(ours.run(bench))
            seen.append(observer.observation)
            tell(f"one chunk: round {number}: {runs[-1].cost.wall:.2f} s")
    return HugeChunk(
        runs,
        columns=3,
        longest_transaction=max(one.longest_transaction_seconds for one in seen),
        longest_gap=max(one.longest_gap_seconds for one in seen),
        limit=LIMIT_SECONDS,
    )


def _create(database: Database, table: str, interval: str) -> None:
    columns = "time timestamptz NOT NULL, device integer, value double precision"
    database.execute(f"CREATE TABLE {table} ({columns})".encode())
    database.execute(
        "SELECT create_hypertable(%s, 'time', chunk_time_interval => %s::interval)", [table, interval]
    )
