"""The tables that are written to: one of each kind that changes can be followed of.

All hypertables have the same columns and chunks of a day, so that every operation fits each of them. `events` has no
key and is only ever added to: there a destination can do nothing but append, and a row told twice is there twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from enum import Enum, auto
from typing import Final

import psycopg
from psycopg import sql

from integration_tests.cdc.aggregates import aggregate, identify, table_of
from testkit.database import Database

BASE: Final = datetime(2024, 1, 1, tzinfo=timezone.utc)
PUBLICATION: Final = "oracle"

_COLUMNS: Final = "time timestamptz NOT NULL, device int NOT NULL, value int, note text"


class Kind(Enum):
    """What is made of a definition."""

    HYPERTABLE = auto()
    PLAIN = auto()
    AGGREGATE = auto()


@dataclass(frozen=True, slots=True)
class Table:
    """A table: `definition` is its columns, or the query of an aggregate; `then` is run after it is made."""

    name: str
    definition: str
    columns: tuple[str, ...] = ("time", "device", "value", "note")
    key: tuple[str, ...] = ("time", "device")
    kind: Kind = Kind.HYPERTABLE
    then: tuple[str, ...] = ()

    @property
    def query(self) -> str:
        """Asks for its rows in the columns that are followed."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name}"  # noqa: S608 - both are ours


READINGS: Final = Table("readings", f"{_COLUMNS}, PRIMARY KEY (device, time)")
INDEXED: Final = Table(
    "indexed",
    _COLUMNS,
    then=(
        "CREATE UNIQUE INDEX indexed_key ON indexed (device, time)",
        "ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_key",
    ),
)
WHOLE: Final = Table(
    "whole", f"{_COLUMNS}, PRIMARY KEY (device, time)", then=("ALTER TABLE whole REPLICA IDENTITY FULL",)
)
EVENTS: Final = Table("events", _COLUMNS, key=())
PARTS: Final = Table(
    "parts",
    "id text PRIMARY KEY, value int, note text",
    columns=("id", "value", "note"),
    key=("id",),
    kind=Kind.PLAIN,
)

KEYED: Final = (READINGS, INDEXED, WHOLE)
HYPERTABLES: Final = (*KEYED, EVENTS)
TABLES: Final = (*HYPERTABLES, PARTS)
HOURLY: Final = Table(
    "hourly",
    "SELECT time_bucket('6 hours', time) AS bucket, device, sum(value) AS total, count(*) AS number"
    " FROM readings GROUP BY 1, 2",
    columns=("bucket", "device", "total", "number"),
    key=("bucket", "device"),
    kind=Kind.AGGREGATE,
    then=("ALTER MATERIALIZED VIEW hourly SET (timescaledb.compress = true)",),
)
"""A continuous aggregate: what it holds changes with each refresh, and its chunks are compressed too."""


def compressible(table: Table) -> Table:
    """A hypertable whose chunks may be compressed: those with a key by device."""
    options = ["timescaledb.compress", "timescaledb.compress_orderby = 'time'"]
    if table.key:
        options.append("timescaledb.compress_segmentby = 'device'")
    return replace(table, then=(*table.then, f"ALTER TABLE {table.name} SET ({', '.join(options)})"))


def make_tables(database: Database, tables: Sequence[Table] = TABLES) -> None:
    """Create them, empty, and let their owner replicate."""
    database.as_superuser().execute(
        sql.SQL("ALTER ROLE {} REPLICATION").format(sql.Identifier(database.owner))
    )
    for table in tables:
        _make(database, table)
        for statement in table.then:
            database.execute(_text(statement))


def _make(database: Database, table: Table) -> None:
    if table.kind is Kind.AGGREGATE:
        aggregate(database, table.name, table.definition)
        return
    database.execute(
        sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(table.name), _text(table.definition))
    )
    if table.kind is Kind.HYPERTABLE:
        database.execute(
            "SELECT create_hypertable(%s, 'time', chunk_time_interval => interval '1 day')", [table.name]
        )


def publish(database: Database, slot: str, tables: Sequence[Table] = TABLES) -> None:
    """Make the publication of all tables, and the slot after it, which waits for open writers."""
    names = sql.SQL(", ").join(_text(_published(database, table)) for table in tables)
    create = sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(sql.Identifier(PUBLICATION), names)
    while not _done(database, create):
        pass
    database.as_superuser().execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])


def _done(database: Database, statement: sql.Composed) -> bool:
    """Whether a statement succeeded; it does not where writers and it wait for each other."""
    try:
        database.execute(statement)
    except psycopg.errors.DeadlockDetected:
        return False
    return True


def _published(database: Database, table: Table) -> str:
    """The name to publish; an aggregate's table gets the identity first that lets its refresh go on."""
    if table.kind is not Kind.AGGREGATE:
        return table.name
    identify(database, table.name)
    return table_of(database, table.name)


def _text(statement: str) -> sql.SQL:
    return sql.SQL(statement)
