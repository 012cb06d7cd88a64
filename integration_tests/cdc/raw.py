"""What the log says to a reader that knows nothing of compression: so each trap is seen on the server at hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from source_timescaledb.pgoutput.decoder import decode
from source_timescaledb.pgoutput.messages import (
    Begin,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    Relation,
    Truncate,
    Update,
)
from testkit.database import Database

MARKER: Final = "::timescaledb-"
_TABLES: Final = "SELECT '_hyper_' || id || '_', table_name::text FROM _timescaledb_catalog.hypertable"


@dataclass
class Told:
    """Row messages of one table's chunks."""

    bare: Counter[str] = field(default_factory=Counter)
    """Outside of markers: what the application did."""
    marked: Counter[str] = field(default_factory=Counter)
    """Between markers: what TimescaleDB did."""
    deepest: int = 0
    """How many markers were open at once around a row."""


class RawLog:
    """A slot of its own, read by SQL; it sees what was written since it was last asked."""

    def __init__(self, database: Database, publication: str) -> None:
        self._database = database
        self._publication = publication
        self._slot = f"raw_{publication}_{database.name}"
        self._names: dict[int, str] = {}
        database.as_superuser().execute(
            "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [self._slot]
        )

    def told(self) -> Mapping[str, Told]:
        """What was said of each table since the last call."""
        prefixes: dict[str, str] = dict(self._database.rows(_TABLES))
        told: dict[str, Told] = defaultdict(Told)
        depth = 0
        for message in self.messages():
            match message:
                case Begin():
                    depth = 0
                case Relation(oid, _, name):
                    tables = [table for prefix, table in prefixes.items() if name.startswith(prefix)]
                    self._names[oid] = tables[0] if tables else name
                case LogicalMessage(prefix=prefix) if prefix.startswith(MARKER):
                    depth += 1 if prefix.endswith("-start") else -1
                case Insert(relation) | Update(relation) | Delete(relation):
                    table = told[self._names[relation]]
                    (table.marked if depth else table.bare)[type(message).__name__] += 1
                    table.deepest = max(table.deepest, depth)
                case Truncate(relations):
                    for name in {self._names[oid] for oid in relations}:
                        told[name].bare["Truncate"] += 1
        return told

    def messages(self) -> Iterator[Message]:
        """The messages since the last call, as they come."""
        return map(decode, self.payloads(proto_version="1"))

    def payloads(self, **options: str) -> list[bytes]:
        """The bytes of the messages since the last call, with options of pgoutput."""
        wanted = {"publication_names": self._publication, "messages": "true", **options}
        rows = self._database.as_superuser().execute(
            "SELECT data FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL, VARIADIC %s)",
            [self._slot, [word for option in wanted.items() for word in option]],
            binary=True,
        )
        return [data for (data,) in rows.fetchall()]
