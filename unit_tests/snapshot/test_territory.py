"""What finished chunks cover is kept in a few spans, and what reaches past it shows."""

from __future__ import annotations

from collections.abc import Iterable

from source_timescaledb.hypertables.model import Chunk, ChunkStatus, QualifiedName, Span
from source_timescaledb.snapshot.territory import MOST_SPANS, Past, Territory


def chunk(*box: tuple[int, int]) -> Chunk:
    spans = tuple(Span(*bounds) for bounds in box)
    return Chunk(1, 1, QualifiedName("s", "c"), ChunkStatus.PLAIN, spans, None, tiered=False, rows=0, pages=0)


def test_neighbours_are_one_span_however_many_they_are() -> None:
    territory = Territory()
    for number in range(5_000):
        territory.add(chunk((number, number + 1)), [Span(number, number + 1)])

    assert territory.bounds == {"": ((0, 5_000),)}


def test_what_reaches_past_it_is_outside() -> None:
    territory = Territory({"": [(100, 200), (300, 400)]})

    assert territory.outside(chunk((100, 200))) == []
    assert territory.outside(chunk((50, 450))) == [Span(50, 100), Span(200, 300), Span(400, 450)]


def test_other_dimensions_are_told_apart() -> None:
    territory = Territory()
    territory.add(chunk((0, 10), (0, 500)), [Span(0, 10)])

    assert territory.outside(chunk((0, 10), (0, 500))) == []
    assert territory.outside(chunk((0, 10), (500, 999))) == [Span(0, 10)]
    assert territory.outside(chunk((0, 10), (0, 999))) == [Span(0, 10)], "merged across space"


def test_the_smallest_gaps_are_closed_where_there_are_too_many() -> None:
    territory = Territory()
    lower = 0
    for number in range(3 * MOST_SPANS):
        lower += 10 + (number % 3)
        territory.add(chunk((lower, lower + 5)), [Span(lower, lower + 5)])

    (spans,) = territory.bounds.values()

    assert len(spans) == MOST_SPANS
    assert (spans[0][0], spans[-1][1]) == (10, lower + 5)
    assert Territory(territory.bounds).outside(chunk((0, lower + 9))) != []


def scattered(numbers: Iterable[int]) -> Territory:
    """Chunks that are five wide, each with a gap of five behind it, as finished ones."""
    territory = Territory()
    for number in numbers:
        territory.add(chunk((10 * number, 10 * number + 5)), [Span(10 * number, 10 * number + 5)])
    return territory


def test_a_chunk_in_a_gap_that_was_closed_is_told_from_one_that_has_what_another_had() -> None:
    many = range(MOST_SPANS + 20)
    kept = Territory(scattered(many).bounds)
    in_a_gap, in_a_place = chunk((55, 60)), chunk((52, 55))

    assert kept.outside(in_a_gap) == [], "the gap was closed"
    assert kept.past(in_a_gap, scattered(many)) is Past.FREE
    fewer = scattered(set(many) - {7})
    assert kept.past(in_a_gap, fewer) is Past.UNCLEAR, "which is gone: the seventh, or what was there?"
    split = scattered(set(many) - {5})
    split.add(chunk((50, 52)), [Span(50, 52)])
    assert kept.past(in_a_place, split) is Past.UNCLEAR
    in_the_last_place = chunk((10 * many[-1], 10 * many[-1] + 5))
    assert kept.past(in_the_last_place, scattered(many[:-1])) is Past.HELD, "no gap was closed there"


def test_the_gaps_of_a_state_that_does_not_tell_of_them_are_none() -> None:
    before = Territory({"": [(100, 200), (300, 400)]})
    now = Territory({"": [(100, 200), (300, 350)]})

    assert before.past(chunk((350, 400)), now) is Past.HELD
    assert before.past(chunk((200, 300)), now) is Past.FREE
