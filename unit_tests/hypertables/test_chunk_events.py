"""What is told of chunks from two looks at them, whatever is remembered of the first."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from source_timescaledb.hypertables.chunk_events import chunk_events, remembered
from source_timescaledb.hypertables.chunk_memory import ChunkMemory
from source_timescaledb.hypertables.model import SCATTERED, Chunk, ChunkStatus, QualifiedName, Span

TABLE = 7
EVERY_SIDE = (Span(0, 100), Span(100, 200))


def chunk(id_: int, lower: int, upper: int, *sides: Span, compressed: bool = False) -> Chunk:
    status = ChunkStatus.COMPRESSED if compressed else ChunkStatus.PLAIN
    box = (Span(lower, upper), *sides)
    return Chunk(id_, 1000 + id_, QualifiedName("internal", f"c{id_}"), status, box, None, False, 1, 1)


def without_ids(memory: ChunkMemory) -> ChunkMemory:
    return replace(
        memory,
        hypertables={
            number: tuple(one._replace(id=0) for one in chunks)
            for number, chunks in memory.hypertables.items()
        },
    )


def told(before: list[Chunk], now: list[Chunk], *, ids: bool = True) -> list[tuple[str, int, int]]:
    memory = remembered({TABLE: before})
    if not ids:
        memory = without_ids(memory)
    events = chunk_events(memory, TABLE, now)
    return [(event.fate.value, *event.span) for event in events]


both = pytest.mark.parametrize("ids", [True, False], ids=["by id", "by box"])
A, B, C = chunk(1, 0, 10), chunk(2, 10, 20), chunk(3, 20, 30)


@both
def test_nothing_is_told_where_nothing_changed(ids: bool) -> None:
    assert told([A, B, C], [C, B, A], ids=ids) == []


@both
def test_what_came_and_went_and_changed_its_form_is_told_in_order(ids: bool) -> None:
    pressed = chunk(3, 20, 30, compressed=True)
    before = [A, chunk(2, 10, 20, compressed=True), C]

    assert told(before, [B, pressed, chunk(9, 40, 50), chunk(8, 30, 40, compressed=True)], ids=ids) == [
        ("dropped", 0, 10),
        ("decompressed", 10, 20),
        ("compressed", 20, 30),
        ("born", 30, 40),
        ("compressed", 30, 40),
        ("born", 40, 50),
    ]


def test_a_chunk_that_is_gone_is_named_by_its_id_where_that_is_known() -> None:
    memory = remembered({TABLE: [A, B]})

    assert [event.id for event in chunk_events(memory, TABLE, [B])] == [1]
    assert [event.id for event in chunk_events(without_ids(memory), TABLE, [B])] == [0]


@both
def test_a_chunk_that_was_merged_into_another_was_not_dropped(ids: bool) -> None:
    fates = told([A, B, C], [chunk(1, 0, 20), C], ids=ids)

    assert [fate for fate, *_ in fates if fate == "dropped"] == []


@both
def test_of_a_chunk_that_was_split_only_the_half_that_was_dropped_is_told_so(ids: bool) -> None:
    fates = told([A, B], [chunk(9, 5, 10), B], ids=ids)

    assert fates == [("dropped", 0, 5), ("born", 5, 10)]


@both
def test_a_chunk_in_whose_place_another_was_born_was_dropped_before(ids: bool) -> None:
    again = chunk(9, 0, 10)
    memory = remembered({TABLE: [A, B]})
    events = chunk_events(memory if ids else without_ids(memory), TABLE, [again, B])

    assert [(event.fate.value, event.span, event.heir) for event in events] == [
        ("dropped", Span(0, 10), 9),
        ("born", Span(0, 10), 0),
    ]


@both
def test_chunks_of_one_time_are_told_apart_by_their_other_dimensions(ids: bool) -> None:
    before = [chunk(number, 0, 10, side) for number, side in enumerate(EVERY_SIDE, start=1)]

    assert told(before, before[1:], ids=ids) == [("dropped", 0, 10)]


def test_a_dimension_that_was_added_drops_nothing() -> None:
    after = [chunk(one.id, *one.span, Span(-(2**63), 2**63 - 1)) for one in (A, B)]

    assert told([A, B], after) == []
    assert [fate for fate, *_ in told([A, B], after, ids=False) if fate == "dropped"] == []


@both
def test_what_was_moved_to_tiered_storage_was_not_dropped(ids: bool) -> None:
    tiered = chunk(4, 0, 10)._replace(tiered=True)
    nowhere = chunk(4, *SCATTERED)._replace(tiered=True)

    assert told([A, B, C, nowhere], [C, tiered], ids=ids) == [("dropped", 10, 20)]
    assert told([A, B, C], [C, nowhere], ids=ids) == []


def test_of_a_hypertable_without_room_in_the_memory_only_births_are_told() -> None:
    memory = ChunkMemory(2, {}, complete=False)

    events = chunk_events(memory, TABLE, [B, chunk(3, 20, 30, compressed=True)])

    assert [(event.fate.value, event.id) for event in events] == [("born", 3), ("compressed", 3)]


def test_a_hypertable_that_is_not_in_a_complete_memory_is_new_with_all_its_chunks() -> None:
    assert [event.id for event in chunk_events(ChunkMemory(9, {}), TABLE, [A, B])] == [1, 2]


days = st.lists(st.integers(0, 30), unique=True, max_size=12)


@settings(deadline=None)
@given(before=days, now=days, by_id=st.booleans())
def test_a_mirror_that_heeds_every_event_has_the_chunks_that_there_are(
    before: list[int],
    now: list[int],
    by_id: bool,
) -> None:
    def look(numbers: list[int], first_id: int) -> list[Chunk]:
        return [chunk(first_id + number, number * 10, number * 10 + 10) for number in sorted(numbers)]

    kept = [one for one in look(before, 1) if one.span.lower // 10 in now and one.span.lower % 20 == 0]
    new = [one for one in look(now, 100) if one.span not in {other.span for other in kept}]
    mirror = {(number * 10, number * 10 + 10) for number in before}

    for fate, lower, upper in told(look(before, 1), [*kept, *new], ids=by_id):
        if fate == "dropped":
            mirror.remove((lower, upper))
        else:
            assert (lower, upper) not in mirror
            mirror.add((lower, upper))

    assert mirror == {tuple(one.span) for one in (*kept, *new)}
