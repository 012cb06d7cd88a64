"""Which of a relation's columns is which, when the stream tells of rows from before an ALTER TABLE.

A Relation message names the columns as they were; the stream selects them as they are. A column that was renamed must be
found under its old name, one that was added later is null, and nothing tells the two apart but their places: a column
keeps its number (`pg_attribute.attnum`) for life, numbers grow with time, and a dropped column leaves its number behind.
The message lists, in the order of their numbers, all columns that lived then. So a column that lives now, with a number
not above one that the message lists, was there then and is one of the listed. Mostly one reading is left; where several
are, we say so and choose none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb
from typing import Final

_MOST_READINGS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Attribute:
    """A place for a column, in the order of `attnum`."""

    name: str | None
    """None once the column is dropped."""
    generated: bool = False
    """Whether its values are computed; those are not sent unless the publication asks for it (PostgreSQL 18)."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where today's columns stood in a message."""

    positions: Mapping[str, int]
    """By today's names; a column that did not exist is missing."""
    uncertain: frozenset[str] = frozenset()
    """Columns that may have had another name, or may not have been there."""


def places(told: Sequence[str], today: Sequence[Attribute]) -> Places:
    """Find today's columns among those that a message lists, both in the order of their numbers."""
    names = {name: position for position, name in enumerate(told)}
    slots = [one.name for one in today if not one.generated or one.name in names]
    anchors = [slots.index(name) for name in told if name in slots]
    unknown = {name for name in slots if name is not None and name not in names}
    if not unknown or len(anchors) == len(told):
        return Places(names)
    if anchors != sorted(anchors):
        return Places(names, frozenset(unknown))
    positions, uncertain = dict(names), set[str]()
    edges = [(-1, -1), *((names[str(slots[at])], at) for at in anchors), (len(told), len(slots))]
    for (told_before, before), (told_after, after) in pairwise(edges):
        gap = slots[before + 1 : after]
        readings = _readings(told_after - told_before - 1, gap, last=after == len(slots))
        for index, name in enumerate(gap):
            if name is None:
                continue
            found = {reading.get(index) for reading in readings}
            if len(found) != 1:
                uncertain.add(name)
            elif (place := found.pop()) is not None:
                positions[name] = told_before + 1 + place
    return Places(positions, frozenset(uncertain))


def _readings(listed: int, gap: Sequence[str | None], *, last: bool) -> list[Mapping[int, int]]:
    """The ways to give so many listed columns numbers out of a gap; none if there are too many to tell."""
    if comb(len(gap), listed) > _MOST_READINGS:
        return []
    return [
        {index: place for place, index in enumerate(chosen)}
        for chosen in combinations(range(len(gap)), listed)
        if all(
            index in chosen or (last and index > max(chosen, default=-1))
            for index, name in enumerate(gap)
            if name is not None
        )
    ]
