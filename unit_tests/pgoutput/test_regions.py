from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.errors import FailureType
from source_timescaledb.pgoutput.regions import Markers, UnbalancedMarkers

C_START = "::timescaledb-compression-start"
C_END = "::timescaledb-compression-end"
D_START = "::timescaledb-decompression-start"
D_END = "::timescaledb-decompression-end"
PAIRS = {C_START: C_END, D_START: D_END}


def nested(inner: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[str]]:
    bracketed = st.builds(lambda start, body: [start, *body, PAIRS[start]], st.sampled_from([*PAIRS]), inner)
    return bracketed | st.builds(lambda first, second: first + second, inner, inner)


BALANCED: st.SearchStrategy[list[str]] = st.recursive(st.just([]), nested)


def test_a_new_transaction_is_outside() -> None:
    assert not Markers().inside


@pytest.mark.parametrize("start", PAIRS)
def test_rows_between_two_markers_are_inside(start: str) -> None:
    markers = Markers()

    inside = [(markers.see(prefix), markers.inside) for prefix in (start, PAIRS[start])]

    assert inside == [(True, True), (True, False)]
    markers.finish()


def test_a_full_recompression_is_one_region() -> None:
    markers = Markers()

    inside = [(markers.see(prefix), markers.inside)[1] for prefix in (C_START, D_START, D_END, C_END)]

    assert inside == [True, True, True, False]


@pytest.mark.parametrize(
    "prefix", ["", "mine", "::timescaledb", "::timescaledb-compression", C_START + " ", C_START.upper()]
)
def test_other_messages_are_no_markers(prefix: str) -> None:
    markers = Markers()

    assert not markers.see(prefix)
    assert not markers.inside


@given(prefixes=BALANCED)
def test_a_row_is_inside_exactly_while_a_bracket_is_open(prefixes: list[str]) -> None:
    markers = Markers()
    depth = 0

    for prefix in prefixes:
        markers.see(prefix)
        depth += 1 if prefix in PAIRS else -1
        assert markers.inside == (depth > 0)

    markers.finish()


@pytest.mark.parametrize("before", [[], [C_START, C_END], [D_START]])
def test_an_end_without_a_start_is_refused(before: list[str]) -> None:
    markers = Markers()
    for prefix in before:
        markers.see(prefix)

    with pytest.raises(UnbalancedMarkers, match="did not begin") as caught:
        markers.see(C_END)

    assert caught.value.failure_type is FailureType.SYSTEM


def test_the_end_of_a_decompression_that_did_not_begin_closes_nothing() -> None:
    """TimescaleDB writes one where a DELETE of a whole batch comes too late."""
    markers = Markers()

    for prefix, inside in ((D_END, False), (D_START, True), (D_END, False), (C_START, True), (D_END, True)):
        assert markers.see(prefix)
        assert markers.inside == inside

    markers.see(C_END)
    markers.finish()


@pytest.mark.parametrize(
    "before", [[C_START], [D_START], [C_START, D_START, D_END], [C_START, C_START, C_END]]
)
def test_a_transaction_that_ends_inside_is_refused(before: list[str]) -> None:
    markers = Markers()
    for prefix in before:
        markers.see(prefix)

    with pytest.raises(UnbalancedMarkers, match="ends within a region"):
        markers.finish()
