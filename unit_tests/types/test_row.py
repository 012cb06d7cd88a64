from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from source_timescaledb.errors import DefectError
from source_timescaledb.types.model import Kind, PgType
from source_timescaledb.types.row import concatenated, resolve_inexpressible, row_expression

INT = PgType(23, "pg_catalog", "int4", Kind.BASE)
MOOD = PgType(90_000, "public", "mood", Kind.ENUM)
NAN = object()

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(NAN) | st.text(),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


def written(value: Any, inexpressible: str) -> str:
    """A value as the server writes it."""
    if value is NAN:
        return inexpressible
    if isinstance(value, list):
        return "[" + ",".join(written(item, inexpressible) for item in value) + "]"
    return json.dumps(value, ensure_ascii=True)


def row(values: dict[str, Any], inexpressible: str) -> bytes:
    fields = (f"{json.dumps(name)}:{written(value, inexpressible)}" for name, value in values.items())
    return ("{" + ",".join(fields) + "}").encode()


def holds_nan(value: Any) -> bool:
    return value is NAN or (isinstance(value, list) and any(map(holds_nan, value)))


@given(
    values=st.dictionaries(st.text(), VALUES),
    word=st.sampled_from(["NaN", "Infinity", "-Infinity", "infinity", "-infinity"]),
)
def test_marked_values_become_null_and_all_else_stays(values: dict[str, Any], word: str) -> None:
    clean, fields = resolve_inexpressible(row(values, f"{word}\x01"))

    assert clean == row(values, "null")
    assert fields == [name for name, value in values.items() if holds_nan(value)]


def test_numbers_of_any_length_pass() -> None:
    digits = "9" * 10_000

    clean, fields = resolve_inexpressible(f'{{"n":{digits},"f":NaN\x01,"e":1.50e+300}}'.encode())

    assert clean == f'{{"n":{digits},"f":null,"e":1.50e+300}}'.encode()
    assert fields == ["f"]


def test_words_without_the_marker_are_only_text() -> None:
    data = b'{"a":"NaN","b":"-Infinity\\u0001","c":Infinity\x01}'

    assert resolve_inexpressible(data) == (b'{"a":"NaN","b":"-Infinity\\u0001","c":null}', ["c"])


def test_a_row_without_columns_is_an_empty_object() -> None:
    assert row_expression([], 170_000).as_string(None) == "concat('{}')"


def test_constants_between_values_are_written_as_one() -> None:
    text = row_expression([("a", MOOD, -1), ('it\'s "b"', MOOD, -1)], 170_000).as_string(None)

    assert text.count('concat(\'{"a":\', CASE WHEN "a" IS NOT DISTINCT FROM NULL') == 1
    assert text.count(""" E',"it''s \\\\"b\\\\"":', CASE""") == 1


def test_a_column_of_a_built_in_type_is_read_as_that_type_whatever_it_has_become() -> None:
    text = row_expression([("a", INT, -1)], 170_000).as_string(None)

    assert text == (
        """concat('{"a":', "a"::"pg_catalog"."int4","""
        """ CASE WHEN "a"::"pg_catalog"."int4" IS NULL THEN 'null' END, '}')"""
    )


@pytest.mark.parametrize("count", [1, 90, 91, 8_100, 8_101, 20_000])
def test_calls_nest_before_they_take_too_many_arguments(count: int) -> None:
    def concat(*arguments: str) -> str:
        assert len(arguments) <= 90
        return "".join(arguments)

    text = concatenated([sql.SQL(f"'{number},'") for number in range(count)]).as_string(None)

    assert eval(text, {"concat": concat}) == "".join(f"{number}," for number in range(count))


def test_a_long_word_beside_a_marked_value_costs_no_more_than_its_length() -> None:
    """Looked for from each of its letters, this one would take an hour."""
    word = b"canary" * 200_000

    assert resolve_inexpressible(b'{"a":"%b","b":-Infinity\x01}' % word) == (
        b'{"a":"%b","b":null}' % word,
        ["b"],
    )


@pytest.mark.parametrize("data", [b'{"a":canary,"b":NaN\x01}', b'{"a":NaN\x01,"b":' + b"[" * 200_000])
def test_what_is_no_json_is_a_defect_that_does_not_tell_it(data: bytes) -> None:
    with pytest.raises(DefectError, match="sent a value in a form") as caught:
        resolve_inexpressible(data)

    assert caught.value.__context__ is None
