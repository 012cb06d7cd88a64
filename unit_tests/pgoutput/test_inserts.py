from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.encoder import encode, value
from source_timescaledb.errors import DefectError
from source_timescaledb.pgoutput import inserts
from source_timescaledb.pgoutput.decoder import MalformedMessage, decode
from source_timescaledb.pgoutput.inserts import row_writer, run_writer
from source_timescaledb.pgoutput.messages import (
    UNCHANGED,
    Column,
    Insert,
    Relation,
    ReplicaIdentity,
    TupleData,
)
from source_timescaledb.pgoutput.rows import Field, write_row
from source_timescaledb.types.definition import Verbatim
from unit_tests.pgoutput.strategies import TEXTS, UNSIGNED


def hexadecimal(text: bytes) -> bytes:
    return json.dumps(text.hex()).encode()


RENDERS = st.sampled_from([*Verbatim, hexadecimal])
TEXT_ROWS = st.lists(TEXTS, max_size=8).map(tuple)
NULLABLE_ROWS = st.lists(TEXTS | st.none(), max_size=8).map(tuple)
NULL_AND_N_ROWS = st.lists(st.none() | st.sampled_from([b"n", b"nn", b"an", b"t", b""]), max_size=12).map(
    tuple
)
ANY_ROWS: st.SearchStrategy[TupleData] = TEXT_ROWS | NULLABLE_ROWS | NULL_AND_N_ROWS


def relation(count: int, oid: int = 1) -> Relation:
    columns = tuple(Column(f"c{number}", False, 25, -1) for number in range(count))
    return Relation(oid, "_timescaledb_internal", "_hyper_1_1_chunk", ReplicaIdentity.DEFAULT, columns)


def shown(positions: Sequence[int | None]) -> list[Field]:
    """Fields named by number that take turns in how they are rendered."""
    turns = (Verbatim.QUOTED, Verbatim.BARE, hexadecimal)
    return [
        Field(position, f'"f{index}"'.encode(), turns[index % 3]) for index, position in enumerate(positions)
    ]


@st.composite
def fields_of(draw: st.DrawFn, count: int) -> list[Field]:
    """Fields that show some of so many columns, in any order, some twice, and some that there are not."""
    positions = st.none() | st.integers(0, count - 1) if count else st.none()
    names = draw(st.lists(st.text(), max_size=count + 3, unique=True))
    return [Field(draw(positions), json.dumps(name).encode(), draw(RENDERS)) for name in names]


@given(row=ANY_ROWS, oid=UNSIGNED, data=st.data())
@settings(max_examples=400)
def test_a_row_is_written_as_the_decoder_reads_it(row: TupleData, oid: int, data: st.DataObject) -> None:
    fields = data.draw(fields_of(len(row)))
    payload = encode(Insert(oid, row))

    written = row_writer(relation(len(row), oid), fields)(payload)

    message = decode(payload)
    assert isinstance(message, Insert)
    assert written == write_row(fields, message.new)


@given(row=ANY_ROWS, data=st.data())
def test_every_column_may_be_shown(row: TupleData, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(row))))
    fields = shown(order)

    assert row_writer(relation(len(row)), fields)(encode(Insert(1, row))) == write_row(fields, row)


@given(
    count=st.integers(0, 3),
    rest=st.lists(st.sampled_from([b"t", b"n", b"u", b"b", b"\0", b"\1"]), max_size=24),
)
@settings(max_examples=400)
def test_it_writes_nothing_that_the_decoder_would_not_read(count: int, rest: list[bytes]) -> None:
    payload = b"I\0\0\0\1N" + count.to_bytes(2, "big") + b"".join(rest)
    fields = shown(range(count))

    written = row_writer(relation(count), fields)(payload)

    if written is not None:
        message = decode(payload)
        assert isinstance(message, Insert)
        assert written == write_row(fields, message.new)


@given(row=ANY_ROWS, data=st.data())
def test_it_declines_a_part_of_a_message(row: TupleData, data: st.DataObject) -> None:
    payload = encode(Insert(1, row))
    length = data.draw(st.integers(0, len(payload) - 1))

    assert row_writer(relation(len(row)), shown(range(len(row))))(payload[:length]) is None


