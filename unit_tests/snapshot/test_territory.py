"""What finished chunks cover is kept in a few spans, and what reaches past it shows."""

from __future__ import annotations

from source_timescaledb.hypertables.model import Chunk, ChunkStatus, QualifiedName, Span
from source_timescaledb.snapshot.territory import MOST_SPANS, Territory


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
