"""Cursor incremental: rows whose cursor value has grown past the last sync's.

A sync reads from where the last one stopped up to the highest value that existed when it *started*. The upper bound
is what makes it right while people write: a row updated behind a reader's back gets a higher value than the bound and
so belongs to the next sync, whichever slice it sits in. The first sync has no lower bound and takes rows without a
cursor value too.

Two rows may share the highest value, and the second may be written after the sync. So the number of rows with that
value is remembered: if there are more of them next time, they are read again, and none is missed. (The rule of
source-postgres too: `cursor_record_count`.) What a cursor cannot see at all, rows written later with a lower value,
needs CDC.

Where the cursor is the time dimension, chunks that end before it are not even looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from source_timescaledb.hypertables import bounds
from source_timescaledb.hypertables.model import EVERYTHING, Chunk, QualifiedName, Relation, Span, TimeKind
from source_timescaledb.snapshot.query import relation_name
from source_timescaledb.state.model import CursorPosition

_HAS_INFINITY: Final = frozenset(("float4", "float8", "numeric", "date", "timestamp", "timestamptz"))
"""Types with values past every real one; such a value would be the last cursor for ever."""

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class CursorRange:
    """What one sync reads by its cursor, and what it will remember."""

    position: CursorPosition
    condition: sql.Composable | None
    """The condition on every row; None if every row is read."""
    window: Span
    """What of time can hold such rows; everything unless the cursor is the time dimension."""


def open_range(
    connection: Connection,
    relation: Relation,
    cursor: str,
    chunks: Sequence[Chunk],
    before: CursorPosition | None,
) -> CursorRange:
    """Settle what this sync reads. `before` is the incoming state's position; one with `upper` is a sync to resume.

    Asks each chunk for its highest value, one short query each, newest first; without `chunks`, and where it is
    guarded, the relation is asked as a whole.
    Raises psycopg errors as they come.
    """
    return _Opening(connection, relation, cursor, chunks).settle(before)


def closed(position: CursorPosition) -> CursorPosition:
    """What to remember when everything up to the upper bound has been read."""
    if position.upper is None:
        return position
    return CursorPosition(field=position.field, value=position.upper, count=position.upper_count)


class _Opening:
    """The questions asked before a cursor read begins."""

    def __init__(
        self, connection: Connection, relation: Relation, cursor: str, chunks: Sequence[Chunk]
    ) -> None:
        self._connection = connection
        self._cursor = cursor
        self._name = sql.Identifier(cursor)
        column = relation.column(cursor)
        self._infinite = column is not None and column.scalar in _HAS_INFINITY
        self._time = _time_kind(relation, cursor)
        self._by_chunk = bool(chunks) and not relation.guarded
        self._relation = relation.whole
        self._chunks = sorted(chunks, key=lambda chunk: (chunk.span.lower, chunk.id), reverse=True)

    def settle(self, before: CursorPosition | None) -> CursorRange:
        known = before is not None and before.field == self._cursor
        position = before if before is not None and known else CursorPosition(field=self._cursor)
        if position.upper is None:
            upper = self._highest(above=position.value)
            position = position.model_copy(update={"upper": upper, "upper_count": self._count(upper)})
        again = position.value is not None and self._count(position.value) > position.count
        return CursorRange(position, self._condition(position, inclusive=again), self._window(position))

    def _highest(self, *, above: str | None) -> str | None:
        """The highest finite value as text, never lower than the last sync's; None if there is none."""
        finite = [sql.SQL("{} IS NOT NULL").format(self._name)]
        if self._infinite:
            finite.append(sql.SQL("{} < 'infinity'").format(self._name))
        highest, found_in = above, None
        for source, span in self._sources():
            if found_in is not None and self._time is not None and span.lower < found_in.lower:
                break
            more = [] if highest is None else [sql.SQL("{} > {}").format(self._name, sql.Literal(highest))]
            value = self._highest_in(source, [*finite, *more])
            if value is not None:
                highest, found_in = value, span
        return highest

    def _sources(self) -> list[tuple[QualifiedName, Span]]:
        if not self._by_chunk:
            return [(self._relation, EVERYTHING)]
        return [(chunk.name, chunk.span) for chunk in self._chunks]

    def _highest_in(self, source: QualifiedName, conditions: Iterable[sql.Composable]) -> str | None:
        query = sql.SQL("SELECT format('%s', {0}) FROM {1} WHERE {2} ORDER BY {0} DESC LIMIT 1").format(
            self._name, relation_name(source), sql.SQL(" AND ").join(list(conditions))
        )
        row = self._ask(query)
        return row[0] if row else None

    def _count(self, value: str | None) -> int:
        """How many rows have exactly this value."""
        if value is None:
            return 0
        at = self._internal(value)
        query = sql.SQL("SELECT count(*) FROM {} WHERE {} = {}")
        rows = [
            self._ask(query.format(relation_name(source), self._name, sql.Literal(value)))
            for source, span in self._sources()
            if at is None or span.lower <= at < span.upper
        ]
        return sum(row[0] for row in rows if row)

    def _condition(self, position: CursorPosition, *, inclusive: bool) -> sql.Composable | None:
        """Which rows belong to this sync; the first one takes those without a finite value too."""
        if position.upper is None:
            return None
        upper = sql.Literal(position.upper)
        if position.value is None:
            first = sql.SQL("({} > {}) IS NOT TRUE").format(self._name, upper)
            if not self._infinite:
                return first
            return sql.SQL("({} OR {} >= 'infinity')").format(first, self._name)
        operator = sql.SQL(">=" if inclusive else ">")
        return sql.SQL("{0} {1} {2} AND {0} <= {3}").format(
            self._name, operator, sql.Literal(position.value), upper
        )

    def _window(self, position: CursorPosition) -> Span:
        """What of time can hold rows of this sync, if the cursor is the time dimension."""
        if self._time is None or position.value is None:
            return EVERYTHING
        lower = self._internal(position.value)
        return EVERYTHING if lower is None else Span(lower, EVERYTHING.upper)

    def _internal(self, value: str) -> int | None:
        """TimescaleDB's integer for a value of the time dimension."""
        if self._time is None:
            return None
        row = self._ask(sql.SQL("SELECT {}").format(bounds.internal(self._time, value)))
        return row[0] if row else None

    def _ask(self, query: sql.Composed) -> tuple[Any, ...] | None:
        """One short query; a chunk dropped since the registry was read has no answer."""
        try:
            return self._connection.execute(query).fetchone()
        except psycopg.errors.UndefinedTable:
            if not self._by_chunk:
                raise
            return None


def _time_kind(relation: Relation, cursor: str) -> TimeKind | None:
    """How to reckon with the cursor's values as times of chunks; None if it is not the time dimension."""
    if relation.hypertable is None or relation.hypertable.time.column != cursor:
        return None
    kind = relation.hypertable.time.time
    return kind if kind in bounds.RECKONABLE else None
