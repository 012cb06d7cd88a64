"""The tables that are read: four kinds of rows that cost in different places.

Ten columns of the usual types, as sensors send them; 200 columns, where what is paid per column shows; arrays, with
nulls and quotes in them; and texts of a megabyte that are full of characters to escape. Values are computed from the
row's number, so every run reads the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from testkit.database import Database

START: Final = "timestamptz '2024-01-01 00:00:00+00'"
BATCHES: Final = 10
"""Each table is filled in so many transactions."""


@dataclass(frozen=True, slots=True)
class Table:
    """A hypertable: its columns besides `time`, and for each the value in row i."""

    name: str
    title: str
    what: str
    columns: tuple[tuple[str, str, str], ...]
    """Name, type, and the value in row `i` as SQL."""
    rows: int
    chunks: int
    storage: str = ""
    """A statement to run before it is filled."""

    def make(self, database: Database) -> None:
        """Create it, fill it, let the reader read it, and leave nothing for autovacuum to do."""
        definition = ", ".join(f"{name} {type_}" for name, type_, _ in self.columns)
        database.execute(f"CREATE TABLE {self.name} (time timestamptz NOT NULL, {definition})".encode())
        interval = f"interval '{self._seconds_per_chunk} seconds'"
        database.execute(
            f"SELECT create_hypertable('{self.name}', 'time', chunk_time_interval => {interval})".encode()
        )
        if self.storage:
            database.execute(self.storage.encode())
        values = ", ".join(value for _, _, value in self.columns)
        for first, last in self._batches():
            database.execute(
                f"INSERT INTO {self.name} SELECT {START} + i * interval '1 second', {values}"  # noqa: S608 - no input
                f" FROM generate_series({first}, {last}) AS i".encode()
            )
        settle(database, self.name)

    @property
    def _seconds_per_chunk(self) -> int:
        """An interval that gives the wanted number of chunks, one row a second; the start is a multiple of a day."""
        return -(-self.rows // self.chunks)

    def _batches(self) -> Iterator[tuple[int, int]]:
        size = -(-self.rows // BATCHES)
        for first in range(0, self.rows, size):
            yield first, min(first + size, self.rows) - 1


def settle(database: Database, table: str) -> None:
    """Let the reader read a table, and do now what autovacuum would do in the middle of a measurement."""
    database.grant_select(table)
    database.execute(f"VACUUM (FREEZE, ANALYZE) {table}".encode())
    database.as_superuser().execute("CHECKPOINT")


def ten_columns(rows: int) -> Table:
    """A sensor's readings."""
    return Table(
        "readings",
        "10 columns",
        "timestamptz, integer, text, 2 double precision, real, numeric(5,2), boolean, text, jsonb",
        (
            ("device", "integer", "i % 500"),
            ("location", "text", "'hall ' || i % 40"),
            ("temperature", "double precision", "20 + 10 * sin(i / 3600.0)"),
            ("humidity", "double precision", "50 + 30 * cos(i / 7200.0)"),
            ("pressure", "real", "1000 + i % 40"),
            ("battery", "numeric(5,2)", "i % 10000 / 100.0"),
            ("active", "boolean", "i % 7 <> 0"),
            ("status", "text", "CASE WHEN i % 11 = 0 THEN NULL ELSE 'ok' END"),
            ("attributes", "jsonb", """format('{"fw": "2.%s", "rssi": %s}', i % 9, -40 - i % 50)::jsonb"""),
        ),
        rows,
        chunks=10,
    )


def many_columns(rows: int) -> Table:
    """A wide table: 200 columns of five types."""
    kinds = (
        ("integer", "i + {n}"),
        ("double precision", "i / ({n} + 1.5)"),
        ("text", "'value ' || (i + {n}) % 1000"),
        ("numeric(12,3)", "(i + {n}) / 8.0"),
        ("boolean", "(i + {n}) % 3 = 0"),
    )
    return Table(
        "wide",
        "200 columns",
        "timestamptz and 199 columns of integer, double precision, text, numeric(12,3) and boolean in turn",
        tuple(
            (f"column_{n}", kinds[n % len(kinds)][0], kinds[n % len(kinds)][1].format(n=n))
            for n in range(199)
        ),
        rows,
        chunks=4,
    )


def arrays(rows: int) -> Table:
    """Arrays of four types."""
    return Table(
        "arrays",
        "arrays",
        "timestamptz, integer[], text[] with nulls and quotes, double precision[], bytea",
        (
            ("counts", "integer[]", "ARRAY[i, i + 1, i + 2, NULL, i % 7]"),
            ("tags", "text[]", """ARRAY['plain', 'with "quotes"', NULL, 'tag ' || i % 100]"""),
            ("samples", "double precision[]", "ARRAY[i / 3.0, sin(i), NULL, 0.5]"),
            ("payload", "bytea", "decode(md5(i::text), 'hex')"),
        ),
        rows,
        chunks=4,
    )


def megabyte_texts(rows: int) -> Table:
    """A megabyte of text in each row, every few characters one that JSON escapes."""
    line = r"""md5(k::text) || '"quoted" \ back ' || md5((-k)::text) || E'\n'"""
    text = f"(SELECT i || string_agg({line}, '') FROM generate_series(1, 12800) AS k)"  # noqa: S608 - no input
    return Table(
        "documents",
        "1 MB texts",
        "timestamptz, text of about 1 MB with quotes, backslashes and line feeds",
        (("body", "text", text),),
        rows,
        chunks=3,
        # What compresses and what does not would depend on the text; stored as it is, every run moves a megabyte.
        storage="ALTER TABLE documents ALTER COLUMN body SET STORAGE EXTERNAL",
    )
