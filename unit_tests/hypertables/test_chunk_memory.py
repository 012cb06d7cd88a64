"""All chunks are remembered in little room; where there are too many, as much as there is room for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from source_timescaledb.hypertables.chunk_memory import (
    MOST_BYTES,
    ChunkMemory,
    RememberedChunk,
    pack,
    unpack,
)
from source_timescaledb.hypertables.model import OPEN_ABOVE, OPEN_BELOW, Span

DAY = 86_400_000_000

spans = st.builds(
    lambda lower, width: Span(lower, lower + width),
    st.integers(OPEN_BELOW, OPEN_ABOVE - 1),
    st.integers(1, 2**40),
)


@st.composite
def memories(draw: st.DrawFn) -> ChunkMemory:
    def chunks(dimensions: int) -> st.SearchStrategy[tuple[RememberedChunk, ...]]:
        chunk = st.builds(
            RememberedChunk, st.tuples(*[spans] * dimensions), st.booleans(), st.integers(0, 2**31 - 1)
        )
        return st.lists(chunk, max_size=5).map(lambda some: tuple(sorted(some)))

    hypertables = st.dictionaries(st.integers(1, 2**31 - 1), st.integers(1, 3).flatmap(chunks), max_size=4)
    return ChunkMemory(draw(st.integers(0, 2**31 - 1)), draw(hypertables), complete=draw(st.booleans()))


def rule(ids: list[int]) -> tuple[RememberedChunk, ...]:
    """Daily chunks, of which the last fourteen are not compressed."""
    return tuple(
        RememberedChunk((Span(day * DAY, (day + 1) * DAY),), day < len(ids) - 14, id_)
        for day, id_ in enumerate(ids)
    )


def drawn_at_random(hypertables: int, chunks: int) -> ChunkMemory:
    """Hypertables of one rule whose chunks drew their ids in no order."""
    ids = list(range(1, hypertables * chunks + 1))
    random.Random(7).shuffle(ids)
    return ChunkMemory(
        len(ids),
        {number: rule(sorted(ids[number * chunks : (number + 1) * chunks])) for number in range(hypertables)},
    )


@settings(deadline=None)
@given(memories())
def test_what_fits_is_remembered_as_it_was(memory: ChunkMemory) -> None:
    packed = pack(memory)

    assert unpack(packed.content) == memory
    assert packed.complete is memory.complete


def test_fifty_thousand_chunks_of_one_rule_are_remembered_whole_in_some_hundred_bytes() -> None:
    memory = ChunkMemory(50_000, {1: rule(list(range(1, 50_001)))})

    packed = pack(memory)

    assert len(packed.content) < 300
    assert unpack(packed.content) == memory


def test_where_ids_are_too_many_chunks_are_remembered_by_their_boxes() -> None:
    memory = drawn_at_random(hypertables=50, chunks=1000)

    packed = pack(memory)

    assert packed.complete
    assert len(packed.content) <= MOST_BYTES
    kept = unpack(packed.content)
    assert kept.hypertables == {
        number: tuple(chunk._replace(id=0) for chunk in chunks)
        for number, chunks in memory.hypertables.items()
    }


def test_where_there_is_no_rule_the_largest_hypertables_are_left_out() -> None:
    dice = random.Random(7)
    memory = ChunkMemory(
        80_000,
        {
            number: tuple(
                chunk._replace(compressed=dice.random() < 0.5) for chunk in rule(list(range(1, size)))
            )
            for number, size in enumerate((38_000, 50, 36_000, 100, 20), start=1)
        },
    )

    packed = pack(memory)

    assert not packed.complete
    assert len(packed.content) <= MOST_BYTES
    kept = unpack(packed.content)
    assert (kept.last, set(kept.hypertables)) == (80_000, {2, 4, 5})
    assert not kept.complete


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x00", pack(ChunkMemory(3)).content[:-2]])
def test_what_was_not_packed_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="memory of chunks"):
        unpack(content)
