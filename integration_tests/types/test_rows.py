"""Whole rows: hostile names, the widest table, nothing but nulls, and every row of PostgreSQL's own catalog."""

from __future__ import annotations

import json
from collections.abc import Iterator

import jsonschema
import pytest
from psycopg import sql

from integration_tests.types.conftest import Probe
from source_timescaledb.types.rendering import json_schema
from source_timescaledb.types.row import resolve_inexpressible, row_expression

HOSTILE_NAMES = (
    "plain",
    "select",
    "Mixed Case",
    'double "quote"',
    "single 'quote'",
    "100%",
    "%s %(name)s %%",
    "{} {0} {braces}",
    "back\\slash \\0025",
    "percent % and \\ back",
    "line\nfeed\ttab\x01",
    "$1 :name",
    "VALUE",
    "😀 snow ☃",
    "é" * 31 + "x",
)
ALIASES = (
    "item",
    "value",
    "n",
    "shape",
    "whole",
    "sizes",
    "source",
    "level",
    "depth",
    "size",
    "inside",
    "bracket",
)


@pytest.fixture
def table(probe: Probe) -> Iterator[str]:
    yield "public.subject"
    probe.connection.execute("DROP TABLE IF EXISTS public.subject")


def create(probe: Probe, columns: dict[str, str]) -> None:
    probe.connection.execute(
        sql.SQL("CREATE TABLE public.subject ({})").format(
            sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(declared))
                for name, declared in columns.items()
            )
        )
    )


def insert(probe: Probe, *literals: str | None) -> None:
    holders = sql.SQL(", ").join(map(sql.Literal, literals))
    probe.connection.execute(sql.SQL("INSERT INTO public.subject VALUES ({})").format(holders))


@pytest.mark.parametrize("parameters", [None, [True]])
def test_columns_may_have_any_name_with_parameters_or_without(
    probe: Probe, table: str, parameters: list[bool] | None
) -> None:
    create(probe, dict.fromkeys(HOSTILE_NAMES, "text"))
    insert(probe, *HOSTILE_NAMES)

    (row,) = probe.rows(table, parameters)

    assert json.loads(row) == {name: name for name in HOSTILE_NAMES}
    assert list(json.loads(row)) == list(HOSTILE_NAMES)


def test_columns_may_bear_the_names_that_the_expression_uses_itself(probe: Probe, table: str) -> None:
    create(probe, dict.fromkeys(ALIASES, "timestamptz[]"))
    insert(probe, *(f"{{{{20{number}-01-01 00:00+00}}}}" for number in range(10, 10 + len(ALIASES))))

    (row,) = probe.rows(table)

    assert json.loads(row) == {
        name: [[f"20{number}-01-01T00:00:00.000000Z"]] for number, name in enumerate(ALIASES, start=10)
    }


def test_the_widest_table_is_one_object(probe: Probe, table: str) -> None:
    create(probe, {f"column {number}": ("bool", "int")[number % 2] for number in range(1600)})
    insert(probe, *("t" if number % 2 == 0 else None for number in range(1600)))

    (row,) = probe.rows(table)

    assert json.loads(row) == {
        f"column {number}": (True if number % 2 == 0 else None) for number in range(1600)
    }


def test_a_table_without_columns_has_empty_objects(probe: Probe, table: str) -> None:
    create(probe, {})
    probe.connection.execute("INSERT INTO public.subject DEFAULT VALUES")

    assert probe.rows(table) == ["{}"]


def test_a_row_of_nulls_has_every_key(probe: Probe, table: str) -> None:
    declared = (
        "int",
        "float8",
        "numeric",
        "text",
        "timestamptz",
        "jsonb",
        "public.item",
        "date[]",
        "oid[]",
        "bytea",
    )
    create(probe, {f"a {declaration}": declaration for declaration in declared})
    probe.connection.execute("INSERT INTO public.subject DEFAULT VALUES")

    (row,) = probe.rows(table)

    assert json.loads(row) == {f"a {declaration}": None for declaration in declared}


def test_marked_values_become_null_and_name_their_fields(probe: Probe, table: str) -> None:
    create(
        probe,
        {
            "id": "int",
            "f": "float8",
            "n": "numeric",
            "at": "timestamptz",
            "d": "date[]",
            "t": "text",
            "x": "float8[]",
        },
    )
    insert(probe, "1", "-inf", "nan", "infinity", "{{-infinity,2024-01-01}}", "NaN", "{1.50}")

    (row,) = probe.rows(table)
    clean, fields = resolve_inexpressible(row.encode())

    assert clean == b'{"id":1,"f":null,"n":null,"at":null,"d":[[null,"2024-01-01"]],"t":"NaN","x":[1.5]}'
    assert fields == ["f", "n", "at", "d"]


def test_every_row_of_the_servers_own_catalog_is_valid(probe: Probe) -> None:
    relations = probe.connection.execute(
        "SELECT nspname || '.' || relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE nspname = 'pg_catalog' AND relkind IN ('r', 'v')"
        # These read files of the server, which need not be there.
        " AND relname <> ALL ('{pg_hba_file_rules,pg_ident_file_mappings,pg_file_settings,pg_timezone_names}')"
    ).fetchall()

    for (relation,) in relations:
        columns = probe.columns(relation)
        query = sql.SQL("SELECT {} FROM {} LIMIT 200").format(
            row_expression(columns, probe.server_version), sql.Identifier(*relation.split("."))
        )
        schema = {"properties": {name: json_schema(type_, typmod) for name, type_, typmod in columns}}
        check = jsonschema.Draft202012Validator(schema)
        for (row,) in probe.connection.execute(query).fetchall():
            clean, _ = resolve_inexpressible(row.encode())
            value = json.loads(clean)
            assert list(value) == [name for name, _, _ in columns]
            check.validate(value)


def test_a_views_columns_are_typed_like_a_tables(probe: Probe) -> None:
    probe.connection.execute(
        "CREATE TEMP VIEW seen AS SELECT 7::numeric(10,0) AS a, 'x'::varchar(3) AS b, NULL AS c"
    )

    assert probe.rows("pg_temp.seen") == ['{"a":7,"b":"x","c":null}']
