"""The order in which keys are placed without asking is the order of the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from source_timescaledb.cdc.keys import Placement, rankings
from source_timescaledb.hypertables.model import Column, QualifiedName, Relation, RelationKind
from source_timescaledb.snapshot.query import positions_query
from source_timescaledb.state.model import Key
from source_timescaledb.types.model import TYPE_QUERY, types_from_rows
from testkit.database import Database

INFINITIES = ["infinity", "-infinity"]
NUMBERS = st.decimals(-(10**40), 10**40, allow_nan=False, allow_infinity=False) | st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places), st.integers(-9, 9), st.integers(-40, 40)
)
MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(timezone.utc))  # noqa: DTZ001
VALUES: dict[str, st.SearchStrategy[str]] = {
    "smallint": st.integers(-(2**15), 2**15 - 1).map(str),
    "integer": st.integers(-(2**31), 2**31 - 1).map(str),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str),
    "oid": st.integers(0, 2**32 - 1).map(str),
    "numeric": NUMBERS.map(str) | st.sampled_from(["NaN", "Infinity", "-Infinity", "0", "0.00", "1E+100"]),
    "date": st.dates(date(1, 1, 1)).map(str)
    | st.sampled_from([*INFINITIES, "4714-11-24 BC", "0044-03-15 BC", "5874897-12-31", "10000-02-29"]),
    "timestamp": MOMENTS.map(lambda moment: moment.replace(tzinfo=None).isoformat())
    | st.sampled_from([*INFINITIES, "4714-11-24 00:00:00 BC", "294276-12-31 23:59:59.999999"]),
    "timestamptz": MOMENTS.map(str)
    | st.sampled_from([*INFINITIES, "4714-11-24 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00"]),
    "boolean": st.sampled_from(["t", "f"]),
    "uuid": st.uuids().map(str) | st.sampled_from(["FFFFFFFF-0000-4000-8000-00000000000A"]),
    "bytea": st.binary(max_size=6).map(lambda value: "\\x" + value.hex()),
}
"""Texts that the server takes; what it makes of them is what is compared."""


@dataclass
class Keyed:
    """A table whose key is of a type, and a session as ours."""

    database: Database
    relation: Relation

    def in_order(self, type_: str, texts: Sequence[str]) -> list[Key]:
        """The values as the server writes them, in its order, each once."""
        query = sql.SQL(
            "SELECT format('%%s', v) FROM (SELECT DISTINCT unnest(%s::text[])::{} AS v) d ORDER BY v"
        )
        return [(text,) for (text,) in self.database.rows(query.format(sql.SQL(type_)), [list(texts)])]

    def positions(self, bounds: Sequence[Key], keys: Sequence[Key]) -> list[int]:
        """Where the server places keys."""
        rows = self.database.rows(positions_query(self.relation, bounds, keys))
        return [int(position) for (position,) in rows]


def keyed(database: Database, *types: str) -> Keyed:
    names = tuple(f"c{number}" for number in range(len(types)))
    columns = ", ".join(f"{name} {type_}" for name, type_ in zip(names, types, strict=True))
    database.execute(f"CREATE TABLE keyed ({columns}, PRIMARY KEY ({', '.join(names)}))".encode())
    oids = [database.value("SELECT %s::regtype::oid::int8", [type_]) for type_ in types]
    known = types_from_rows(database.rows(TYPE_QUERY, {"oids": oids}))
    relation = Relation(
        1,
        QualifiedName("public", "keyed"),
        RelationKind.TABLE,
        tuple(Column(name, known[oid], -1) for name, oid in zip(names, oids, strict=True)),
        names,
    )
    return Keyed(database, relation)


def never(_bounds: tuple[Key, ...], _keys: Sequence[Key]) -> list[int]:
    raise AssertionError


def placed(relation: Relation, bounds: Sequence[Key], keys: Sequence[Key]) -> list[int]:
    rank = rankings(relation)
    assert rank is not None
    placement = Placement(tuple(bounds), never, rank)
    return [placement.of(key) for key in keys]


searching = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("type_", VALUES)
def test_keys_are_placed_where_the_server_places_them(database: Database, type_: str) -> None:
    table = keyed(database, type_)

    @searching
    @given(st.lists(VALUES[type_], min_size=1, max_size=12), st.data())
    def search(texts: list[str], data: st.DataObject) -> None:
        keys = table.in_order(type_, texts)
        bounds = [key for number, key in enumerate(keys) if number == 0 or data.draw(st.booleans())]

        assert placed(table.relation, bounds, keys) == table.positions(bounds, keys)

    search()


def test_keys_of_several_columns_are_placed_where_the_server_places_them(database: Database) -> None:
    table = keyed(database, "numeric", "uuid", "timestamptz")
    columns = (VALUES["numeric"], VALUES["uuid"], VALUES["timestamptz"])

    @searching
    @given(*(st.lists(values, min_size=2, max_size=3) for values in columns))
    def search(numbers: list[str], uuids: list[str], moments: list[str]) -> None:
        texts = zip(
            *[
                table.in_order(t, v)
                for t, v in (("numeric", numbers), ("uuid", uuids), ("timestamptz", moments))
            ],
            strict=False,
        )
        firsts = [tuple(value for (value,) in row) for row in texts]
        keys = sorted({(a, b, c) for a, _, _ in firsts for _, b, _ in firsts for _, _, c in firsts})
        bounds = firsts[::2]

        assert placed(table.relation, bounds, keys) == table.positions(bounds, keys)

    search()
