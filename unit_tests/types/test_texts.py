from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.errors import DefectError
from source_timescaledb.types.definition import Verbatim
from source_timescaledb.types.model import Kind, PgType
from source_timescaledb.types.money import DOLLARS
from source_timescaledb.types.rendering import text_rendering
from source_timescaledb.types.texts import escaped, function

TEXTS = {
    "float8": {"1.5": "1.5", "1e+300": "1e+300", "-0": "-0", "NaN": "NaN\x01", "-Infinity": "-Infinity\x01"},
    "numeric": {"1.500": "1.500", "Infinity": "Infinity\x01"},
    "bool": {"t": "true", "f": "false"},
    "text": {"": '""', 'a "b" \\ \n\x01\x7f é': '"a \\"b\\" \\\\ \\n\\u0001\x7f é"', "NaN": '"NaN"'},
    "bpchar": {"ab  ": '"ab  "'},
    "jsonb": {'{"a": 1}': '"{\\"a\\": 1}"'},
    "json": {'"\\ud800"': '"\\"\\\\ud800\\""'},
    "bytea": {"\\x": '"\\\\x"', "\\x6b70": '"\\\\x6b70"'},
    "date": {
        "2024-02-29": '"2024-02-29"',
        "0044-03-15 BC": '"0044-03-15 BC"',
        "12024-01-01": '"12024-01-01"',
        "infinity": "infinity\x01",
        "-infinity": "-infinity\x01",
    },
    "time": {
        "04:05:06.789": '"04:05:06.789"',
        "23:59:59.999999": '"23:59:59.999999"',
        "24:00:00": '"23:59:59.999999999"',
    },
    "timetz": {
        "13:00:01-07": '"20:00:01Z"',
        "00:30:05.012345+05:30:15": '"18:59:50.012345Z"',
        "24:00:00+00": '"23:59:59.999999999Z"',
        "24:00:00+02": '"22:00:00Z"',
        "22:00:00-02": '"00:00:00Z"',
    },
    "timestamp": {
        "2024-02-29 12:34:56": '"2024-02-29T12:34:56.000000"',
        "2024-02-29 12:34:56.7": '"2024-02-29T12:34:56.700000"',
        "2024-02-29 12:34:56.123456": '"2024-02-29T12:34:56.123456"',
        "0044-03-15 12:00:00 BC": '"0044-03-15T12:00:00.000000 BC"',
        "0044-03-15 12:00:00.123 BC": '"0044-03-15T12:00:00.123000 BC"',
        "12024-01-01 00:00:00": '"12024-01-01T00:00:00.000000"',
        "294276-12-31 23:59:59.9": '"294276-12-31T23:59:59.900000"',
        "-infinity": "-infinity\x01",
    },
    "timestamptz": {
        "2024-01-02 03:04:05+00": '"2024-01-02T03:04:05.000000Z"',
        "2024-01-02 03:04:05.12+00": '"2024-01-02T03:04:05.120000Z"',
        "2024-01-02 03:04:05.123456+00": '"2024-01-02T03:04:05.123456Z"',
        "0044-03-15 12:00:00.5+00 BC": '"0044-03-15T12:00:00.500000Z BC"',
        "12024-01-01 00:00:00.12345+00": '"12024-01-01T00:00:00.123450Z"',
        "294276-12-31 23:59:59+00": '"294276-12-31T23:59:59.000000Z"',
        "infinity": "infinity\x01",
    },
    "path": {"[(0,0),(1.5,-20)]": '"[(0.0,0.0),(1.5,-20.0)]"'},
    "circle": {"<(5,7.5),1e+20>": '"<(5.0,7.5),1e+20>"'},
    "int2vector": {"1 2 3": '"1 2 3"'},
}
"""What output functions write, and what becomes of it."""

ARRAYS = {
    "int4": {
        "{}": "[]",
        "{1,NULL,-3}": "[1,null,-3]",
        "[2:3]={1,2}": "[1,2]",
        "[0:0][-1:0]={{1,2}}": "[[1,2]]",
        "{{{1},{2}}}": "[[[1],[2]]]",
    },
    "uuid": {"{a-b,NULL}": '["a-b",null]'},
    "float8": {"{1.5,NaN,NULL}": "[1.5,NaN\x01,null]"},
    "text": {
        '{"",a,"NULL",NULL,"a,b}","\\"\\\\"}': '["","a","NULL",null,"a,b}","\\"\\\\"]',
        '{{"{",x},{[y;z],"\\"}"}}': '[["{","x"],["[y;z]","\\"}"]]',
        '{"line\nfeed","\\\\n"}': '["line\\nfeed","\\\\n"]',
    },
    "bytea": {'{"\\\\x","\\\\x6b70",NULL}': '["","a3A=",null]'},
    "bit": {"{0,1,NULL}": "[false,true,null]"},
    "timestamptz": {'{"2024-01-02 03:04:05+00",infinity}': '["2024-01-02T03:04:05.000000Z",infinity\x01]'},
    "money": {'{$0.05,"-$1,234.50",NULL}': "[0.05,-1234.50,null]"},
}

