"""A whole row as one JSON object, written by the server, and the mending of the values that JSON cannot express.

concat() takes 100 arguments, so long rows nest: each level joins up to 90. Everything constant (braces, commas, the
names) is written into as few constants as can be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from psycopg import sql

from source_timescaledb.types.model import PgType
from source_timescaledb.types.quoting import constant, identifier
from source_timescaledb.types.rendering import arguments
from source_timescaledb.types.texts import malformed

CONCAT_ARGUMENTS: Final = 90
"""PostgreSQL's functions take 100 (FUNC_MAX_ARGS)."""

MARKED: Final = re.compile(rb"(?<![A-Za-z])-?[A-Za-z]+\x01")
"""A bare word with the marker; the byte cannot be inside a JSON string, so the word is not either.

It is looked for where a word begins: from each letter of a long text (base64, say) it would take a minute for 100 KB."""


def row_expression(columns: Sequence[tuple[str, PgType, int]], server_version: int) -> sql.Composable:
    """An expression of type text that writes a row's columns (name, type, typmod) as one JSON object.

    The names are the object's keys, in their order, and are read as unqualified columns. Holds no percent sign, so it
    may be executed with parameters or without. Values that JSON cannot express carry the marker: see
    `resolve_inexpressible`.
    """
    return concatenated([*row_arguments(columns, server_version)])


def row_arguments(
    columns: Sequence[tuple[str, PgType, int]], server_version: int
) -> Iterator[sql.Composable]:
    """The arguments of concat() for a row, without regard to their number; the last one closes the object."""
    before = "{"
    for name, type_, typmod in columns:
        yield constant(f"{before}{key(name)}:")
        yield from arguments(type_, typmod, _as_known(identifier(name), type_, typmod), server_version)
        before = ","
    yield constant("}" if columns else "{}")


def _as_known(column: sql.Composable, type_: PgType, typmod: int) -> sql.Composable:
    """The column as the built-in type it is known to have.

    That costs nothing while it has it. Once somebody has changed it, its values would come out unquoted, or worse, as
    JSON of their own making; so they are converted, or the query fails. Types of other schemas are written in a way that
    holds for any type, and naming one may need a right that reading the column does not.
    """
    below, _ = type_.resolved(typmod)
    if below.schema != "pg_catalog":
        return column
    return sql.SQL("{}::{}").format(column, sql.Identifier(below.schema, below.name))


def key(name: str) -> str:
    """A column's name as a JSON string."""
    return json.dumps(name, ensure_ascii=False)


def concatenated(parts: Sequence[sql.Composable]) -> sql.Composable:
    """The parts joined by concat(), nested where they are too many for one call."""
    while len(parts) > CONCAT_ARGUMENTS:
        parts = [
            called(parts[start : start + CONCAT_ARGUMENTS])
            for start in range(0, len(parts), CONCAT_ARGUMENTS)
        ]
    return called(parts)


def called(parts: Sequence[sql.Composable]) -> sql.Composable:
    """One call of concat()."""
    return sql.SQL("concat({})").format(sql.SQL(", ").join(parts))


class Inexpressible:
    """What stands in a parsed row where JSON had no word for the value."""


def resolve_inexpressible(data: bytes) -> tuple[bytes, list[str]]:
    """One rendered row with null for each marked value, and the names of the fields that hold one.

    All other bytes are returned as they came. A field is named once, also when an array in it holds many.

    Raises:
        DefectError: it is no JSON object, because the server wrote a value as no server does.
    """
    try:
        fields: dict[str, Any] = json.loads(
            MARKED.sub(b"NaN", data),
            parse_constant=lambda _: Inexpressible,
            # Numbers of any length are passed over: Python refuses to read integers of more than 4,300 digits.
            parse_int=str,
            parse_float=str,
        )
        marked = [name for name, value in fields.items() if holds_inexpressible(value)]
    except (ValueError, RecursionError):
        pass  # the exception holds the row: ours must not come from it
    else:
        return MARKED.sub(b"null", data), marked
    raise malformed("value")


def holds_inexpressible(value: Any) -> bool:
    """Whether a value of a parsed row, or an item at any depth, is inexpressible."""
    if isinstance(value, list):
        return any(holds_inexpressible(item) for item in value)
    return value is Inexpressible
