from __future__ import annotations

from typing import Any

import pytest
from psycopg import sql

from source_timescaledb.types.model import Kind, PgType
from source_timescaledb.types.numbers import scale
from source_timescaledb.types.rendering import BUILT_IN, json_schema, sql_value

INTEGER = {"type": ["null", "number"], "airbyte_type": "integer"}
NUMBER = {"type": ["null", "number"]}
BOOLEAN = {"type": ["null", "boolean"]}
STRING = {"type": ["null", "string"]}

SCHEMAS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), INTEGER),
    **dict.fromkeys(("float4", "float8", "numeric", "money"), NUMBER),
    "bool": BOOLEAN,
    "date": {**STRING, "format": "date"},
    "time": {**STRING, "format": "time", "airbyte_type": "time_without_timezone"},
    "timetz": {**STRING, "format": "time", "airbyte_type": "time_with_timezone"},
    "timestamp": {**STRING, "format": "date-time", "airbyte_type": "timestamp_without_timezone"},
    "timestamptz": {**STRING, "format": "date-time", "airbyte_type": "timestamp_with_timezone"},
    **dict.fromkeys(
        ("interval", "text", "varchar", "bpchar", "name", "char", "bytea", "bit", "varbit"), STRING
    ),
    **dict.fromkeys(
        ("json", "jsonb", "xml", "uuid", "inet", "cidr", "macaddr", "macaddr8", "pg_lsn"), STRING
    ),
    **dict.fromkeys(("point", "line", "lseg", "box", "path", "polygon", "circle"), STRING),
    **dict.fromkeys(("tsvector", "tsquery", "a_type_of_next_year"), STRING),
}


def base(name: str, schema: str = "pg_catalog") -> PgType:
    return PgType(1, schema, name, Kind.BASE)


def array(element: PgType) -> PgType:
    return PgType(2, element.schema, f"_{element.name}", Kind.ARRAY, element=element)


def bound(precision: int, places: int) -> int:
    """numeric.c, make_numeric_typmod."""
    return (precision << 16 | places & 0x7FF) + 4


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_built_in_type_has_the_peers_schema(name: str) -> None:
    assert json_schema(base(name), -1) == SCHEMAS[name]


def test_every_type_that_has_a_definition_has_its_schema_pinned_here() -> None:
    assert set(BUILT_IN) <= set(SCHEMAS)


@pytest.mark.parametrize(("places", "schema"), [(2, NUMBER), (0, INTEGER), (-3, INTEGER), (1000, NUMBER)])
def test_a_numeric_without_decimals_is_an_integer(places: int, schema: dict[str, Any]) -> None:
    assert json_schema(base("numeric"), bound(10, places)) == schema
    assert scale(bound(10, places)) == places


@pytest.mark.parametrize("kind", [Kind.ENUM, Kind.COMPOSITE, Kind.RANGE, Kind.MULTIRANGE, Kind.PSEUDO])
def test_a_type_of_another_kind_is_a_string(kind: Kind) -> None:
    assert json_schema(PgType(3, "pg_catalog", "int4", kind), -1) == STRING


@pytest.mark.parametrize("name", ["geometry", "hstore", "numeric", "int4"])
def test_an_extensions_type_is_a_string_whatever_its_name(name: str) -> None:
    assert json_schema(base(name, "public"), bound(10, 0)) == STRING


def test_a_domain_is_what_it_is_based_on() -> None:
    count = PgType(4, "public", "count", Kind.DOMAIN, base=base("numeric"), base_typmod=bound(10, 0))

    assert json_schema(count, -1) == INTEGER
    assert json_schema(array(count), -1) == {
        "type": ["null", "array"],
        "items": {"type": ["null", "number", "array"]},
    }


@pytest.mark.parametrize(
    ("name", "typmod", "items"),
    [
        ("int4", -1, {"type": ["null", "number", "array"], "airbyte_type": "integer"}),
        ("oid", -1, {"type": ["null", "number", "array"]}),
        ("numeric", bound(10, 0), {"type": ["null", "number", "array"]}),
        ("bytea", -1, {"type": ["null", "string", "array"]}),
        ("bit", 1, {"type": ["null", "boolean", "array"]}),
        ("bit", 8, {"type": ["null", "string", "array"]}),
        ("date", -1, {"type": ["null", "string", "array"], "format": "date"}),
    ],
)
def test_the_items_of_an_array_may_be_null_or_arrays_themselves(
    name: str, typmod: int, items: dict[str, Any]
) -> None:
    assert json_schema(array(base(name)), typmod) == {"type": ["null", "array"], "items": items}


def test_a_schema_belongs_to_whoever_asked_for_it() -> None:
    schema = json_schema(base("int4"), -1)
    schema["type"].append("string")
    schema["description"] = "mine"

    assert json_schema(base("int4"), -1) == INTEGER


@pytest.mark.parametrize("server_version", [160_010, 170_000])
@pytest.mark.parametrize("name", SCHEMAS)
def test_no_rendering_holds_a_percent_sign_or_an_unfilled_value(name: str, server_version: int) -> None:
    for type_ in (base(name), array(base(name)), array(array(base(name)))):
        text = sql_value(type_, -1, sql.Identifier("column"), server_version).as_string(None)

        assert "%" not in text
        assert "VALUE" not in text
        assert "ESCAPE" not in text
        assert ("json_scalar" in text) <= (server_version >= 170_000)
        assert '"column"' in text
