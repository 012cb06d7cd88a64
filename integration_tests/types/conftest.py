"""A database with a type of every kind, and a probe that renders values there as a reader would."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from psycopg import sql

from source_timescaledb.types.definition import OUTPUT_SETTINGS
from source_timescaledb.types.model import TYPE_QUERY, PgType, types_from_rows
from source_timescaledb.types.money import MONEY_QUERY, MoneyFormat, money_format_from_row
from source_timescaledb.types.rendering import json_schema, sql_value, text_rendering
from source_timescaledb.types.row import resolve_inexpressible, row_expression
from source_timescaledb.types.texts import function
from testkit.cluster import Cluster
from testkit.database import Database

OLDEST, NEWEST = 130_000, 170_000
"""Servers that are asked for different functions (`definition.escaper`)."""

TYPES = """
CREATE SCHEMA extensions;
CREATE EXTENSION hstore SCHEMA extensions;
CREATE EXTENSION citext SCHEMA extensions;
CREATE EXTENSION ltree SCHEMA extensions;
CREATE EXTENSION cube SCHEMA extensions;
CREATE TYPE mood AS ENUM ('fine', 'so "so"', 'back\\slash');
CREATE TYPE item AS (name text, amount int, price numeric);
CREATE TYPE span AS RANGE (subtype = time);
CREATE DOMAIN whole AS numeric(5,0);
CREATE DOMAIN whole_again AS whole CHECK (VALUE > 0);
CREATE DOMAIN moment AS timestamptz;
CREATE DOMAIN day AS date;
CREATE DOMAIN clock AS timetz;
CREATE DOMAIN reading AS float8;
CREATE DOMAIN flag AS bit;
CREATE DOMAIN code AS char(4);
CREATE DOMAIN name_of_mood AS mood;
CREATE DOMAIN numbers AS int[];
CREATE DOMAIN readings AS float8[];
CREATE DOMAIN moments AS moment[];
CREATE DOMAIN goods AS item;
CREATE FUNCTION mood_to_json(mood) RETURNS json LANGUAGE sql AS 'SELECT ''{"a": "trap"}''::json';
CREATE CAST (mood AS json) WITH FUNCTION mood_to_json(mood);
CREATE FUNCTION mood_to_text(mood) RETURNS text LANGUAGE sql AS 'SELECT ''trap''::text';
CREATE CAST (mood AS text) WITH FUNCTION mood_to_text(mood);
"""


class Probe:
    """A session set up as a reader's is, that renders values of any type as for a server of this version."""

    def __init__(self, database: Database, server_version: int) -> None:
        self.server_version = server_version
        self.connection = database.connect("superuser")
        self.connection.autocommit = True
        for name, setting in OUTPUT_SETTINGS.items():
            self.connection.execute("SELECT set_config(%s, %s, false)", [name, setting])
        self._known: dict[str, tuple[PgType, int]] = {}

    def types(self, *oids: int) -> dict[int, PgType]:
        """The types with these OIDs and all that they are built from."""
        return types_from_rows(self.connection.execute(TYPE_QUERY, {"oids": list(oids)}).fetchall())

    def type_of(self, declaration: str) -> tuple[PgType, int]:
        """The type and typmod of a column declared like this."""
        if declaration not in self._known:
            self.connection.execute(sql.SQL("CREATE TEMP TABLE probe (c {})").format(sql.SQL(declaration)))
            (oid, typmod) = self.connection.execute(
                "SELECT atttypid::int8, atttypmod FROM pg_attribute WHERE attrelid = 'pg_temp.probe'::regclass"
                " AND attnum = 1"
            ).fetchall()[0]
            self.connection.execute("DROP TABLE pg_temp.probe")
            self._known[declaration] = self.types(oid)[oid], typmod
        return self._known[declaration]

    def rendered(self, declaration: str, literal: str | None) -> str:
        """The JSON of a value, given as the text of a literal, in a column declared like this."""
        written = sql_value(*self.type_of(declaration), sql.SQL("probe.c"), self.server_version)
        query = sql.SQL("SELECT {} FROM (SELECT CAST(%s AS {}) AS c OFFSET 0) AS probe").format(
            written, sql.SQL(declaration)
        )
        ((text,),) = self.connection.execute(query, [literal]).fetchall()
        assert isinstance(text, str)
        return text

    def renderings(self, declaration: str, literal: str) -> tuple[bytes, bytes]:
        """The JSON of a value as the server writes it, and as we make it of the server's text."""
        type_, typmod = self.type_of(declaration)
        query = sql.SQL("SELECT probe.c, {} FROM (SELECT CAST(%s AS {}) AS c OFFSET 0) AS probe").format(
            sql_value(type_, typmod, sql.SQL("probe.c"), self.server_version), sql.SQL(declaration)
        )
        ((text, written),) = self.texts(query, [literal])
        assert text is not None
        assert written is not None
        return written, function(text_rendering(type_, typmod, self.currency()))(text)

    def texts(self, query: sql.Composed, parameters: Sequence[Any] = ()) -> list[tuple[bytes | None, ...]]:
        """What the output functions write of a query's values."""
        result = self.connection.execute(query, parameters).pgresult
        assert result is not None
        return [
            tuple(result.get_value(row, column) for column in range(result.nfields))
            for row in range(result.ntuples)
        ]

    def currency(self) -> MoneyFormat:
        """The format of money in this session."""
        ((decimals, minus_one),) = self.connection.execute(MONEY_QUERY).fetchall()
        return money_format_from_row((decimals, minus_one))

    def resolved(self, declaration: str, literal: str | None) -> str:
        """The JSON of a value as it is emitted, with null for what JSON cannot express."""
        row = f'{{"c":{self.rendered(declaration, literal)}}}'.encode()
        clean, _ = resolve_inexpressible(row)
        return clean.decode().removeprefix('{"c":').removesuffix("}")

    def value(self, declaration: str, literal: str | None) -> Any:
        """The value as a destination parses it."""
        return json.loads(self.resolved(declaration, literal))

    def schema(self, declaration: str) -> dict[str, Any]:
        """The JSON schema of such a column."""
        return json_schema(*self.type_of(declaration))

    def columns(self, table: str) -> list[tuple[str, PgType, int]]:
        """A table's columns: name, type, typmod."""
        rows = self.connection.execute(
            "SELECT attname, atttypid::int8, atttypmod FROM pg_attribute"
            " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            [table],
        ).fetchall()
        types = self.types(*{oid for _, oid, _ in rows})
        return [(name, types[oid], typmod) for name, oid, typmod in rows]

    def rows(self, table: str, parameters: Sequence[Any] | None = None) -> list[str]:
        """All rows of a table as JSON objects."""
        query = sql.SQL("SELECT {} FROM {}").format(
            row_expression(self.columns(table), self.server_version), sql.Identifier(*table.split("."))
        )
        if parameters is not None:
            query += sql.SQL(" WHERE %s")
        return [text for (text,) in self.connection.execute(query, parameters).fetchall()]


@pytest.fixture(scope="session")
def zoo(server: Cluster) -> Iterator[Database]:
    with server.database(extension=False) as fresh:
        fresh.as_superuser().execute(TYPES)
        yield fresh


@pytest.fixture(scope="session", params=[OLDEST, NEWEST], ids=["as of old", "as of now"])
def probe(zoo: Database, request: pytest.FixtureRequest) -> Iterator[Probe]:
    """What newer servers do faster must come out as what every server can do."""
    if request.param > zoo.as_superuser().info.server_version:
        pytest.skip("the server is too old for its newest functions")
    opened = Probe(zoo, request.param)
    yield opened
    opened.connection.close()
