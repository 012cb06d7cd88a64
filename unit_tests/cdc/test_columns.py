"""Renamed columns are found by their places, and where more than one reading is left, none is chosen."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.cdc.columns import Attribute, places


def attributes(*names: str | None) -> list[Attribute]:
    return [Attribute(name) for name in names]


@pytest.mark.parametrize(
    ("told", "today", "positions"),
    [
        ("ab", "ab", {"a": 0, "b": 1}),
        ("ab", "abc", {"a": 0, "b": 1}),
        ("ab", "xb", {"x": 0, "b": 1}),
        ("ab", "ax", {"a": 0, "x": 1}),
        ("ab", "axc", {"a": 0, "x": 1}),
        ("abc", "a-c", {"a": 0, "c": 2}),
        ("abc", "ax-c", {"a": 0, "x": 1, "c": 2}),
        ("abcd", "axyd", {"a": 0, "x": 1, "y": 2, "d": 3}),
        ("ac", "a-cd", {"a": 0, "c": 1}),
        ("ab", "xy", {"x": 0, "y": 1}),
    ],
    ids=str,
)
def test_a_columns_place_tells_its_older_name(told: str, today: str, positions: dict[str, int]) -> None:
    found = places(list(told), attributes(*(None if name == "-" else name for name in today)))

    assert {name: found.positions.get(name) for name in positions} == positions
    assert not set("xyz") & found.positions.keys() - positions.keys()
    assert found.uncertain == frozenset()


@pytest.mark.parametrize(
    ("told", "today", "uncertain"),
    [("ab", "a-x", "x"), ("abcd", "a-x-d", "x"), ("bac", "axb", "x"), ("abc", "a-xy", "xy")],
    ids=str,
)
def test_where_a_column_may_be_new_or_renamed_it_is_left_open(told: str, today: str, uncertain: str) -> None:
    found = places(list(told), attributes(*(None if name == "-" else name for name in today)))

    assert found.uncertain == set(uncertain)
    assert not found.uncertain & found.positions.keys()


def test_a_generated_column_was_not_sent_so_it_is_missing() -> None:
    today = [Attribute("a"), Attribute("g", generated=True), Attribute("b")]

    assert places(["a", "b"], today).positions == {"a": 0, "b": 1}


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[str], list[str | None], dict[str, int]]:
    """What a message lists, the places after some ALTER TABLEs, and where today's columns truly were."""
    count = draw(st.integers(1, 5))
    slots: list[str | None] = [f"c{number}" for number in range(count)]
    for index in draw(st.sets(st.integers(0, count - 1), max_size=2)):
        slots[index] = None
    told = [name for name in slots if name is not None]
    truth = {name: told.index(name) for name in told}
    for number, (act, at) in enumerate(
        draw(st.lists(st.tuples(st.sampled_from("adr"), st.integers(0, 9)), max_size=6))
    ):
        alive = [index for index, name in enumerate(slots) if name is not None]
        if act == "a":
            slots.append(f"new{number}")
        elif alive:
            index = alive[at % len(alive)]
            place = truth.pop(str(slots[index]), None)
            slots[index] = None if act == "d" else f"renamed{number}"
            if act == "r" and place is not None:
                truth[f"renamed{number}"] = place
    return told, slots, truth


@given(histories())
def test_no_column_is_ever_taken_for_another(
    history: tuple[list[str], Sequence[str | None], dict[str, int]],
) -> None:
    told, today, truth = history

    found = places(told, attributes(*today))

    for name in filter(None, today):
        if name not in found.uncertain:
            assert found.positions.get(name) == truth.get(name), name
