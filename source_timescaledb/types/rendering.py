"""Which definition a type has: by its name among the built-in types, by its kind otherwise.

Names count only in `pg_catalog`; hstore is the one extension type that is known, and it may live in any schema. A
domain is its base type, bound to the typmod that the domain gives it. The items of an array have the definition of
their type, except for the few that the peer writes differently inside arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from psycopg import sql

from source_timescaledb.types import numbers, strings, times
from source_timescaledb.types.arrays import array_of
from source_timescaledb.types.definition import Definition, Rendering, filled
from source_timescaledb.types.model import Kind, PgType
from source_timescaledb.types.money import DOLLARS, MoneyFormat, money

BUILT_IN: Final[Mapping[str, Definition]] = {
    **dict.fromkeys(("int2", "int4", "int8"), numbers.INTEGER),
    **dict.fromkeys(("float4", "float8"), numbers.FLOAT),
    "oid": numbers.OID,
    "bool": numbers.BOOLEAN,
    "date": times.DATE,
    "time": times.TIME,
    "timetz": times.TIMETZ,
    "timestamp": times.TIMESTAMP,
    "timestamptz": times.TIMESTAMPTZ,
    "interval": times.INTERVAL,
    **dict.fromkeys(
        ("text", "varchar", "bpchar", "name", "char", "xml", "tsvector", "tsquery"), strings.TEXT
    ),
    **dict.fromkeys(
        ("uuid", "inet", "cidr", "macaddr", "macaddr8", "pg_lsn", "bit", "varbit"), strings.PLAIN
    ),
    **dict.fromkeys(("json", "jsonb"), strings.DOCUMENT),
    **dict.fromkeys(("box", "circle", "line", "lseg", "path", "point", "polygon"), strings.SHAPE),
    "bytea": strings.BYTEA,
}


def definition_of(type_: PgType, typmod: int, currency: MoneyFormat = DOLLARS) -> Definition:
    """The definition of a column's type, of which only the rendering of texts depends on the currency."""
    type_, typmod = type_.resolved(typmod)
    if type_.kind is Kind.ARRAY and type_.element is not None:
        return array_of(item_definition_of(type_.element, typmod, currency), type_.element.delimiter)
    if type_.kind is not Kind.BASE:
        return strings.ANYTHING
    if type_.schema != "pg_catalog":
        return strings.HSTORE if type_.name == "hstore" else strings.ANYTHING
    if type_.name == "numeric":
        return numbers.numeric(typmod)
    if type_.name == "money":
        return money(currency)
    return BUILT_IN.get(type_.name, strings.ANYTHING)


def item_definition_of(type_: PgType, typmod: int, currency: MoneyFormat) -> Definition:
    """The definition of an array's items."""
    type_, typmod = type_.resolved(typmod)
    match (type_.schema, type_.name):
        case ("pg_catalog", "numeric"):
            return numbers.NUMERIC
        case ("pg_catalog", "oid"):
            return numbers.OID_ITEM
        case ("pg_catalog", "bytea"):
            return strings.BYTEA_ITEM
        case ("pg_catalog", "bit") if typmod == 1:
            return strings.BIT_ITEM
        case _:
            return definition_of(type_, typmod, currency)


def json_schema(type_: PgType, typmod: int) -> dict[str, Any]:
    """The JSON schema of a column's values, which are nullable always; the caller owns it."""
    return deepcopy(dict(definition_of(type_, typmod).schema))


def arguments(
    type_: PgType, typmod: int, value: sql.Composable, server_version: int
) -> tuple[sql.Composable, ...]:
    """Arguments for concat() whose joined text is the JSON value of `value`, an expression of the type."""
    return filled(definition_of(type_, typmod).sql, value, server_version)


def sql_value(type_: PgType, typmod: int, value: sql.Composable, server_version: int) -> sql.Composable:
    """An expression of type text, never NULL, whose text is the JSON value of `value` (`null` for SQL NULL).

    `value` is an expression of the type, cheap enough to be written several times: a column, say. Where JSON has no
    word for a value, the text is the value's output and the marker byte. The session must have `OUTPUT_SETTINGS`.
    The SQL holds no percent sign of its own. `server_version` is as libpq counts: 170004 for 17.4.
    """
    written = arguments(type_, typmod, value, server_version)
    if len(written) == 1:
        return written[0]
    return sql.SQL("concat({})").format(sql.SQL(", ").join(written))


def text_rendering(type_: PgType, typmod: int, currency: MoneyFormat) -> Rendering:
    """How the text of a value that is not NULL becomes the same JSON, byte for byte, that `sql_value` writes of it.

    The text is what the type's output function writes, in UTF-8 and under `OUTPUT_SETTINGS`: what logical replication
    sends. `currency` is the format of the session that writes it (`money.MONEY_QUERY`). A function raises DefectError,
    without the value in it, for a text that no server writes.
    """
    return definition_of(type_, typmod, currency).text
