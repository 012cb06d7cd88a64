"""Every type: literals as a user would write them, and the very bytes that are emitted."""

from __future__ import annotations

import jsonschema
import pytest

from integration_tests.types.conftest import Probe

GOOGOL = "1" + "0" * 999
LONG_BYTES = "00ff" * 60

VALUES: dict[str, dict[str | None, str]] = {
    "smallint": {"-32768": "-32768", "32767": "32767"},
    "int": {"0": "0", "-2147483648": "-2147483648"},
    "bigint": {"9223372036854775807": "9223372036854775807"},
    "oid": {"4294967295": "4294967295"},
    "numeric(20,0)": {"12345678901234567890": "12345678901234567890", "1.5": "2", "NaN": "NaN\x01"},
    "numeric(4,-2)": {"12345": "12300"},
    "numeric(6,2)": {"1.5": "1.50", "-0.05": "-0.05", "NaN": "NaN\x01"},
    "numeric": {
        "0": "0",
        "1.500": "1.500",
        "-1e-7": "-0.0000001",
        GOOGOL: GOOGOL,
        "NaN": "NaN\x01",
        "Infinity": "Infinity\x01",
        "-Infinity": "-Infinity\x01",
    },
    "real": {
        "1.1": "1.1",
        "3e38": "3e+38",
        "NaN": "NaN\x01",
        "Infinity": "Infinity\x01",
        "-Infinity": "-Infinity\x01",
    },
    "double precision": {
        "0.1": "0.1",
        "15": "15",
        "-0": "-0",
        "1e-300": "1e-300",
        "1.7976931348623157e308": "1.7976931348623157e+308",
        "NaN": "NaN\x01",
        "Infinity": "Infinity\x01",
        "-Infinity": "-Infinity\x01",
    },
    "money": {"1234.5": "1234.50", "-92233720368547758.08": "-92233720368547758.08"},
    "boolean": {"t": "true", "f": "false"},
    "bit(4)": {"0100": '"0100"'},
    "bit": {"1": '"1"'},
    "bit varying": {"": '""', "10101": '"10101"'},
    "char(5)": {"ab": '"ab   "'},
    "varchar(5)": {"ab ": '"ab "'},
    "text": {
        "": '""',
        "plain": '"plain"',
        'quote " and \\ back': '"quote \\" and \\\\ back"',
        "tab\tline\r\n\x01\x1f\x7f": '"tab\\tline\\r\\n\\u0001\\u001f\x7f"',
        "snow ☃ and 😀": '"snow ☃ and 😀"',
        "null\x02": '"null\\u0002"',
    },
    "name": {"a name": '"a name"'},
    '"char"': {"x": '"x"', '"': '"\\""'},
    "bytea": {
        "": '"\\\\x"',
        "\\x6b70": '"\\\\x6b70"',
        "\\x" + LONG_BYTES: f'"\\\\x{LONG_BYTES}"',
    },
    "date": {
        "2024-02-29": '"2024-02-29"',
        "0044-03-15 BC": '"0044-03-15 BC"',
        "12024-01-01": '"12024-01-01"',
        "infinity": "infinity\x01",
        "-infinity": "-infinity\x01",
    },
    "time": {
        "04:05:06": '"04:05:06"',
        "04:05:06.789": '"04:05:06.789"',
        "24:00:00": '"23:59:59.999999999"',
        "23:59:59.999999": '"23:59:59.999999"',
    },
    "time(3)": {"04:05:06.78912": '"04:05:06.789"'},
    "timetz": {
        "13:00:01-07": '"20:00:01Z"',
        "13:00:00+8": '"05:00:00Z"',
        "00:30:05.012345+05:30:15": '"18:59:50.012345Z"',
        "24:00:00+00": '"23:59:59.999999999Z"',
        "24:00:00+02": '"22:00:00Z"',
        "22:00:00-02": '"00:00:00Z"',
    },
    "timestamp": {
        "2024-02-29 12:34:56": '"2024-02-29T12:34:56.000000"',
        "2024-02-29 12:34:56.7": '"2024-02-29T12:34:56.700000"',
        "1999-12-31 23:59:59.999999": '"1999-12-31T23:59:59.999999"',
        "0001-01-01 00:00:00": '"0001-01-01T00:00:00.000000"',
        "0001-12-31 23:59:59.999999 BC": '"0001-12-31T23:59:59.999999 BC"',
        "4713-01-01 BC": '"4713-01-01T00:00:00.000000 BC"',
        "12024-01-01 00:00:00": '"12024-01-01T00:00:00.000000"',
        "294276-12-31 23:59:59.999999": '"294276-12-31T23:59:59.999999"',
        "infinity": "infinity\x01",
        "-infinity": "-infinity\x01",
    },
    "timestamp(0)": {"2024-02-29 12:34:56.7": '"2024-02-29T12:34:57.000000"'},
    "timestamptz": {
        "2024-02-29 12:34:56.123456+02": '"2024-02-29T10:34:56.123456Z"',
        "2024-07-01 00:00:00 Europe/Berlin": '"2024-06-30T22:00:00.000000Z"',
        "0001-01-01 00:00:00+00": '"0001-01-01T00:00:00.000000Z"',
        "0001-01-01 00:00:00+01": '"0001-12-31T23:00:00.000000Z BC"',
        "0044-03-15 12:00:00.5+00 BC": '"0044-03-15T12:00:00.500000Z BC"',
        "12024-01-01 00:00:00+00": '"12024-01-01T00:00:00.000000Z"',
        "infinity": "infinity\x01",
        "-infinity": "-infinity\x01",
    },
    "interval": {
        "1 year 2 mons 3 days 04:05:06": '"1 year 2 mons 3 days 04:05:06"',
        "-100 hours 0.5 seconds": '"-99:59:59.5"',
        "0": '"00:00:00"',
    },
    "json": {'{"a" :\n "é\\ud800"}': '"{\\"a\\" :\\n \\"é\\\\ud800\\"}"', "null": '"null"'},
    "jsonb": {
        '{"b": [1, 2.50], "a": "\\""}': '"{\\"a\\": \\"\\\\\\"\\", \\"b\\": [1, 2.50]}"',
        "null": '"null"',
    },
    "extensions.hstore": {
        "": '"{}"',
        'b=>NULL, a=>"1", "c \\"d"=>"\\\\"': '"{\\"a\\": \\"1\\", \\"b\\": null, \\"c \\\\\\"d\\": \\"\\\\\\\\\\"}"',
    },
    "box": {"(3,7),(15,18)": '"(15.0,18.0),(3.0,7.0)"'},
    "circle": {"<(5,7.5),10>": '"<(5.0,7.5),10.0>"'},
    "line": {"{1,2,-3}": '"{1.0,2.0,-3.0}"'},
    "lseg": {"[(0,0),(-1,1e20)]": '"[(0.0,0.0),(-1.0,1e+20)]"'},
    "path": {
        "[(0,0),(1,0),(1,1)]": '"[(0.0,0.0),(1.0,0.0),(1.0,1.0)]"',
        "((0,0),(1,2))": '"((0.0,0.0),(1.0,2.0))"',
    },
    "point": {"(1,-20)": '"(1.0,-20.0)"', "(NaN,Infinity)": '"(NaN,Infinity)"', "(1.5,0)": '"(1.5,0.0)"'},
    "polygon": {"((0,0),(1,0),(1,1))": '"((0.0,0.0),(1.0,0.0),(1.0,1.0))"'},
    "cidr": {"10.0.0.0/8": '"10.0.0.0/8"'},
    "inet": {"10.1.2.3": '"10.1.2.3"', "::1/64": '"::1/64"'},
    "macaddr": {"08:00:2b:01:02:03": '"08:00:2b:01:02:03"'},
    "macaddr8": {"08:00:2b:01:02:03:04:05": '"08:00:2b:01:02:03:04:05"'},
    "uuid": {"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11": '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"'},
    "xml": {'<?xml version="1.0" encoding="UTF-8"?><a b="c"/>': '"<a b=\\"c\\"/>"'},
    "tsvector": {"a:1 b\\\\c": "\"'a':1 'b\\\\\\\\c'\""},
    "tsquery": {"a & !b": "\"'a' & !'b'\""},
    "pg_lsn": {"16/B374D848": '"16/B374D848"'},
    "xid8": {"5000000000": '"5000000000"'},
    "regclass": {"pg_class": '"pg_class"'},
    "int2vector": {"1 2 3": '"1 2 3"'},
    "jsonpath": {'$."a"': '"$.\\"a\\""'},
    "public.mood": {"fine": '"fine"', 'so "so"': '"so \\"so\\""', "back\\slash": '"back\\\\slash"'},
    "public.item": {
        '("fuzzy dice",42,1.99)': '"(\\"fuzzy dice\\",42,1.99)"',
        "(,,)": '"(,,)"',
    },
    "int4range": {"[1,5]": '"[1,6)"', "empty": '"empty"'},
    "tstzrange": {"[2024-01-01 00:00+00,)": '"[\\"2024-01-01 00:00:00+00\\",)"'},
    "public.span": {"[10:00,11:00)": '"[10:00:00,11:00:00)"'},
    "int4multirange": {"{[1,3),[5,7)}": '"{[1,3),[5,7)}"'},
    "extensions.citext": {'Mixed "Case"': '"Mixed \\"Case\\""'},
    "extensions.ltree": {"a.b.c": '"a.b.c"'},
    "extensions.cube": {"(1,2)": '"(1, 2)"'},
    "public.whole": {"12345": "12345", "NaN": "NaN\x01"},
    "public.whole_again": {"7": "7"},
    "public.moment": {"2024-01-01 00:00+00": '"2024-01-01T00:00:00.000000Z"', "infinity": "infinity\x01"},
    "public.day": {"2024-01-01": '"2024-01-01"', "infinity": "infinity\x01"},
    "public.clock": {"24:00:00+00": '"23:59:59.999999999Z"', "13:00+01": '"12:00:00Z"'},
    "public.reading": {"1.5": "1.5", "NaN": "NaN\x01"},
    "public.flag": {"1": '"1"'},
    "public.code": {"ab": '"ab  "'},
    "public.name_of_mood": {"fine": '"fine"'},
    "public.goods": {"(a,1,2)": '"(a,1,2)"'},
    "public.numbers": {"{1,NULL}": "[1,null]"},
    "public.readings": {"{1.5,NaN}": "[1.5,NaN\x01]"},
    "public.moments": {
        "{2024-01-01 00:00+00,infinity,NULL}": '["2024-01-01T00:00:00.000000Z",infinity\x01,null]',
    },
}

