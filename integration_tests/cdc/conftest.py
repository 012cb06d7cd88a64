"""Databases whose changes are followed, and a destination that keeps what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import pytest
from typing_extensions import Unpack

from integration_tests.cdc.scenes import TABLES
from integration_tests.inprocess import Acts, Ended, InProcess
from integration_tests.slices import shrink_slices
from integration_tests.truth import Row, Rows, Truth
from source_timescaledb.cdc.followed import CDC_COLUMNS, DELETED_AT, LSN
from source_timescaledb.run import run
from testkit.connector import Connector
from testkit.database import Database
from testkit.forked import Entry
from testkit.protocol import Json, Output
from testkit.run import At, Result, Run

PUBLICATION = "changes"


@dataclass
class Destination:
    """What a destination has: by key the newest version of each row; without a key a row more or less by each record."""

    key: tuple[str, ...] = ()
    newest: dict[Row, Json] = field(default_factory=dict)
    appended: list[Json] = field(default_factory=list)

    def apply(self, records: list[Json]) -> None:
        """Take records as they come."""
        for record in records:
            if not self.key:
                row = {name: value for name, value in record.items() if name not in CDC_COLUMNS}
                if record[DELETED_AT] is None:
                    self.appended.append(row)
                else:
                    self.appended.remove(row)
                continue
            key = tuple(str(record[column]) for column in self.key)
            known = self.newest.get(key)
            if known is None or record[LSN] > known[LSN]:
                self.newest[key] = record

    def rows(self, truth: Truth) -> Rows:
        """What it holds, as rows of the table."""
        newest = [row for row in self.newest.values() if row[DELETED_AT] is None]
        return truth.parsed(
            [
                *self.appended,
                *({name: value for name, value in row.items() if name not in CDC_COLUMNS} for row in newest),
            ]
        )


class Wanted(TypedDict, total=False):
    """How a process is to run; the names are those of `Connector` and `Connector.start_read`."""

    config: Json
    """Properties of the configuration that are others than usual."""
    entry: Entry
    environment: dict[str, str]
    at: Sequence[At]
    bytes_per_second: float
    pipe_bytes: int


@dataclass
class Followed:
    """A database, its slot, and syncs one after the other, each with the state of the one before."""

    database: Database
    slot: str
    settings: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    state: list[Json] = field(default_factory=list)
    destinations: dict[str, Destination] = field(default_factory=dict)
    as_reader: bool = False
    """Whether the role is one that owns nothing; else it is the tables' owner, and no superuser either."""

    @property
    def config(self) -> Json:
        """The configuration."""
        method = {
            "method": "CDC",
            "replication_slot": self.slot,
            "publication": PUBLICATION,
            "initial_waiting_seconds": 120,
            **self.method,
        }
        return self.database.config(
            username=self.database.reader if self.as_reader else self.database.owner,
            password=self.database.passwords["reader" if self.as_reader else "owner"],
            replication_method=method,
            timescaledb=self.settings,
        )

    def publish(self, *tables: str) -> None:
        """Make the publication of tables and the slot after it."""
        self.database.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE {', '.join(tables)}".encode())
        self.database.as_superuser().execute(
            "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [self.slot]
        )

    def source(self) -> InProcess:
        """The connector."""
        return InProcess(self.config)

    def sync(self, *streams: str, acts: Acts | None = None) -> Ended:
        """Sync tables, apply the records, and keep the last state."""
        source = self.source()
        catalog = source.catalog("incremental", list(streams) or None)
        ended = source.read(catalog, self.state, acts)
        self._hear(catalog, ended)
        return ended

    def run(self, workdir: Path, *streams: str, **wanted: Unpack[Wanted]) -> Result:
        """As `sync`, with the connector in a process of its own."""
        catalog = self.source().catalog("incremental", list(streams) or None)
        ended = self.start(workdir, catalog, **wanted).wait()
        self._hear(catalog, ended)
        return ended

    def start(self, workdir: Path, catalog: Json, **wanted: Unpack[Wanted]) -> Run:
        """Start a sync in a process of its own; nobody hears it yet."""
        connector = Connector(
            {**self.config, **wanted.get("config", {})},
            workdir,
            entry=wanted.get("entry", run),
            environment=wanted.get("environment"),
        )
        return connector.start_read(
            catalog,
            self.state or None,
            at=wanted.get("at", ()),
            bytes_per_second=wanted.get("bytes_per_second"),
            pipe_bytes=wanted.get("pipe_bytes", 65536),
        )

    def _hear(self, catalog: Json, ended: Output) -> None:
        for stream in catalog["streams"]:
            name = stream["stream"]["name"]
            key = tuple(column for (column,) in stream["stream"].get("source_defined_primary_key") or [])
            self.destinations.setdefault(name, Destination(key)).apply(ended.rows(name))
        self.state = ended.state() or self.state

    def refresh(self, table: str) -> None:
        """Clear the state of a stream, and its rows at the destination."""
        entries = self.state[0]["global"]["stream_states"]
        entries[:] = [entry for entry in entries if entry["stream_descriptor"]["name"] != table]
        self.destinations.pop(table)

    def mirrors(self, *tables: str) -> None:
        """Fail unless the destination has what the tables have, no more and no less."""
        for table in tables:
            truth = Truth.of(self.database, table)
            assert self.destinations[table].rows(truth) == truth.rows, table


