"""The table of types, by the very definitions that render values, with the example that they make of a text.

The text in each row is one that the server's output function writes; its JSON is what the connector prints of it, in
changes by this code and in snapshots by the SQL beside it, which integration_tests/types/ proves to be the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pages.written import drawn
from source_timescaledb.types.definition import MARKER, Definition
from source_timescaledb.types.model import Kind, PgType
from source_timescaledb.types.rendering import definition_of
from source_timescaledb.types.texts import function

HEADING: Final = ("PostgreSQL type", "Airbyte type", "The server writes", "The record has")


@dataclass(frozen=True, slots=True)
class Row:
    """Types that come out alike: what users call them, one of them, and texts of it."""

    names: str
    type: PgType
    texts: tuple[str, ...]
    typmod: int = -1


def _base(name: str, schema: str = "pg_catalog") -> PgType:
    return PgType(0, schema, name, Kind.BASE)


def _array(element: PgType) -> PgType:
    return PgType(0, "pg_catalog", f"_{element.name}", Kind.ARRAY, element=element)


def _numeric(precision: int, scale: int) -> int:
    return ((precision << 16) | scale) + 4


_COMPOSITE: Final = PgType(0, "public", "item", Kind.COMPOSITE)
_DOMAIN: Final = PgType(0, "public", "percentage", Kind.DOMAIN, base=_base("int4"))

ROWS: Final = (
    Row("`smallint`, `integer`, `bigint` and their serials", _base("int8"), ("9007199254740993",)),
    Row("`oid`", _base("oid"), ("4294967295",)),
    Row("`numeric(p, 0)`", _base("numeric"), ("12345678901234567890",), _numeric(25, 0)),
    Row("`numeric`, `numeric(p, s)`", _base("numeric"), ("12.500", "NaN")),
    Row("`real`, `double precision`", _base("float8"), ("0.1", "1e+300", "Infinity")),
    Row("`money`", _base("money"), ("-$1,234.56",)),
    Row("`boolean`", _base("bool"), ("t",)),
    Row("`timestamp with time zone`", _base("timestamptz"), ("2024-05-06 07:08:09.12+00", "infinity")),
    Row("`timestamp`", _base("timestamp"), ("2024-05-06 07:08:09", "0044-03-15 12:00:00 BC")),
    Row("`date`", _base("date"), ("2024-05-06", "infinity")),
    Row("`time`", _base("time"), ("07:08:09.5", "24:00:00")),
    Row("`time with time zone`", _base("timetz"), ("20:00:01+02",)),
    Row("`interval`", _base("interval"), ("1 year 2 mons 3 days 04:05:06",)),
    Row('`text`, `varchar`, `char(n)`, `name`, `"char"`, `xml`, `tsvector`, `tsquery`', _base("text"), ('5" pipe',)),
    Row("`json`, `jsonb`", _base("jsonb"), ('{"a": 1}',)),
    Row("`hstore`", _base("hstore", "public"), ('"a"=>"1", "b"=>NULL',)),
    Row("`uuid`, `inet`, `cidr`, `macaddr`, `macaddr8`, `pg_lsn`", _base("inet"), ("192.0.2.1",)),
    Row("`bit(n)`, `bit varying`", _base("bit"), ("0101",), 4),
    Row("`bytea`", _base("bytea"), (r"\x6b70",)),
    Row(
        "`point`, `line`, `lseg`, `box`, `path`, `polygon`, `circle`",
        _base("box"),
        ("(15,18),(3,7.5)",),
    ),
    Row("enums, ranges, multiranges, composites, all other types", _COMPOSITE, ('("fuzzy dice",42)',)),
    Row("domains", _DOMAIN, ("42",)),
    Row("`integer[]` and other arrays", _array(_base("int4")), ("{1,NULL,3}", "{{1,2},{3,4}}")),
    Row("`numeric[]`, also of `numeric(p, 0)`", _array(_base("numeric")), ("{1.5,NaN}",), _numeric(25, 0)),
    Row("`oid[]`", _array(_base("oid")), ("{1,2}",)),
    Row("`bytea[]`", _array(_base("bytea")), (r'{"\\x6b70"}',)),
    Row("`bit[]`, of one bit", _array(_base("bit")), ("{1,0}",), 1),
)  # fmt: skip
"""In the order in which people look for them; a domain's row stands for its base type."""


def type_table() -> str:
    """The table."""
    return drawn(HEADING, map(_cells, ROWS))


def _cells(row: Row) -> tuple[str, ...]:
    definition = definition_of(row.type, row.typmod)
    written = "<br>".join(f"`{text}`" for text in row.texts)
    rendered = "<br>".join(f"`{json}`" for json in _rendered(definition, row.texts))
    return row.names, airbyte_type(definition.schema), written, rendered


def _rendered(definition: Definition, texts: tuple[str, ...]) -> Iterator[str]:
    """The JSON of texts; what JSON has no word for is null in the record, which says so in `meta.changes`."""
    for text in texts:
        json = function(definition.text)(text.encode()).decode()
        words = {text, *text.strip("{}").split(",")}
        for word in words:
            json = json.replace(f"{word}{MARKER}", "null")
        yield json


def airbyte_type(schema: Mapping[str, Any]) -> str:
    """What Airbyte calls the values that a JSON schema admits."""
    if "items" in schema:
        return f"array of {airbyte_type({**schema['items'], 'type': _without_array(schema)})}"
    match schema:
        case {"airbyte_type": str(name)}:
            return name
        case {"format": str(name)}:
            return name
        case {"type": types}:
            return next(str(one) for one in types if one not in {"null", "array"})
        case _:
            raise ValueError(schema)


def _without_array(schema: Mapping[str, Any]) -> list[str]:
    """The types of an array's items, which may themselves be arrays: PostgreSQL's arrays have no fixed dimension."""
    return [one for one in schema["items"]["type"] if one != "array"]