ITEMS: dict[str, dict[str, str]] = {
    declaration: {literal: rendered for literal, rendered in values.items() if literal is not None}
    for declaration, values in VALUES.items()
    if declaration not in {"oid", "bytea", "bit", "public.flag"}
}
"""What the items of arrays are written as, the peer's four quirks apart."""

QUIRKS: dict[str, dict[str, str]] = {
    "oid[]": {"{4294967295,NULL}": "[4294967295,null]"},
    "bytea[]": {
        '{"\\\\x","\\\\x6b70",NULL}': '["","a3A=",null]',
        '{"\\\\x' + "00" * 60 + '"}': f'["{"A" * 80}"]',
    },
    "bit[]": {"{0,1,NULL}": "[false,true,null]"},
    "bit(4)[]": {"{0100,NULL}": '["0100",null]'},
    "bit varying[]": {"{1,10}": '["1","10"]'},
    "public.flag[]": {"{0,1}": "[false,true]"},
    "numeric(20,0)[]": {"{12345678901234567890}": "[12345678901234567890]"},
}


def every(table: dict[str, dict[str, str]] | dict[str, dict[str | None, str]]) -> list[object]:
    return [
        pytest.param(declaration, literal, rendered, id=f"{declaration}-{(literal or '')[:40]!a}")
        for declaration, values in table.items()
        for literal, rendered in values.items()
    ]


