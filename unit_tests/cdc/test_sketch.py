"""A sketch says where two tables differ, however large they are, as long as they differ in few places."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.cdc.sketch import CELLS, LARGEST_ID, QUARTERS, Sketch

NUMBERS = st.dictionaries(
    st.integers(1, LARGEST_ID - 1), st.integers(-(2**50), 2**50).filter(bool), max_size=12
)


def of(numbers: dict[int, int]) -> Sketch:
    return Sketch().changed(numbers)


@given(NUMBERS)
def test_a_few_numbers_are_read_back(numbers: dict[int, int]) -> None:
    assert of(numbers).read() in (numbers, None)


@given(NUMBERS, NUMBERS)
def test_differences_are_read_whatever_both_have_in_common(
    one: dict[int, int], other: dict[int, int]
) -> None:
    common = {chunk: 1000 + chunk for chunk in range(1, 2000)}

    sketch = of(common).changed(one).changed({chunk: -number for chunk, number in common.items()})

    assert sketch.read() == of(one).read()
    assert of(one).changed(other).changed({chunk: -n for chunk, n in one.items()}).text() == of(other).text()


def test_nothing_reads_as_nothing() -> None:
    assert Sketch().read() == {}
    assert of({5: 3}).changed({5: -3}).read() == {}


@pytest.mark.parametrize(("differing", "found"), [(10, 999), (50, 985)])
def test_so_many_chunks_in_a_row_are_found_in_nearly_all_cases(differing: int, found: int) -> None:
    choose = random.Random(1)
    read = 0
    for _ in range(1000):
        first = choose.randrange(1, 10**6)
        numbers = {chunk: choose.randrange(1, 10**6) for chunk in range(first, first + differing)}
        read += of(numbers).read() == numbers

    assert read >= found


@pytest.mark.parametrize(("differing", "found"), [(5, 990), (10, 950), (50, 300)])
def test_chunks_that_differ_by_the_same_number_are_found_or_too_many_and_never_others(
    differing: int, found: int
) -> None:
    choose = random.Random(3)
    read = 0
    for _ in range(1000):
        first = choose.randrange(1, 10**6)
        numbers = dict.fromkeys(range(first, first + differing), 10)
        told = of(numbers).read()
        assert told in (numbers, None)
        read += told == numbers

    assert read >= found


@pytest.mark.parametrize("differing", [85, 500])
def test_too_many_are_none_and_never_others(differing: int) -> None:
    choose = random.Random(2)
    for _ in range(50):
        numbers = {choose.randrange(1, 10**9): choose.randrange(1, 10**6) for _ in range(differing)}

        assert of(numbers).read() is None


def test_its_text_is_the_same_size_whatever_it_holds() -> None:
    sketch = of({chunk: chunk * 7 for chunk in range(1, 50_001)})

    assert len(sketch.text()) == len(Sketch().text()) <= 1880
    assert Sketch.parse(sketch.text()).text() == sketch.text()


@pytest.mark.parametrize("text", ["", "AAAA", "?", Sketch().text()[:-4], "/" * (QUARTERS * CELLS * 64 // 3)])
def test_what_is_no_sketch_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Sketch.parse(text)
