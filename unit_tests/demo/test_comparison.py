from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from typing import Any

import pytest

from demo.comparison import Difference, difference, reader_of, value_reader
from demo.errors import DemoError

INTEGER = {"type": ["null", "number"], "airbyte_type": "integer"}
NUMBER = {"type": ["null", "number"]}
TEXT = {"type": ["null", "string"]}
INSTANT = {"type": ["null", "string"], "format": "date-time", "airbyte_type": "timestamp_with_timezone"}


def test_equal_rows_in_another_order_do_not_differ() -> None:
    printed = Counter([(1, "a"), (2, "b")])

    found = difference(printed, [(2, "b"), (1, "a")])

    assert not found


@pytest.mark.parametrize(
    ("printed", "stored", "expected"),
    [
        ([], [(1,)], Difference(missing=1, invented=0)),
        ([(1,), (1,)], [(1,)], Difference(missing=0, invented=1)),
        ([(1,)], [(1,), (1,)], Difference(missing=1, invented=0)),
        ([(1, None)], [(1, 0)], Difference(missing=1, invented=1)),
        ([(1.5,)], [(1.25,)], Difference(missing=1, invented=1)),
    ],
)
def test_every_kind_of_difference_is_counted(
    printed: list[tuple[Any, ...]], stored: list[tuple[Any, ...]], expected: Difference
) -> None:
    found = difference(Counter(printed), stored)

    assert found == expected
    assert found


def test_a_record_is_read_as_its_schema_says() -> None:
    read = reader_of({"at": INSTANT, "flight": INTEGER, "temp": NUMBER, "tail": TEXT, "gone": NUMBER})

    row = read({"tail": "N14228", "at": "2013-01-01T10:00:00.000000Z", "temp": 39, "flight": 7, "gone": None})

    assert row == (datetime(2013, 1, 1, 10, tzinfo=timezone.utc), 7, 39.0, "N14228", None)


@pytest.mark.parametrize("data", [{"flight": 7}, {"flight": 7, "tail": "N1", "more": None}])
def test_a_record_without_exactly_the_columns_equals_no_row(data: dict[str, Any]) -> None:
    read = reader_of({"flight": INTEGER, "tail": TEXT})

    assert read(data) not in {(7, None), (7, "N1"), (7, "N1", None)}


@pytest.mark.parametrize("value", [1.0, True])
def test_what_merely_equals_an_integer_is_none(value: Any) -> None:
    read = reader_of({"flight": INTEGER})

    assert read({"flight": value}) != (1,)


def test_a_column_of_a_type_that_the_demo_does_not_have_is_refused() -> None:
    with pytest.raises(DemoError, match="the column seen a type"):
        value_reader("seen", {"type": ["null", "string"], "format": "date"})
