"""Where in time rows in tiered storage are looked for, and how those ranges are handed out."""

from __future__ import annotations

from itertools import pairwise

from source_timescaledb.hypertables.model import (
    EVERYTHING,
    OPEN_ABOVE,
    OPEN_BELOW,
    SCATTERED,
    Chunk,
    ChunkStatus,
    QualifiedName,
    Span,
)
from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.snapshot.slices import TieredSlice
from source_timescaledb.snapshot.tiered import MOST_RANGES, TieredPlan, tiered_spans

NAME = QualifiedName("s", "c")


def chunk(lower: int, upper: int, *, tiered: bool = False) -> Chunk:
    return Chunk(1, 1, NAME, ChunkStatus.PLAIN, (Span(lower, upper),), None, tiered=tiered, rows=0, pages=0)


TIER = chunk(*SCATTERED, tiered=True)


def test_a_tier_in_one_range_is_asked_for_that_range() -> None:
    tier = chunk(0, 100, tiered=True)

    assert tiered_spans(tier, [chunk(100, 200)], EVERYTHING, apart=False) == [Span(0, 100)]
    assert tiered_spans(tier, [chunk(100, 200)], Span(50, OPEN_ABOVE), apart=False) == [Span(50, 100)]
    assert tiered_spans(tier, [chunk(100, 200)], Span(100, OPEN_ABOVE), apart=False) == []


def test_a_scattered_tier_is_asked_for_what_no_other_chunk_covers() -> None:
    others = [chunk(30, 40), chunk(10, 20), chunk(20, 30), chunk(50, 60)]

    assert tiered_spans(TIER, others, EVERYTHING, apart=True) == [
        Span(OPEN_BELOW, 10),
        Span(40, 50),
        Span(60, OPEN_ABOVE),
    ]
    assert tiered_spans(TIER, others, Span(15, 45), apart=True) == [Span(40, 45)]


def test_a_tier_without_other_chunks_is_asked_for_everything() -> None:
    assert tiered_spans(TIER, [], EVERYTHING, apart=False) == [EVERYTHING]


def test_many_ranges_are_joined_where_they_are_closest_unless_they_must_stay_apart() -> None:
    others = [chunk(10 * number, 10 * number + (1 if number % 2 else 5)) for number in range(2 * MOST_RANGES)]

    joined = tiered_spans(TIER, others, EVERYTHING, apart=False)

    assert len(joined) == MOST_RANGES
    assert all(lower.upper < upper.lower for lower, upper in pairwise(joined))
    apart = tiered_spans(TIER, others, EVERYTHING, apart=True)
    assert len(apart) == 2 * MOST_RANGES + 1
    assert all(any(whole.meet(part) == part for whole in joined) for part in apart)


def test_a_plan_hands_out_each_range_until_it_is_confirmed() -> None:
    first, second = TieredSlice(TIER, None, "a"), TieredSlice(TIER, "b", None)
    plan = TieredPlan([first, second], Pace(limit=1))

    assert plan.take(lambda *_: None) == first
    plan.give_back(first)
    assert [plan.take(lambda *_: None) for _ in range(3)] == [first, second, None]
    assert not plan.exhausted
    assert not plan.confirm(second)
    assert plan.confirm(first)
    assert plan.exhausted
