"""What has changed in a database since somebody last knew it: told by a few numbers that only ever grow.

A registry of thousands of tables cannot be kept in a state. It need not be: PostgreSQL and TimescaleDB number what they
make and use no number twice. A hypertable, or the one behind a continuous aggregate, is new if its id is greater than the
greatest known (`_timescaledb_catalog.hypertable_id_seq`), and a column if its number in its table is
(`pg_attribute.attnum`, which a dropped column keeps). Only the interval by which chunks are cut is a value of its own.

What is told here changes nothing that a running sync reads; each piece of news says what its reader may want to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final, NamedTuple

from source_timescaledb.hypertables.model import QualifiedName, Relation, RelationKind, TimeKind

_SELECT_IT: Final = "Refresh the source schema in the connection to select it."


class Mark(NamedTuple):
    """What is known of one relation."""

    column: int
    """The greatest number of a column that the role may read."""
    interval: int | None
    """The range of time of a new chunk, in internal units; None where it has no chunks."""


@dataclass(frozen=True, slots=True)
class Landmarks:
    """What is known of a database."""

    hypertable: int
    """The greatest id of a hypertable, continuous aggregates counted by the one that holds their rows."""
    marks: Mapping[int, Mark]
    """By the oid of the relation."""


class Change(Enum):
    """What has happened to a relation."""

    NEW_HYPERTABLE = "a new hypertable"
    NEW_AGGREGATE = "a new continuous aggregate"
    NEW_COLUMNS = "new columns"
    OTHER_INTERVAL = "another chunk interval"


@dataclass(frozen=True, slots=True)
class News:
    """One thing that has changed, in words."""

    change: Change
    name: QualifiedName
    sentence: str


def mark(relation: Relation) -> Mark:
    """What is known of a relation once it has been read."""
    interval = relation.hypertable.time.interval if relation.hypertable is not None else None
    return Mark(max((column.number for column in relation.columns), default=0), interval)


def landmarks(relations: Iterable[Relation]) -> Landmarks:
    """What is known of a database once its relations have been read."""
    known = list(relations)
    return Landmarks(
        max(map(_hypertable, known), default=0), {relation.oid: mark(relation) for relation in known}
    )


def news(before: Landmarks, relations: Iterable[Relation]) -> list[News]:
    """What has changed since, in the order of the relations; of a relation that has no mark only that it is new."""
    found: list[News] = []
    for relation in relations:
        known = before.marks.get(relation.oid)
        if known is not None:
            found += _changes(known, relation)
        elif _hypertable(relation) > before.hypertable:
            found.append(_new(relation))
    return found


def _hypertable(relation: Relation) -> int:
    """The id of the hypertable that holds its rows, whoever may read that; 0 where none does."""
    hypertable = relation.aggregate.materialization if relation.aggregate is not None else relation.hypertable
    return 0 if hypertable is None else hypertable.id


def _new(relation: Relation) -> News:
    aggregate = relation.kind is RelationKind.CONTINUOUS_AGGREGATE
    change = Change.NEW_AGGREGATE if aggregate else Change.NEW_HYPERTABLE
    return News(change, relation.name, f"{relation.name} is {change.value}. {_SELECT_IT}")


def _changes(known: Mark, relation: Relation) -> Iterator[News]:
    columns = [column.name for column in relation.columns if column.number > known.column > 0]
    if columns:
        yield News(
            Change.NEW_COLUMNS,
            relation.name,
            f"{relation.name} has new columns, which are not read before they are selected: {', '.join(columns)}. "
            "Refresh the source schema in the connection to select them.",
        )
    hypertable = relation.hypertable
    if hypertable is None or None in (known.interval, hypertable.time.interval):
        return
    if known.interval != hypertable.time.interval:
        was, now = (
            _length(hypertable.time.time, each) for each in (known.interval, hypertable.time.interval)
        )
        yield News(
            Change.OTHER_INTERVAL,
            relation.name,
            f"New chunks of {relation.name} now span {now}, where they spanned {was}. Nothing has to be done.",
        )


def _length(time: TimeKind | None, interval: int | None) -> str:
    assert interval is not None
    if time is TimeKind.INTEGER:
        return str(interval)
    return str(timedelta(microseconds=interval)).removesuffix(", 0:00:00")
