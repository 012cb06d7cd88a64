"""What the database itself holds, to be compared with what was read from it.

The rows are fetched by psycopg in its own way, as Python values; the records are parsed by the columns' types. Nothing
of the connector's rendering takes part, so an error there cannot hide on both sides. Rows are counted: a row that is
lost, repeated or invented changes a count, whether there is a key or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from testkit.database import Database, Role
from testkit.protocol import Json

Row = tuple[Any, ...]
Rows = Counter[Row]


def _moment(text: str) -> datetime:
    # Python before 3.11 does not read the Z of ISO 8601.
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


_PARSERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "timestamptz": _moment,
    "timestamp": _moment,
    "date": date.fromisoformat,
    "uuid": UUID,
    "numeric": lambda number: Decimal(str(number)),
    "float8": float,
}
"""By the type's name, what a record's value means; a value of any other type is compared as it stands."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The rows of a query at the moment it was asked, and the types of its columns."""

    rows: Rows
    types: Mapping[str, str]

    @classmethod
    def of(cls, database: Database, query: str, role: Role = "owner") -> Truth:
        """Ask as one of the three roles; `query` is a SELECT, or the name of a relation."""
        asked = query if query.upper().startswith("SELECT ") else f"SELECT * FROM {query}"
        cursor = database.session(role).execute(asked.encode())
        assert cursor.description is not None
        types = {column.name: column.type_display.partition("(")[0] for column in cursor.description}
        return cls(Counter(cursor.fetchall()), types)

    def parsed(self, records: Iterable[Json]) -> Rows:
        """The records as rows of the same columns."""
        return Counter(self._row(record) for record in records)

    def _row(self, record: Json) -> Row:
        assert record.keys() == self.types.keys()
        return tuple(_value(record[name], kind) for name, kind in self.types.items())


def _value(value: Any, kind: str) -> Any:
    parse = _PARSERS.get(kind)
    return value if value is None or parse is None else parse(value)
