from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.errors import DefectError
from source_timescaledb.pgoutput.messages import UNCHANGED
from source_timescaledb.pgoutput.rows import Field, write_row
from source_timescaledb.types.definition import Rendering, Verbatim
from unit_tests.pgoutput.strategies import STRINGS


def escaped(text: bytes) -> bytes:
    return json.dumps(text.decode()).encode()


def key(name: str) -> bytes:
    return json.dumps(name).encode()


def test_a_row_is_an_object_left_open() -> None:
    fields = [
        Field(1, b'"time"', Verbatim.QUOTED),
        Field(0, b'"n"', Verbatim.BARE),
        Field(None, b'"added later"', Verbatim.QUOTED),
        Field(2, b'"note"', escaped),
        Field(3, b'"gone"', escaped),
    ]

    row = write_row(fields, (b"1.50", b"2026-01-01", b'say "hi"', None))

    assert row == b'{"time":"2026-01-01","n":1.50,"added later":null,"note":"say \\"hi\\"","gone":null'


def test_a_row_without_fields_is_the_brace_alone() -> None:
    assert write_row([], (b"1",)) == b"{"


def test_one_column_may_be_shown_twice() -> None:
    fields = [Field(0, b'"number"', Verbatim.BARE), Field(0, b'"text"', Verbatim.QUOTED)]

    assert write_row(fields, (b"7",)) == b'{"number":7,"text":"7"'


@pytest.mark.parametrize("render", [*Verbatim, escaped])
def test_null_is_null_however_values_are_rendered(render: Rendering) -> None:
    assert write_row([Field(0, b'"a"', render)], (None,)) == b'{"a":null'


def test_a_value_that_was_not_sent_is_never_written() -> None:
    with pytest.raises(DefectError, match="did not send"):
        write_row([Field(0, b'"a"', Verbatim.BARE)], (UNCHANGED,))


def test_an_unwanted_value_need_not_have_been_sent() -> None:
    assert write_row([Field(1, b'"a"', Verbatim.BARE)], (UNCHANGED, b"1")) == b'{"a":1'


@given(row=st.dictionaries(st.text(), STRINGS | st.none()))
def test_a_row_reads_back_in_the_order_of_its_fields(row: dict[str, str | None]) -> None:
    fields = [Field(position, key(name), escaped) for position, name in enumerate(row)]
    values = tuple(None if text is None else text.encode() for text in row.values())

    read = json.loads(write_row(fields, values) + b"}")

    assert list(read.items()) == list(row.items())
