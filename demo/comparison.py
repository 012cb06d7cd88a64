"""The proof: what the connector printed, against what the database holds.

Nothing here knows how the connector renders a value. One side is the JSON, read as the catalog's schema says; the
other is the server's own binary values, which psycopg turns into Python's. Rows are compared as a multiset, so a row
that is missing, changed, invented or printed twice shows, whatever the order. Numbers that are not integers are
compared as doubles, which hold the few digits of the demo's numeric columns exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.types.numeric import NumericBinaryLoader

from demo.errors import DemoError

Row = tuple[Any, ...]
Read = Callable[[Any], Any]
FETCH_ROWS: Final = 5000


@dataclass(frozen=True, slots=True)
class Difference:
    """How the printed rows of a stream differ from the database's."""

    missing: int
    """Rows of the database that were not printed."""
    invented: int
    """Rows printed that the database does not have, or not as often."""

    def __bool__(self) -> bool:
        return self.missing > 0 or self.invented > 0


def difference(printed: Counter[Row], stored: Iterable[Row]) -> Difference:
    """Compare the rows printed, each with how often it was, with those stored."""
    surplus = printed.copy()
    surplus.subtract(stored)
    missing = -sum(count for count in surplus.values() if count < 0)
    return Difference(missing, invented=sum(count for count in surplus.values() if count > 0))


class NumberLoader(NumericBinaryLoader):
    """Loads a numeric as a double."""

    def load(self, data: Any) -> Any:
        """Read the server's binary form."""
        return float(super().load(data))


def stored_rows(conninfo: str, schema: str, table: str, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a table, as binary values."""
    query = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(schema, table)
    )
    with closing(psycopg.connect(conninfo)) as connection:
        connection.adapters.register_loader("numeric", NumberLoader)
        with connection.cursor("comparison", binary=True) as cursor:
            cursor.itersize = FETCH_ROWS
            cursor.execute(query)
            yield from cursor


def reader_of(properties: Mapping[str, Mapping[str, Any]]) -> Callable[[Mapping[str, Any]], Row]:
    """A function that reads the data of a record as a row, by the `properties` of its stream's schema.

    A record that lacks a property, or has one more, becomes a row that equals no other.
    """
    readers = [(name, value_reader(name, schema)) for name, schema in properties.items()]
    expected = set(properties)

    def row(data: Mapping[str, Any]) -> Row:
        if data.keys() != expected:
            return ("not the columns of the table", *sorted(data))
        return tuple(
            None if (value := data[name]) is None else read(value) if read else value
            for name, read in readers
        )

    return row


def value_reader(name: str, schema: Mapping[str, Any]) -> Read | None:
    """How to read the values of a property; None where JSON has the type itself.

    Raises:
        DemoError: the demo's tables have no column of such a type.
    """
    match schema:
        case {"type": ["null", "string"], "format": "date-time"}:
            return instant
        case {"type": ["null", "string"], **others} if not others:
            return None
        case {"type": ["null", "number"], "airbyte_type": "integer"}:
            return whole
        case {"type": ["null", "number"], **others} if not others:
            return float
    raise DemoError(f"The catalog gives the column {name} a type that no column of the demo has: {schema}.")


@lru_cache(maxsize=1 << 14)
def instant(text: str) -> datetime:
    """A timestamp; Python 3.10 does not read the `Z` itself."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def whole(number: Any) -> int | None:
    """An integer, and nothing that merely equals one, such as 1.0 or true."""
    return number if type(number) is int else None