@given(row=ANY_ROWS, more=st.binary(min_size=1))
def test_it_declines_a_message_that_goes_on(row: TupleData, more: bytes) -> None:
    assert row_writer(relation(len(row)), shown(range(len(row))))(encode(Insert(1, row)) + more) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"I",
        encode(Insert(2, (b"1", b"2"))),
        encode(Insert(1, (b"1",))),
        encode(Insert(1, (b"1", b"2", b"3"))),
        encode(Insert(1, (b"1", UNCHANGED))),
        encode(Insert(1, (UNCHANGED, b"2"))),
        encode(Insert(1, (b"1", b"2"))).replace(b"I", b"D", 1),
        encode(Insert(1, (b"1", b"2"))).replace(b"N", b"K", 1),
        b"I\0\0\0\1N\0\2b\0\0\0\0011t\0\0\0\0012",
        b"I\0\0\0\1N\0\2t\0\0\0\2ab" + b"t\xff\xff\xff\xffab",
        b"I\0\0\0\1N\0\2t\0\0\0\3abt\0\0\0\1c",
        b"I\0\0\0\1N\0\2t\0\0\0\1abt\0\0\0\1c",
        b"I\0\0\0\1N\0\2t\0\0\0\1at\0\0\0\1" + b"n" * 70_000,
    ],
)
def test_it_declines_what_is_no_insert_of_its_relation(payload: bytes) -> None:
    assert row_writer(relation(2), shown([0, 1]))(payload) is None


@pytest.mark.parametrize("length", [0, 1, 0x74, 0x7400, 0x7474, 4095, 4096, 65_535, 65_536, 0x740000])
@pytest.mark.parametrize("ends", [b"", b"t", b"n", b"\0", b"t\0\0", b"t\0\0\0\0"])
def test_values_of_any_length_are_written(length: int, ends: bytes) -> None:
    row = (b"a" * length + ends, b"nt", b"x" * length)
    fields = shown([2, 0, 1])

    assert row_writer(relation(3), fields)(encode(Insert(1, row))) == write_row(fields, row)


@pytest.mark.parametrize(
    "row",
    [
        (b"xt\0\0\0\1y", None),
        (b"xt\0\0\0\1y", None, b"z", None),
        (b"", b"t\0\0\0\0", None),
        (b"t\0\0\0\0" * 2, None, None),
    ],
)
def test_a_value_that_looks_like_two_is_one(row: TupleData) -> None:
    fields = shown(range(len(row)))

    assert row_writer(relation(len(row)), fields)(encode(Insert(1, row))) == write_row(fields, row)


def test_texts_of_every_short_length_are_found_without_walking() -> None:
    find = inserts._texts(1).fullmatch

    assert all(find(value(b"x" * length)) for length in (*range(4096), 65_535))
    assert not find(value(b"x" * 65_536))


def test_renderers_see_no_value_of_a_damaged_message() -> None:
    def watchful(text: bytes) -> bytes:
        assert text == b"whole"
        return text

    writer = row_writer(relation(1), [Field(0, b'"a"', watchful)])
    payload = encode(Insert(1, (b"whole",)))

    assert writer(payload) == b'{"a":whole'
    assert writer(payload[:-1]) is None


def test_what_a_renderer_raises_passes_through() -> None:
    def failing(_: bytes) -> bytes:
        raise LookupError

    with pytest.raises(LookupError):
        row_writer(relation(1), [Field(0, b'"a"', failing)])(encode(Insert(1, (b"1",))))


@pytest.mark.parametrize("row", [(b"1",) * 1600, (b"1", None) * 800])
def test_sixteen_hundred_columns_are_written(row: TupleData) -> None:
    fields = shown(range(1600))

    assert row_writer(relation(1600), fields)(encode(Insert(1, row))) == write_row(fields, row)


@pytest.mark.parametrize("name", ["'", '"', "\\", "{}%b", "列\n", "'+exit()+'", "\0", "\u2028"])
def test_no_name_becomes_code(name: str) -> None:
    fields = [Field(0, json.dumps(name, ensure_ascii=False).encode(), Verbatim.BARE)]
    writer = row_writer(relation(1), fields)

    for text in (b"1", None):
        written = writer(encode(Insert(1, (text,))))
        assert written is not None
        assert json.loads(written + b"}") == {name: text and 1}