def quoted_item(literal: str) -> str:
    return '"' + literal.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.parametrize(("declaration", "literal", "rendered"), every(VALUES))
def test_a_value_is_written_as_the_type_table_says(
    probe: Probe, declaration: str, literal: str, rendered: str
) -> None:
    written = probe.rendered(declaration, literal)

    assert written == rendered
    jsonschema.validate(probe.value(declaration, literal), probe.schema(declaration))


@pytest.mark.parametrize(("declaration", "literal", "rendered"), every(QUIRKS))
def test_items_that_the_peer_writes_otherwise_are_written_its_way(
    probe: Probe, declaration: str, literal: str, rendered: str
) -> None:
    written = probe.rendered(declaration, literal)

    assert written == rendered
    jsonschema.validate(probe.value(declaration, literal), probe.schema(declaration))


@pytest.mark.parametrize("declaration", VALUES)
def test_null_is_null_in_every_type(probe: Probe, declaration: str) -> None:
    assert probe.rendered(declaration, None) == "null"
    assert probe.rendered(f"{declaration}[]", None) == "null"
    jsonschema.validate(None, probe.schema(declaration))
    jsonschema.validate(None, probe.schema(f"{declaration}[]"))


@pytest.mark.parametrize("declaration", ITEMS)
def test_an_array_nests_its_items_in_every_dimension(probe: Probe, declaration: str) -> None:
    separator = ";" if declaration == "box" else ","
    literals = [quoted_item(literal) for literal in ITEMS[declaration]]
    items = list(ITEMS[declaration].values())
    row, written_row = separator.join([*literals, "NULL"]), ",".join([*items, "null"])
    cases = {
        "{}": "[]",
        f"{{{row}}}": f"[{written_row}]",
        f"{{{{{row}}}{separator}{{{row}}}}}": f"[[{written_row}],[{written_row}]]",
        f"[0:0][-1:0][5:{5 + len(items)}]={{{{{{{row}}}{separator}{{{row}}}}}}}": (
            f"[[[{written_row}],[{written_row}]]]"
        ),
        f"[2:{2 + len(items)}]={{{row}}}": f"[{written_row}]",
    }

    for literal, rendered in cases.items():
        assert probe.rendered(f"{declaration}[]", literal) == rendered
        jsonschema.validate(probe.value(f"{declaration}[]", literal), probe.schema(f"{declaration}[]"))


