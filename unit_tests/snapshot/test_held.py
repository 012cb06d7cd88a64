"""Rows between being read and being confirmed."""

from __future__ import annotations

import orjson
import pytest

from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.snapshot.held import IN_MEMORY, PIECE_BYTES, HeldRows, LineFormat

FORMAT = LineFormat(QualifiedName('my "schema"', "m"), 1_700_000_000_000)


def lines(held: HeldRows) -> list[bytes]:
    return b"".join(held.pieces()).splitlines()


def test_a_line_is_a_record_message_around_the_row_as_it_came() -> None:
    held = HeldRows(FORMAT)

    held.add([b'{"v":1.50}'])

    (line,) = lines(held)
    assert line.endswith(b'"data":{"v":1.50}}}')
    assert orjson.loads(line) == {
        "type": "RECORD",
        "record": {
            "stream": "m",
            "namespace": 'my "schema"',
            "emitted_at": 1_700_000_000_000,
            "data": {"v": 1.5},
        },
    }


def test_rows_keep_their_order_and_number() -> None:
    held = HeldRows(FORMAT)

    for start in range(0, 5000, 1000):
        held.add([b'{"v":%d}' % number for number in range(start, start + 1000)])

    assert held.rows == 5000
    assert [orjson.loads(line)["record"]["data"]["v"] for line in lines(held)] == list(range(5000))


def test_a_marked_value_becomes_null_with_a_reason_and_its_neighbours_stay() -> None:
    held = HeldRows(FORMAT)

    held.add([b'{"v":1}', b'{"v":NaN\x01,"w":[1,null\x01]}', b'{"v":3}'])

    first, second, third = (orjson.loads(line)["record"] for line in lines(held))
    assert "meta" not in first
    assert "meta" not in third
    assert second["data"] == {"v": None, "w": [1, None]}
    assert second["meta"]["changes"] == [
        {"field": "v", "change": "NULLED", "reason": "SOURCE_SERIALIZATION_ERROR"},
        {"field": "w", "change": "NULLED", "reason": "SOURCE_SERIALIZATION_ERROR"},
    ]


def test_pieces_are_whole_lines_of_about_sixty_four_kibibytes() -> None:
    held = HeldRows(FORMAT)

    held.add([b'{"v":"%s"}' % (b"x" * 200)] * 5000)

    pieces = list(held.pieces())
    assert all(piece.endswith(b"}}\n") for piece in pieces)
    assert max(map(len, pieces)) < 2 * PIECE_BYTES


def test_what_does_not_fit_in_memory_waits_in_a_file_and_comes_back_whole() -> None:
    held = HeldRows(FORMAT)
    row = b'{"v":"%s"}' % (b"x" * 100_000)

    for _ in range(2 * IN_MEMORY // len(row)):
        held.add([row])

    assert held.in_memory <= IN_MEMORY < held.size
    pieces = list(held.pieces())
    assert sum(map(len, pieces)) == held.size
    assert sum(piece.count(b"\n") for piece in pieces) == held.rows
    assert all(piece.endswith(b"}}\n") for piece in pieces)
    held.close()


def test_no_rows_are_no_lines() -> None:
    held = HeldRows(FORMAT)

    held.add([])

    assert lines(held) == []
    assert held.rows == 0


def test_a_closed_holder_has_given_its_file_back() -> None:
    held = HeldRows(FORMAT)
    for _ in range(3):
        held.add([b'{"v":"%s"}' % (b"x" * IN_MEMORY)])

    held.close()

    with pytest.raises(ValueError, match="closed"):
        list(held.pieces())