def test_a_row_of_nothing_is_the_brace_alone() -> None:
    assert row_writer(relation(0), [])(encode(Insert(1, ()))) == b"{"
    assert row_writer(relation(2), [])(encode(Insert(1, (b"1", None)))) == b"{"


def test_relations_alike_in_all_but_their_oid_are_kept_apart() -> None:
    fields = shown([0])
    first, second = row_writer(relation(1, oid=1), fields), row_writer(relation(1, oid=2), fields)
    payload = encode(Insert(2, (b"1",)))

    assert first(payload) is None
    assert second(payload) == b'{"f0":"1"'


@pytest.mark.parametrize("position", [-1, 1, 2])
def test_a_field_shows_a_column_that_is_there(position: int) -> None:
    with pytest.raises(DefectError, match="does not have"):
        row_writer(relation(1), shown([position]))


def test_two_fields_have_two_names() -> None:
    with pytest.raises(DefectError, match="same name"):
        row_writer(relation(1), [Field(0, b'"a"', Verbatim.BARE), Field(None, b'"a"', Verbatim.BARE)])


def framed(payload: bytes, lsn: int) -> bytes:
    """A message as it comes: in XLogData. The time has bytes that look like a text's."""
    return b"w" + lsn.to_bytes(8, "big") + lsn.to_bytes(8, "big") + b"\0wIt\0\0\0\1" + payload


def lines_of(
    rows: Sequence[TupleData], fields: Sequence[Field], lsns: Sequence[int], now: int
) -> list[bytes]:
    """The lines, written row by row."""
    lines = []
    for row, lsn in zip(rows, lsns, strict=True):
        now = max(now + 1, lsn)
        lines.append(b"<" + write_row(fields, row) + b"|" + str(now).encode() + b">")
    return lines


@given(count=st.integers(0, 4), now=st.integers(0, 2**63), data=st.data())
@settings(max_examples=400)
def test_the_rows_of_a_run_are_written_as_each_by_itself(count: int, now: int, data: st.DataObject) -> None:
    texts = TEXTS | st.none() | st.sampled_from([b"w", b"n", b"t", b"nw", b"", b"x" * 70_000])
    rows = data.draw(
        st.lists(st.lists(texts, min_size=count, max_size=count).map(tuple), min_size=1, max_size=6)
    )
    lsns = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=len(rows), max_size=len(rows)))
    fields = data.draw(fields_of(count))
    run = [framed(encode(Insert(1, row)), lsn) for row, lsn in zip(rows, lsns, strict=True)]

    lines, then = run_writer(relation(count), fields)(run, now, b"<", b"|", b">")

    assert lines == lines_of(rows, fields, lsns, now)
    assert then == int(lines[-1].rpartition(b"|")[2][:-1])


@given(
    damaged=st.lists(st.sampled_from([b"t", b"n", b"u", b"b", b"\0", b"\1", b"w", b"I"]), max_size=24),
    place=st.integers(0, 2),
)
@settings(max_examples=400)
def test_a_damaged_message_of_a_run_is_told_as_the_decoder_tells_it(damaged: list[bytes], place: int) -> None:
    payload = b"I\0\0\0\1N\0\2" + b"".join(damaged)
    fields = shown(range(2))
    row: TupleData = (b"1", b"2")
    run = [framed(encode(Insert(1, row)), 0) for _ in range(3)]
    run[place] = framed(payload, 0)
    try:
        message = decode(payload)
    except MalformedMessage:
        with pytest.raises(MalformedMessage):
            run_writer(relation(2), fields)(run, 0, b"<", b"|", b">")
        return
    assert isinstance(message, Insert)
    rows = [row] * 3
    rows[place] = message.new
    if UNCHANGED in message.new:
        with pytest.raises(DefectError):
            run_writer(relation(2), fields)(run, 0, b"<", b"|", b">")
        return

    lines, _ = run_writer(relation(2), fields)(run, 0, b"<", b"|", b">")

    assert lines == lines_of(rows, fields, [0, 0, 0], 0)


def test_a_run_of_rows_that_hold_no_null_is_found_at_once() -> None:
    rows = [(b"1", b"two w"), (b"", b"wI"), (b"3", b"")]
    run = b"\0".join(framed(encode(Insert(1, row)), 7) for row in rows)

    assert inserts._rows(2).findall(run) == rows
