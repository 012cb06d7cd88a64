"""A day from its first row to the verdict."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from integration_tests.cdc.aggregates import calm, refresh_by_policy, start_background_workers
from integration_tests.truth import Rows, Truth
from oracle.day.orders import DROPPED_AFTER_SECONDS, orders
from oracle.destinations import Destination, Habit
from oracle.judging import Deviation, compare, without_twins
from oracle.keeping import keep, settle_settings
from oracle.syncs import Manner, Sync, Syncs
from oracle.tables import Kind, Table, compressible, make_tables, publish
from oracle.workload import Policy
from oracle.writers import Tally, at_work
from testkit.cluster import Cluster
from testkit.database import Database

CHUNK_SECONDS: Final = 5
COMPRESSED_AFTER_SECONDS: Final = 10
WRITERS: Final = 3
HABITS: Final = (Habit.CLOCK, Habit.ARRIVAL)

_COLUMNS: Final = "time timestamptz NOT NULL, device int NOT NULL, value int, note text"
READINGS: Final = compressible(Table("readings", f"{_COLUMNS}, PRIMARY KEY (device, time)"))
EVENTS: Final = compressible(Table("events", _COLUMNS, key=()))
SUMS: Final = Table(
    "sums",
    "SELECT time_bucket('2 seconds', time) AS bucket, device, sum(value) AS total, count(*) AS number"
    " FROM readings GROUP BY 1, 2",
    columns=("bucket", "device", "total", "number"),
    key=("bucket", "device"),
    kind=Kind.AGGREGATE,
)
TABLES: Final = (READINGS, EVENTS, SUMS)


@dataclass(slots=True)
class Day:
    """What came of a day."""

    seed: int
    seconds: float
    """For which was written."""
    tally: Tally = field(default_factory=Tally)
    syncs: int = 0
    longest_sync: float = 0.0
    """Seconds."""
    records: int = 0
    jobs: int = 0
    """How often the server's policies ran."""
    born: int = 0
    """Chunks, of the tables and of the aggregate."""
    left: int = 0
    """Of them at the end."""
    rows: int = 0
    """Of the source at the end."""
    twins: int = 0
    """Keys that the source holds twice."""
    deviations: list[Deviation] = field(default_factory=list)
    error: str | None = None
    """With which a sync ended."""

    @property
    def well(self) -> bool:
        """Whether every destination holds what it should."""
        return self.error is None and not self.deviations


def live_through(cluster: Cluster, seed: int, seconds: float) -> Day:
    """Live through a day on a fresh database of a Community edition. Raises psycopg errors that ended a writer."""
    day = Day(seed, seconds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oracle-")))
        database = stack.enter_context(cluster.database())
        syncs = _opened(database, seed, folder)
        destinations = [Destination(habit, syncs.keys) for habit in HABITS]
        with at_work() as working:
            for writer in range(WRITERS):
                working.join(partial(keep, database, orders(seed, writer)))
            end = time.monotonic() + seconds
            while time.monotonic() < end and day.error is None:
                _hear(day, destinations, syncs)
            day.tally = working.end()
        calm(database)
        if day.error is None:
            _hear(day, destinations, syncs)
            _judge(day, database, destinations)
        _count(day, database)
    return day


def _opened(database: Database, seed: int, folder: Path) -> Syncs:
    """The database with its tables and policies, and nothing in it yet."""
    slot = f"day_{database.name}"
    settle_settings(database)
    make_tables(database, TABLES)
    for table in (READINGS, EVENTS):
        database.execute(
            "SELECT set_chunk_time_interval(%s, %s * interval '1 second')", [table.name, CHUNK_SECONDS]
        )
        database.execute(
            "SELECT add_compression_policy(%s, %s * interval '1 second', schedule_interval => interval '1 second')",
            [table.name, COMPRESSED_AFTER_SECONDS],
        )
        database.execute(
            "SELECT add_retention_policy(%s, %s * interval '1 second', schedule_interval => interval '1 second')",
            [table.name, DROPPED_AFTER_SECONDS],
        )
    refresh_by_policy(database, SUMS.name)
    publish(database, slot, TABLES)
    start_background_workers(database)
    return Syncs(database, slot, TABLES, Manner.WHOLE, Random(seed), folder, None)


def _hear(day: Day, destinations: list[Destination], syncs: Syncs) -> None:
    started = time.monotonic()
    sync: Sync = syncs.sync()
    day.longest_sync = max(day.longest_sync, time.monotonic() - started)
    day.syncs += 1
    day.error = sync.error
    day.records += sum(map(len, sync.output.records.values()))
    for destination in destinations:
        destination.hear(sync.output)


def _judge(day: Day, database: Database, destinations: list[Destination]) -> None:
    for table in TABLES:
        truth = Truth.of(database, table.query)
        day.rows += truth.rows.total()
        kept_from = _kept_from(database, table)
        for destination in destinations:
            key = [table.columns.index(column) for column in table.key]
            held = truth.parsed(destination.copies[table.name].rows())
            stored, held, twins = without_twins(truth.rows, held, key)
            day.twins = max(day.twins, twins)
            deviation = compare(
                table.name,
                destination.habit.value,
                stored,
                _since(held, kept_from),
                Policy.EVERYTHING,
                may_repeat=False,
            )
            if deviation is not None:
                day.deviations.append(deviation)


def _kept_from(database: Database, table: Table) -> datetime | None:
    """From when on retention has left everything; None where there is none."""
    if table.kind is Kind.AGGREGATE:
        return None
    query = "SELECT min(range_start) FROM timescaledb_information.chunks WHERE hypertable_name = %s"
    found: datetime | None = database.value(query, [table.name])
    return found


def _since(rows: Rows, moment: datetime | None) -> Rows:
    return rows if moment is None else Rows({row: count for row, count in rows.items() if row[0] >= moment})


def _count(day: Day, database: Database) -> None:
    day.jobs = database.value(
        "SELECT sum(total_runs)::int FROM timescaledb_information.job_stats WHERE job_id > 999"
    )
    day.left = database.value("SELECT count(*)::int FROM timescaledb_information.chunks")
    ((day.born,),) = (
        database.as_superuser().execute("SELECT max(id) FROM _timescaledb_catalog.chunk").fetchall()
    )
