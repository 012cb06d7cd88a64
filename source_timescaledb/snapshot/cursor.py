"""Cursor incremental: rows whose cursor value has grown past the last sync's.

A sync reads from where the last one stopped up to the highest value that existed when it *started*. The upper bound
is what makes it right while people write: a row updated behind a reader's back gets a higher value than the bound and
so belongs to the next sync, whichever slice it sits in. The first sync has no lower bound and takes rows without a
cursor value too. Where no row has a value when it starts, it takes only those, and none that gets one while it reads:
the next sync is the first with a bound.

Two rows may share the highest value, and the second may be written after the sync. So the number of rows with that
value is remembered: if there are more of them next time, they are read again, and none is missed. (The rule of
source-postgres too: `cursor_record_count`.) Infinity and NaN lie past every value: as the last one they would stop
the cursor for ever, so they never become it, and the rows that have them are counted and read again in the same way;
so are those without a value, as long as there is none. Who is writing when the bound is looked up may have lower
values, and is waited for (`postgres.writers`). What a cursor cannot see at all, rows written later with a lower
value, needs CDC.

A value that a crash of the server takes back (`postgres.durability`) is one that the next row may have, which would then
look as if it had been read. So the bound counts only when it is on disk.

The value is kept as text and means nothing without the order of its type. A column may become another type between
two syncs; where "10" no longer follows "9", nobody can say what has grown, and the stream says so.

Where the cursor is the time dimension, chunks that end before it are not even looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql
from typing_extensions import LiteralString

from source_timescaledb.errors import ConfigurationError
from source_timescaledb.hypertables import bounds
from source_timescaledb.hypertables.model import (
    EVERYTHING,
    OPEN_ABOVE,
    Chunk,
    QualifiedName,
    Relation,
    Span,
    TimeKind,
)
from source_timescaledb.postgres.durability import ensure_durable
from source_timescaledb.snapshot.query import relation_name
from source_timescaledb.state.model import CursorPosition

_HAS_INFINITY: Final = frozenset(("float4", "float8", "numeric", "date", "timestamp", "timestamptz"))
"""Types with values past every real one."""

_MOMENTS: Final = frozenset(("date", "timestamp", "timestamptz"))
_NUMBERS: Final = frozenset(("numeric", "float4", "float8"))
_INTEGERS: Final = frozenset(("int2", "int4", "int8", "oid"))
_TEXTS: Final = frozenset(("text", "varchar", "bpchar", "name"))
_SUCCESSORS: Final = (
    (_INTEGERS, _INTEGERS | _NUMBERS),
    (_NUMBERS, _NUMBERS),
    (_TEXTS, _TEXTS),
    (_MOMENTS, _MOMENTS),
    (frozenset(("time", "timetz")), frozenset(("time", "timetz"))),
)
"""Types whose texts the other types read, and order as before."""

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class CursorRange:
    """What one sync reads by its cursor, and what it will remember."""

    position: CursorPosition
    condition: sql.Composable
    """The condition on every row."""
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
    Raises ConfigurationError if the column's type is another than before, and psycopg errors as they come.
    """
    settled = _Opening(connection, relation, cursor, chunks).settle(before)
    with suppress(psycopg.errors.InsufficientPrivilege):  # nobody has to let it write messages to the log
        ensure_durable(connection)
    return settled


def closed(position: CursorPosition) -> CursorPosition:
    """What to remember when everything up to the upper bound has been read."""
    return CursorPosition(
        field=position.field,
        value=position.upper,
        count=position.upper_count,
        endless=position.upper_endless,
        type=position.type,
    )


