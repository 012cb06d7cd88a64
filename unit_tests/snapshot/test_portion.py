"""How many rows are taken from the server at once."""

from __future__ import annotations

import pytest

from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.snapshot.held import FIRST_PORTION, PIECE_BYTES, HeldRows, LineFormat, Portion

FORMAT = LineFormat(QualifiedName("public", "metrics"), 0)
ENVELOPE = len(FORMAT.lines([b""]))


def rows_of(size: int, count: int = 3) -> HeldRows:
    rows = HeldRows(FORMAT)
    rows.add([b"x" * (size - ENVELOPE)] * count)
    return rows


def test_a_few_rows_are_taken_while_nothing_is_known() -> None:
    assert Portion(1000).rows == FIRST_PORTION


def test_a_portion_of_rows_weighs_a_piece() -> None:
    portion = Portion(1000)

    portion.learn(rows_of(PIECE_BYTES // 200))

    assert portion.rows == pytest.approx(200, abs=1)


def test_a_row_larger_than_a_piece_is_taken_alone() -> None:
    portion = Portion(1000)

    portion.learn(rows_of(20 * PIECE_BYTES))

    assert portion.rows == 1


@pytest.mark.parametrize("most", [1, 7])
def test_no_portion_is_larger_than_configured(most: int) -> None:
    portion = Portion(most)
    before = portion.rows

    portion.learn(rows_of(ENVELOPE + 1))

    assert (before, portion.rows) == (most, most)


def test_a_slice_without_rows_teaches_nothing() -> None:
    portion = Portion(1000)

    portion.learn(rows_of(ENVELOPE, count=0))

    assert portion.rows == FIRST_PORTION