@pytest.fixture
def followed(database: Database) -> Followed:
    """A database with a hypertable with a key, one without, and a plain table; nothing is published yet."""
    make_tables(database)
    return Followed(database, f"slot_{database.name}")


@pytest.fixture
def community(community_database: Database) -> Followed:
    """The same on a Community edition server."""
    make_tables(community_database)
    return Followed(community_database, f"slot_{community_database.name}")


def make_tables(database: Database) -> None:
    """`metrics` (device, time), `events` without a key, `parts` (id); the owner may replicate and publish."""
    superuser = database.as_superuser()
    superuser.execute(f'ALTER ROLE "{database.owner}" REPLICATION'.encode())
    database.execute(
        "CREATE TABLE metrics (time timestamptz NOT NULL, device int NOT NULL, value float8, note text,"
        " PRIMARY KEY (device, time))"
    )
    database.execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')")
    database.execute("CREATE TABLE events (time timestamptz NOT NULL, what text)")
    database.execute("SELECT create_hypertable('events', 'time', chunk_time_interval => interval '1 day')")
    database.execute("ALTER TABLE events REPLICA IDENTITY FULL")
    database.execute("CREATE TABLE parts (id int PRIMARY KEY, note text)")


def fill(database: Database, days: int = 3, rows: int = 300) -> None:
    """Rows in so many daily chunks, and as many parts."""
    database.execute(
        "INSERT INTO metrics SELECT '2024-01-01'::timestamptz + i * interval '1 day' * %s / %s, i %% 7, i, 'n' || i"
        " FROM generate_series(0, %s - 1) i",
        [days, rows, rows],
    )
    database.execute("INSERT INTO events SELECT time, note FROM metrics")
    database.execute("INSERT INTO parts SELECT i, 'part ' || i FROM generate_series(1, %s) i", [rows])


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of some kilobytes and rounds of one or two of them, so that little data makes many of both."""
    monkeypatch.setattr("source_timescaledb.airbyte.following.ROUND_SECONDS", 0.0)
    shrink_slices(monkeypatch, 16 * 1024)
    monkeypatch.setattr("source_timescaledb.snapshot.key_plan.FIRST_ROWS", 100)
    monkeypatch.setattr("source_timescaledb.snapshot.key_plan.MOST_ROWS", 200)


@pytest.fixture
def synced(followed: Followed) -> Followed:
    """Three tables, read once."""
    fill(followed.database)
    followed.publish(*TABLES)
    followed.sync(*TABLES)
    return followed