def test_an_array_has_up_to_six_dimensions(probe: Probe) -> None:
    six = "{{{{{{1,2}}},{{{3,4}}}}}}"

    assert probe.rendered("int[]", six) == "[[[[[[1,2]]],[[[3,4]]]]]]"
    assert probe.rendered("oid[]", six) == "[[[[[[1,2]]],[[[3,4]]]]]]"


def test_an_array_of_a_domain_over_arrays_nests_both(probe: Probe) -> None:
    written = probe.rendered("public.moments[]", '{{"{infinity}","{}"},{NULL,"{NULL}"}}')

    assert written == "[[[infinity\x01],[]],[null,[null]]]"
    jsonschema.validate([[[None], []], [None, [None]]], probe.schema("public.moments[]"))


def test_a_composite_of_nulls_is_a_value_and_not_null(probe: Probe) -> None:
    assert probe.rendered("public.item", "(,,)") == '"(,,)"'
    assert probe.rendered("public.item[]", '{"(,,)",NULL}') == '["(,,)",null]'


def test_an_interval_without_end_is_text_like_any_other(probe: Probe) -> None:
    if probe.connection.info.server_version < 170_000:
        pytest.skip("intervals have infinities since PostgreSQL 17")

    assert probe.rendered("interval", "-infinity") == '"-infinity"'


def test_money_has_the_decimals_of_the_databases_currency(probe: Probe) -> None:
    ((digits,),) = probe.connection.execute("SELECT scale('0'::money::numeric)").fetchall()

    assert digits == 2
    assert probe.rendered("money", "$12,345.6") == "12345.60"