IMPOSSIBLE = {
    "float8": ["", "secret", "nan"],
    "bool": ["", "secret", "true"],
    "text": ["secret\udcff"],
    "bytea": ["secret", "\\\\secret"],
    "timestamp": ["secret", "", "20240102T030405", "02.01.2024 03:04:05"],
    "timestamptz": ["secret", "2024-01-02 03:04:05", "2024-01-02 03:04:05+02", "12024-01-02 03:04:05 PST"],
    "timetz": ["secret", "03:04:05"],
    "money": ["secret", "$1"],
    "_text": [
        "secret",
        "",
        "{secret",
        "secret}",
        '{"secret}',
        "{secret\\}",
        "{{secret}",
        '{a"secret}',
        "[1:2]",
    ],
    "_float8": ["{1.5,secret}"],
    "_bytea": ['{"secret"}', '{"\\\\xsecret"}'],
    "_bit": ["{2}"],
    "hstore": ["secret", '"secret"=>"', '"secret"=>"a","b"=>"c"', '"secret"=>null'],
}


def type_named(name: str) -> tuple[PgType, int]:
    schema = "extensions" if name == "hstore" else "pg_catalog"
    if name.startswith("_"):
        return array(name[1:])
    return PgType(1, schema, name, Kind.BASE), -1


def array(name: str, delimiter: str = ",") -> tuple[PgType, int]:
    element = PgType(1, "pg_catalog", name, Kind.BASE, delimiter=delimiter)
    return PgType(2, "pg_catalog", f"_{name}", Kind.ARRAY, element=element), 1 if name == "bit" else -1


def rendered(type_: tuple[PgType, int], text: str) -> str:
    return function(text_rendering(*type_, DOLLARS))(text.encode(errors="surrogateescape")).decode()


def every(table: dict[str, dict[str, str]]) -> list[tuple[str, str, str]]:
    return [(name, text, json) for name, texts in table.items() for text, json in texts.items()]


@pytest.mark.parametrize(("name", "text", "json"), every(TEXTS))
def test_a_text_becomes_json(name: str, text: str, json: str) -> None:
    assert rendered(type_named(name), text) == json


@pytest.mark.parametrize(("name", "text", "json"), every(ARRAYS))
def test_the_text_of_an_array_becomes_json(name: str, text: str, json: str) -> None:
    assert rendered(array(name), text) == json


def test_boxes_in_an_array_are_delimited_by_semicolons() -> None:
    text = "{(15,18),(3,7);NULL;(1.5,1),(0,0)}"

    assert rendered(array("box", ";"), text) == '["(15.0,18.0),(3.0,7.0)",null,"(1.5,1.0),(0.0,0.0)"]'


def test_an_array_of_a_domain_over_arrays_nests_both() -> None:
    inner, _ = array("int4")
    domain = PgType(3, "public", "numbers", Kind.DOMAIN, base=inner)
    outer = PgType(4, "public", "_numbers", Kind.ARRAY, element=domain)

    assert rendered((outer, -1), '{{"{1,NULL}","{}"},{NULL,"[2:2]={7}"}}') == "[[[1,null],[]],[null,[7]]]"


@pytest.mark.parametrize(
    ("name", "rendering"),
    [
        *((name, Verbatim.BARE) for name in ("int2", "int4", "int8", "oid")),
        *(
            (name, Verbatim.QUOTED)
            for name in ("uuid", "inet", "cidr", "macaddr", "pg_lsn", "bit", "interval")
        ),
    ],
)
def test_a_text_that_is_json_already_needs_no_function(name: str, rendering: Verbatim) -> None:
    domain = PgType(3, "public", "of_it", Kind.DOMAIN, base=type_named(name)[0])

    assert text_rendering(*type_named(name), DOLLARS) is rendering
    assert text_rendering(domain, -1, DOLLARS) is rendering


@pytest.mark.parametrize("kind", [Kind.ENUM, Kind.COMPOSITE, Kind.RANGE, Kind.MULTIRANGE, Kind.PSEUDO])
def test_a_type_of_another_kind_is_a_string_of_its_text(kind: Kind) -> None:
    assert text_rendering(PgType(3, "public", "int4", kind), -1, DOLLARS) is escaped


@pytest.mark.parametrize(
    ("text", "json"),
    [
        ("", '"{}"'),
        ('"a"=>"1", "b"=>NULL', '"{\\"a\\": \\"1\\", \\"b\\": null}"'),
        ('"a, b\\""=>"\\\\=>"', '"{\\"a, b\\\\\\"\\": \\"\\\\\\\\=>\\"}"'),
        ('"a"=>"NULL\n\x01"', '"{\\"a\\": \\"NULL\\\\n\\\\u0001\\"}"'),
    ],
)
def test_an_hstore_is_the_text_of_a_json_object(text: str, json: str) -> None:
    assert rendered(type_named("hstore"), text) == json


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in IMPOSSIBLE.items() for text in texts]
)
def test_a_text_that_no_server_writes_is_a_defect_that_keeps_the_value_to_itself(
    name: str, text: str
) -> None:
    with pytest.raises(DefectError) as caught:
        rendered(type_named(name), text)

    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_in_an_array_is_what_it_is_alone(text: str) -> None:
    item = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    alone = rendered(type_named("text"), text)

    assert rendered(array("text"), f"{{{{{item},NULL}},{{x,{item}}}}}") == f'[[{alone},null],["x",{alone}]]'
