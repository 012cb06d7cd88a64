"""One definition, two renderings: what the server writes of a value and what we make of its text are the same bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from integration_tests.types.conftest import Probe
from integration_tests.types.test_properties import JSON_VALUES, TEXTS, array_literal, nested
from integration_tests.types.test_values import QUIRKS, VALUES, every, quoted_item
from source_timescaledb.types.rendering import sql_value, text_rendering
from source_timescaledb.types.texts import function

LITERALS = {
    declaration: [literal for literal in values if literal is not None]
    for declaration, values in VALUES.items()
}


def hstore_literal(pairs: dict[str, str | None]) -> str:
    return ",".join(
        f"{quoted_item(name)}=>{'NULL' if value is None else quoted_item(value)}"
        for name, value in pairs.items()
    )


searching = settings(deadline=None, max_examples=30)

COUNTS = st.integers(0, 2**31 - 1)
HOSTILE = TEXTS | st.text('{}[]()",;=>\\ \t\n\x01\x1f\x7fNULnulé')
FLOATS = st.floats().map(repr)
NUMBERS = st.decimals(-(10**20), 10**20).map("{:f}".format)
INFINITIES = st.sampled_from(["infinity", "-infinity"])
DAYS = st.builds("{:04}-{:02}-{:02}".format, st.integers(1, 12_000), st.integers(1, 12), st.integers(1, 28))
DAYS_BC = st.builds("{:04}-{:02}-28".format, st.integers(1, 4713), st.integers(1, 12))
CLOCKS = st.times().map(str) | st.just("24:00:00")
SEXAGESIMAL = st.integers(0, 59)
OFFSETS = st.builds(
    "{}{:02}:{:02}:{:02}".format, st.sampled_from("+-"), st.integers(0, 15), SEXAGESIMAL, SEXAGESIMAL
)
MOMENTS = st.builds("{} {}".format, DAYS, CLOCKS) | st.builds("{} {} BC".format, DAYS_BC, CLOCKS) | INFINITIES
POINTS = st.builds("({},{})".format, FLOATS | COUNTS, FLOATS | COUNTS)
CORNERS = st.lists(POINTS, min_size=1).map(",".join)

GENERATED: dict[str, st.SearchStrategy[str]] = {
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str),
    "oid": st.integers(0, 2**32 - 1).map(str),
    "numeric": NUMBERS | st.sampled_from(["NaN", "Infinity", "-Infinity", "1e-300", "1e300"]),
    "numeric(40,5)": NUMBERS | st.just("NaN"),
    "float8": FLOATS,
    "float4": st.floats(width=32).map(repr),
    "money": st.integers(-(2**63), 2**63 - 1).map(lambda cents: str(Decimal(cents).scaleb(-2))),
    "boolean": st.booleans().map(str),
    "text": HOSTILE,
    "name": st.text("aé{}\"',; \\\x7f", max_size=20),
    "char(9)": st.text("aé{}\"',; \\\t", max_size=9),
    '"char"': st.characters(min_codepoint=1, max_codepoint=127),
    "bytea": st.binary().map(lambda value: f"\\x{value.hex()}"),
    "bit": st.sampled_from("01"),
    "bit varying": st.text("01"),
    "uuid": st.uuids().map(str),
    "inet": st.ip_addresses().map(str),
    "date": DAYS | DAYS_BC.map("{} BC".format) | INFINITIES,
    "time": CLOCKS,
    "timetz": st.builds("{}{}".format, CLOCKS, OFFSETS | st.just("+00")),
    "timestamp": MOMENTS,
    "timestamptz": MOMENTS,
    "interval": st.builds("{} mons {} days {} us".format, *[st.integers(-(10**6), 10**6)] * 3),
    "point": POINTS,
    "box": st.builds("({},{})".format, POINTS, POINTS),
    "lseg": st.builds("[{},{}]".format, POINTS, POINTS),
    "path": CORNERS.map("[{}]".format),
    "polygon": CORNERS.map("({})".format),
    "circle": st.builds("<{},{}>".format, POINTS, COUNTS),
    "line": st.builds("{{{},{},{}}}".format, st.integers(1, 9), COUNTS, st.floats(-1e9, 1e9)),
    "json": JSON_VALUES.map(json.dumps),
    "jsonb": JSON_VALUES.map(lambda value: json.dumps(value, ensure_ascii=False)),
    "public.mood": st.sampled_from(["fine", 'so "so"', "back\\slash"]),
    "public.item": st.builds("({},{},{})".format, HOSTILE.map(quoted_item), COUNTS, NUMBERS),
    "public.whole": st.integers(-99_999, 99_999).map(str),
    "public.moment": MOMENTS,
    "numrange": st.builds("[{},)".format, NUMBERS),
    "int4multirange": st.lists(COUNTS.map("[{},)".format)).map(lambda parts: f"{{{','.join(parts)}}}"),
    "extensions.citext": HOSTILE,
    "extensions.hstore": st.dictionaries(HOSTILE, st.none() | HOSTILE).map(hstore_literal),
}


def delimiter(declaration: str) -> str:
    return ";" if declaration == "box" else ","


@pytest.mark.parametrize(("declaration", "literal", "_rendered"), [*every(VALUES), *every(QUIRKS)])
def test_a_text_becomes_what_the_server_writes(
    probe: Probe, declaration: str, literal: str, _rendered: str
) -> None:
    written, made = probe.renderings(declaration, literal)

    assert made == written


@pytest.mark.parametrize("declaration", LITERALS)
def test_the_text_of_an_array_becomes_what_the_server_writes_in_every_shape(
    probe: Probe, declaration: str
) -> None:
    between = delimiter(declaration)
    items = [*map(quoted_item, LITERALS[declaration]), "NULL"]
    row = "{" + between.join(items) + "}"

    for literal in (
        "{}",
        "{NULL}",
        row,
        f"{{{row}{between}{row}}}",
        f"{{{{{row}{between}{row}}}{between}{{{row}{between}{row}}}}}",
        f"[-2:{len(items) - 3}]={row}",
        f"[0:1][5:{len(items) + 4}]={{{row}{between}{row}}}",
    ):
        written, made = probe.renderings(f"{declaration}[]", literal)

        assert made == written


@pytest.mark.parametrize("declaration", GENERATED)
@searching
@given(data=st.data())
def test_a_generated_value_is_rendered_alike(probe: Probe, declaration: str, data: st.DataObject) -> None:
    literal = data.draw(GENERATED[declaration])

    written, made = probe.renderings(declaration, literal)

    assert made == written


@pytest.mark.parametrize("declaration", GENERATED)
@searching
@given(data=st.data())
def test_an_array_of_generated_values_is_rendered_alike(
    probe: Probe, declaration: str, data: st.DataObject
) -> None:
    value = data.draw(nested(st.none() | GENERATED[declaration]))

    written, made = probe.renderings(f"{declaration}[]", array_literal(value, str, delimiter(declaration)))

    assert made == written


@searching
@given(value=nested(st.none() | nested(st.none() | MOMENTS).map(lambda inner: array_literal(inner, str))))
def test_an_array_of_a_domain_over_arrays_is_rendered_alike(probe: Probe, value: object) -> None:
    written, made = probe.renderings("public.moments[]", array_literal(value, str))

    assert made == written


def test_every_character_is_escaped_alike(probe: Probe) -> None:
    literal = "".join(map(chr, [*range(1, 0x300), 0x2028, 0x2029, 0xFEFF, 0xFFFD, 0xFFFF, 0x1F600, 0x10FFFF]))

    for declaration in ("text", "extensions.citext", "json"):
        value = json.dumps(literal, ensure_ascii=False) if declaration == "json" else literal
        written, made = probe.renderings(declaration, value)

        assert made == written


def test_every_value_of_the_servers_own_catalog_is_rendered_alike(probe: Probe) -> None:
    relations = probe.connection.execute(
        "SELECT nspname || '.' || relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE nspname = 'pg_catalog' AND relkind = 'r'"
    ).fetchall()
    currency = probe.currency()

    for (relation,) in relations:
        columns = probe.columns(relation)
        functions = [function(text_rendering(type_, typmod, currency)) for _, type_, typmod in columns]
        names = [sql.Identifier(name) for name, _, _ in columns]
        written = [
            sql_value(type_, typmod, name, probe.server_version)
            for name, (_, type_, typmod) in zip(names, columns, strict=True)
        ]
        query = sql.SQL("SELECT {} FROM {} LIMIT 200").format(
            sql.SQL(", ").join([*names, *written]), sql.Identifier(*relation.split("."))
        )
        for row in probe.texts(query):
            texts, expected = row[: len(columns)], row[len(columns) :]
            made = [
                b"null" if text is None else render(text)
                for render, text in zip(functions, texts, strict=True)
            ]
            assert made == [*expected]


def sent_tuples(probe: Probe) -> Iterator[list[bytes | None]]:
    """The texts of each row that the slot `sent` tells of (PostgreSQL manual, Logical Replication Message Formats)."""
    changes = probe.connection.execute(
        "SELECT data FROM pg_logical_slot_get_binary_changes("
        "'sent', NULL, NULL, 'proto_version', '1', 'publication_names', 'sent')"
    ).fetchall()
    for (message,) in changes:
        if message[:1] == b"I":
            yield [*texts_of(message)]


def texts_of(insert: bytes) -> Iterator[bytes | None]:
    (count,), at = struct.unpack_from("!h", insert, 6), 8
    for _ in range(count):
        kind, at = insert[at : at + 1], at + 1
        if kind == b"n":
            yield None
            continue
        assert kind == b"t"
        (length,), at = struct.unpack_from("!i", insert, at), at + 4
        yield insert[at : at + length]
        at += length


@pytest.fixture
def published(probe: Probe) -> Iterator[None]:
    """A published table with a column of each type and one of arrays of it, and a slot that sends what happens to it."""
    declarations = [*LITERALS, *(f"{declaration}[]" for declaration in LITERALS)]
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(f"c{number}"), sql.SQL(declaration))
        for number, declaration in enumerate(declarations)
    )
    probe.connection.execute(sql.SQL("CREATE TABLE public.sent ({})").format(columns))
    probe.connection.execute("CREATE PUBLICATION sent FOR TABLE public.sent")
    probe.connection.execute("SELECT pg_create_logical_replication_slot('sent', 'pgoutput', true)")
    yield
    probe.connection.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'sent'"
    )
    probe.connection.execute("DROP PUBLICATION sent")
    probe.connection.execute("DROP TABLE public.sent")


@pytest.mark.usefixtures("published")
def test_replication_sends_the_text_of_the_output_function(probe: Probe) -> None:
    longest = max(map(len, LITERALS.values()))
    for number in range(longest + 1):
        values = [literals[number] if number < len(literals) else None for literals in LITERALS.values()]
        arrays = [
            None if value is None else f"{{{quoted_item(value)}{delimiter(declaration)}NULL}}"
            for declaration, value in zip(LITERALS, values, strict=True)
        ]
        row = sql.SQL(", ").join(map(sql.Literal, [*values, *arrays]))
        probe.connection.execute(sql.SQL("INSERT INTO public.sent VALUES ({})").format(row))

    sent = [*sent_tuples(probe)]

    assert len(sent) == longest + 1
    assert sent == [[*row] for row in probe.texts(sql.SQL("TABLE public.sent").format())]
