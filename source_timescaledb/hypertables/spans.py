"""Arithmetic of ranges: what is left of one without others, and many as few."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from source_timescaledb.hypertables.model import OPEN_ABOVE, Span


def subtract(span: Span, finished: Iterable[Span]) -> list[Span]:
    """What is left of a span after taking the finished ranges out, in order."""
    left, lower = [], span.lower
    for done in sorted(finished):
        if done.lower > lower:
            left.append(Span(lower, min(done.lower, span.upper)))
        lower = max(lower, done.upper)
    if lower < span.upper:
        left.append(Span(lower, span.upper))
    return [piece for piece in left if not piece.empty]


def subtract_all(spans: Iterable[Span], finished: Iterable[Span]) -> list[Span]:
    """What is left of several spans, in order."""
    taken = list(finished)
    return [piece for span in unite(spans) for piece in subtract(span, taken)]


def common(span: Span, spans: Sequence[Span]) -> list[Span]:
    """What a span has in common with others that are in order and do not overlap, in order."""
    pieces = []
    for other in spans[max(0, bisect_right(spans, (span.lower, OPEN_ABOVE)) - 1) :]:
        if other.lower >= span.upper:
            break
        pieces.append(span.meet(other))
    return [piece for piece in pieces if not piece.empty]


def width(spans: Iterable[Span]) -> int:
    """How much spans cover that do not overlap."""
    return sum(span.upper - span.lower for span in spans)


def unite(spans: Iterable[Span]) -> list[Span]:
    """The same points in as few ranges as possible, in order."""
    united: list[Span] = []
    for span in sorted(spans):
        if united and span.lower <= united[-1].upper:
            united[-1] = Span(united[-1].lower, max(united[-1].upper, span.upper))
        else:
            united.append(span)
    return united


def close_gaps(spans: Sequence[Span], most: int) -> list[Span]:
    """Spans in order with the smallest gaps between them closed, until there are no more than so many."""
    gaps = sorted(range(1, len(spans)), key=lambda number: spans[number].lower - spans[number - 1].upper)
    closed = set(gaps[: max(0, len(spans) - most)])
    merged: list[Span] = []
    for number, span in enumerate(spans):
        if number in closed:
            merged[-1] = Span(merged[-1].lower, span.upper)
        else:
            merged.append(span)
    return merged
