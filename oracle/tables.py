"""The tables that are written to: one of each kind that changes can be followed of.

All hypertables have the same columns and chunks of a day, so that every operation fits each of them. `events` has no
key and is only ever added to: there a destination can do nothing but append, and a row told twice is there twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from psycopg import sql

from testkit.database import Database

BASE: Final = datetime(2024, 1, 1, tzinfo=timezone.utc)
PUBLICATION: Final = "oracle"

_COLUMNS: Final = "time timestamptz NOT NULL, device int NOT NULL, value int, note text"


@dataclass(frozen=True, slots=True)
class Table:
    """A table: `definition` is what stands between the brackets, `then` is run after it is made."""

    name: str
    definition: str
    columns: tuple[str, ...] = ("time", "device", "value", "note")
    key: tuple[str, ...] = ("time", "device")
    hypertable: bool = True
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
    hypertable=False,
)

KEYED: Final = (READINGS, INDEXED, WHOLE)
HYPERTABLES: Final = (*KEYED, EVENTS)
TABLES: Final = (*HYPERTABLES, PARTS)


def make_tables(database: Database) -> None:
    """Create them, empty, and let their owner replicate."""
    database.as_superuser().execute(
        sql.SQL("ALTER ROLE {} REPLICATION").format(sql.Identifier(database.owner))
    )
    for table in TABLES:
        database.execute(
            sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(table.name), _text(table.definition))
        )
        if table.hypertable:
            database.execute(
                "SELECT create_hypertable(%s, 'time', chunk_time_interval => interval '1 day')", [table.name]
            )
        for statement in table.then:
            database.execute(_text(statement))


def publish(database: Database, slot: str) -> None:
    """Make the publication of all tables, and the slot after it, which waits for open writers."""
    names = sql.SQL(", ").join(sql.Identifier(table.name) for table in TABLES)
    database.execute(sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(sql.Identifier(PUBLICATION), names))
    database.as_superuser().execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])


def _text(statement: str) -> sql.SQL:
    return sql.SQL(statement)