class _Opening:
    """The questions asked before a cursor read begins."""

    def __init__(
        self, connection: Connection, relation: Relation, cursor: str, chunks: Sequence[Chunk]
    ) -> None:
        self._connection = connection
        self._cursor = cursor
        self._name = sql.Identifier(cursor)
        column = relation.column(cursor)
        self._type = column.scalar if column is not None else ""
        self._infinite = self._type in _HAS_INFINITY
        self._time = _time_kind(relation, cursor)
        self._by_chunk = bool(chunks) and not relation.guarded
        self._relation = relation
        self._chunks = sorted(chunks, key=lambda chunk: (chunk.span.lower, chunk.id), reverse=True)

    def settle(self, before: CursorPosition | None) -> CursorRange:
        known = before is not None and before.field == self._cursor
        position = before if before is not None and known else CursorPosition(field=self._cursor)
        self._check_type(position)
        if position.upper is None:
            upper = self._highest(above=position.value)
            count, endless = self._count(upper)
            position = position.model_copy(
                update={
                    "upper": upper,
                    "upper_count": count,
                    "upper_endless": endless,
                    "type": self._type,
                }
            )
        condition = self._condition(position, again=self._again(position))
        return CursorRange(position, condition, self._window(position))

    def _again(self, position: CursorPosition) -> bool:
        """Whether rows are read that have the last sync's value, or none if it found none: there are more of them now."""
        if position.value is None and position.upper is not None and not position.count:
            return True  # whoever has told none need not count them
        same = position.value == position.upper
        return (position.upper_count if same else self._count(position.value)[0]) > position.count

    def _check_type(self, position: CursorPosition) -> None:
        if not position.type or position.type == self._type:
            return
        if any(position.type in before and self._type in after for before, after in _SUCCESSORS):
            return
        raise ConfigurationError(
            f"The cursor {self._cursor} of stream {self._relation.name} had the type {position.type} when its state was "
            f"written and now has the type {self._type}, with another order: what has grown since cannot be told.",
            remedy="Clear the stream's state (refresh it in Airbyte) to read it again from the start.",
        )

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
            return [(self._relation.whole, EVERYTHING)]
        return [(chunk.name, chunk.span) for chunk in self._chunks]

    def _highest_in(self, source: QualifiedName, conditions: Iterable[sql.Composable]) -> str | None:
        query = sql.SQL("SELECT format('%s', {0}) FROM {1} WHERE {2} ORDER BY {0} DESC LIMIT 1").format(
            self._name, relation_name(source), sql.SQL(" AND ").join(list(conditions))
        )
        row = self._ask(query)
        return row[0] if row else None

    def _count(self, value: str | None) -> tuple[int, int]:
        """How many rows have exactly this value, or none, and how many one past every value."""
        at = None if value is None else self._internal(value)
        sought = self._without_value if value is None else self._compared("=", value)
        query = sql.SQL("SELECT count(*), 0 FROM {source} WHERE {sought}")
        if self._infinite:
            query = sql.SQL(
                "SELECT count(*) FILTER (WHERE {sought}), count(*) FILTER (WHERE {endless}) "
                "FROM {source} WHERE {sought} OR {endless}"
            )
        rows = [
            self._ask(query.format(source=relation_name(source), sought=sought, endless=self._endless))
            for source, span in self._sources()
            if at is None or span.upper == OPEN_ABOVE or span.lower <= at < span.upper
        ]
        return sum(row[0] for row in rows if row), sum(row[1] for row in rows if row)

    def _condition(self, position: CursorPosition, *, again: bool) -> sql.Composable:
        """Which rows belong to this sync."""
        kinds: list[sql.Composable] = []
        if position.upper is not None:
            kinds.append(self._grown(position.value, position.upper, inclusive=again))
        if position.value is None and again:
            kinds.append(self._without_value)
        if self._infinite and position.upper_endless > position.endless:
            kinds.append(self._endless)
        return sql.SQL("({})").format(sql.SQL(" OR ").join(kinds)) if kinds else sql.SQL("false")

    def _grown(self, value: str | None, upper: str, *, inclusive: bool) -> sql.Composable:
        """The rows above the last sync's value, or from it on, up to the bound."""
        below = self._compared("<=", upper)
        if value is None:
            return below
        return sql.SQL("{} AND {}").format(self._compared(">=" if inclusive else ">", value), below)

    def _compared(self, operator: LiteralString, value: str) -> sql.Composable:
        return sql.SQL("{} {} {}").format(self._name, sql.SQL(operator), sql.Literal(value))

    @property
    def _without_value(self) -> sql.Composable:
        return sql.SQL("{} IS NULL").format(self._name)

    @property
    def _endless(self) -> sql.Composable:
        return self._compared(">=", "infinity")

    def _window(self, position: CursorPosition) -> Span:
        """What of time can hold rows of this sync, if the cursor is the time dimension."""
        if self._time is None or position.value is None:
            return EVERYTHING
        lower = self._internal(position.value)
        return EVERYTHING if lower is None else Span(min(lower, OPEN_ABOVE - 1), OPEN_ABOVE)

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
