"""Reads one slice in one short transaction, and proves that what it read was right.

The whole transaction is one message to the server, and the order of its statements is the proof.

1. `LOCK TABLE ONLY chunk IN ACCESS SHARE MODE` comes before the first query, so the transaction's snapshot is taken
   while nobody can be rewriting the chunk: with a snapshot taken first, a decompression that commits in between
   leaves the chunk empty for us without an error (upstream issue #6842). The wait is short; who holds the chunk goes
   first.
2. The fingerprint compares the snapshot's catalog with the live one. TimescaleDB plans a query from the live status
   of a chunk and reads it with our snapshot, so the two must agree, before the rows and after them. Nothing stands
   between the three, not even a round trip.
3. The rows come as the server makes them, a few at a time: neither side ever holds more than those. The server gives
   up what would outlive the deadline; we give up what grows too large.
4. Where there is no fingerprint to compare, one statement reads everything, at READ COMMITTED: its snapshot is taken
   when it has its locks. At REPEATABLE READ it would be taken before it waits for them, and what a rewrite that ends
   meanwhile leaves (ALTER TABLE, TRUNCATE, REFRESH) is empty for it; of views and foreign tables nothing can be locked
   before.
5. A changed fingerprint throws the rows away. They were held, not printed.
6. Of a relation whose changes are followed, the log is on disk as far as the snapshot has seen, before this returns
   (`postgres.durability`). How far that is, the first query of the transaction asks, and one behind it what is on disk.

(2.29.2: two readers with these statements against two sessions compressing, decompressing and recompressing the same
chunk without pause: 868 confirmed reads, none wrong.)

A cursor would cost more: the server copies each row that FETCH returns into a tuplestore first (measured against it:
15 % of its processor time for ten columns, 50 % and half of the wall time for texts of a megabyte), and a chunk of ten
rows takes one round trip instead of four (1.5 ms instead of 2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.pq.abc import PGresult

from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.postgres.durability import FLUSHED, WRITTEN, is_durable, make_durable
from source_timescaledb.postgres.streaming import break_off, stream
from source_timescaledb.snapshot.held import HeldRows, LineFormat
from source_timescaledb.snapshot.pace import MOST_BYTES
from source_timescaledb.snapshot.query import Fingerprint, SliceQuery, relation_name

LARGEST_ROW: Final = 50 * 1024 * 1024
LOCK_SECONDS: Final = 0.25
LOCK_SHARE: Final = 0.15
"""Waiting for a lock may take so much of the deadline besides; the deadline leaves room for it below the limit."""
LATE_SHARE: Final = 0.95
"""A query cancelled after so much of its deadline was cancelled by the deadline."""
MOST_HELD: Final = 256 * 1024 * 1024
"""Past this the rows of one unbounded query go out as they come, instead of filling the disk."""

Connection = psycopg.Connection[tuple[Any, ...]]
Fields = tuple["bytes | None", ...]


class SliceChanged(Exception):  # noqa: N818 - an event of the read, not a failure of it
    """The chunk was rewritten, compressed or decompressed while it was read: read it again."""


class SliceOverran(Exception):  # noqa: N818 - as above
    """The slice ran into its time or size limit and was thrown away: cut it."""

    def __init__(self, *, by_time: bool) -> None:
        super().__init__("time" if by_time else "size")
        self.by_time = by_time


class RowTooLarge(Exception):  # noqa: N818 - the caller says which table and what to do
    """A row is larger than a destination takes."""

    limit = LARGEST_ROW


@dataclass(frozen=True, slots=True)
class Limits:
    """What one slice may take."""

    seconds: float | None
    """How long its transaction may last; None for a slice that cannot be cut, which takes what it takes."""
    rows_at_once: int
    """How many rows are taken from the server at once."""


@dataclass(frozen=True, slots=True)
class SliceRead:
    """A slice that was read and proved right."""

    rows: HeldRows
    seconds: float
    snapshot: str
    """`pg_current_snapshot()` of the transaction, empty where no fingerprint was taken."""


@dataclass(frozen=True, slots=True)
class _Before:
    """The fingerprint taken before the rows."""

    live: Fields
    snapshot: str

    @classmethod
    def consistent(cls, fields: Fields, known: Fingerprint) -> _Before:
        """A fingerprint whose snapshot and live values agree, of the file and the compressed relation that we know.

        Otherwise the chunk is changing right now, or has changed since we looked: raises SliceChanged.
        """
        file, status, compressed_oid, compressed_file, *live, snapshot = fields
        if [file, status, compressed_file] != live or status is None:
            raise SliceChanged
        if compressed_oid != _number(known.compressed) or (known.file and file != _number(known.file)):
            raise SliceChanged
        assert snapshot is not None
        return cls(tuple(live), snapshot.decode())


class _Part(Enum):
    """What a statement of a slice's transaction is for."""

    FRAME = auto()
    BEFORE = auto()
    ROWS = auto()
    AFTER = auto()
    WRITTEN = auto()
    FLUSHED = auto()


class SliceReader:
    """Reads slices over one connection; not thread-safe. `clock` is a monotonic clock in seconds."""

    def __init__(self, connection: Connection, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock
        self._rows: HeldRows

    def read(
        self,
        query: SliceQuery,
        line_format: LineFormat,
        limits: Limits,
        release: Callable[[HeldRows], None] | None,
    ) -> SliceRead:
        """Read one slice; the transaction is over when this returns or raises.

        Rows that outgrow `MOST_HELD` are passed to `release`, where there is one, before the slice is proved. Raises
        SliceChanged, SliceOverran or RowTooLarge, and psycopg errors as they come.
        """
        started = self._clock()
        self._rows = HeldRows(line_format)
        try:
            before = self._converse(query, limits, release)
        except BaseException as error:
            self._rows.close()
            self._abandon()
            if isinstance(error, psycopg.errors.QueryCanceled) and self._is_late(limits, started):
                raise SliceOverran(by_time=True) from error
            raise
        return SliceRead(self._rows, self._clock() - started, before.snapshot if before else "")

    def _converse(
        self, query: SliceQuery, limits: Limits, release: Callable[[HeldRows], None] | None
    ) -> _Before | None:
        """Ask for the whole slice and judge each answer as it comes."""
        before, written, flushed = None, None, None
        for part, result in self._answers(_statements(query, limits), limits.rows_at_once):
            match part:
                case _Part.ROWS:
                    self._hold(result, limits)
                    if release is not None and self._rows.size > MOST_HELD:
                        full, self._rows = self._rows, self._rows.successor()
                        release(full)
                case _Part.BEFORE:
                    assert query.fingerprint is not None
                    before = _Before.consistent(_fields(result), query.fingerprint)
                case _Part.AFTER if before is None or _fields(result) != before.live:
                    raise SliceChanged
                case _Part.WRITTEN:
                    (written,) = _fields(result)
                case _Part.FLUSHED:
                    (flushed,) = _fields(result)
        if not is_durable(written, flushed):
            make_durable(self._connection)
        return before

    def _answers(
        self, statements: Sequence[tuple[_Part, bytes]], rows_at_once: int
    ) -> Iterator[tuple[_Part, PGresult]]:
        """Send statements as one message; the rows of each, a few at a time, as soon as they are there."""
        parts = iter([*(part for part, _ in statements), _Part.FRAME])
        part = next(parts)
        message = b";".join(statement for _, statement in statements)
        for result in stream(self._connection, message, rows_at_once):
            if result.ntuples:
                yield part, result
            else:
                part = next(parts)

    def _hold(self, result: PGresult, limits: Limits) -> None:
        get = result.get_value
        fetched = [get(index, 0) or b"" for index in range(result.ntuples)]
        if max(map(len, fetched)) > LARGEST_ROW:
            raise RowTooLarge
        self._rows.add(fetched)
        if limits.seconds is not None and self._rows.size > MOST_BYTES:
            raise SliceOverran(by_time=False)

    def _is_late(self, limits: Limits, started: float) -> bool:
        return limits.seconds is not None and self._clock() - started >= limits.seconds * LATE_SHARE

    def _abandon(self) -> None:
        """Leave no transaction behind; a connection that cannot even roll back is closed."""
        connection = self._connection
        try:
            if connection.closed:
                return
            break_off(connection)
            connection.execute(b"ROLLBACK")
        except psycopg.Error:
            connection.close()


def _statements(query: SliceQuery, limits: Limits) -> list[tuple[_Part, bytes]]:
    """All of a slice's transaction."""
    isolation = b"READ COMMITTED" if query.fingerprint is None else b"REPEATABLE READ"
    frame = [b"BEGIN ISOLATION LEVEL %b READ ONLY" % isolation]
    patience = LOCK_SECONDS
    if limits.seconds is not None:
        patience = min(patience, limits.seconds * LOCK_SHARE)
        frame.append(b"SET LOCAL statement_timeout = %d" % _milliseconds(limits.seconds))
    if query.tiered is not None:
        frame.append(b"SET LOCAL timescaledb.enable_tiered_reads = %b" % (b"on" if query.tiered else b"off"))
    frame.append(b"SET LOCAL lock_timeout = %d" % _milliseconds(patience))
    statements = [(_Part.FRAME, statement) for statement in (*frame, *map(_lock, query.locks))]
    rows = (_Part.ROWS, query.rows.as_string(None).encode())
    if query.followed:
        statements.append((_Part.WRITTEN, WRITTEN.encode()))
    if query.fingerprint is None:
        statements.append(rows)
    else:
        before, after = query.fingerprint.before.encode(), query.fingerprint.after.encode()
        statements += [(_Part.BEFORE, before), rows, (_Part.AFTER, after)]
    statements.append((_Part.FRAME, b"COMMIT"))
    return [*statements, (_Part.FLUSHED, FLUSHED.encode())] if query.followed else statements


def _fields(result: PGresult) -> Fields:
    """The one row of a result, as text."""
    return tuple(result.get_value(0, column) for column in range(result.nfields))


def _number(value: int | None) -> bytes | None:
    """A number as the server writes it."""
    return None if value is None else b"%d" % value


def _milliseconds(seconds: float) -> int:
    return max(1, min(int(seconds * 1000), 2**31 - 1))


def _lock(name: QualifiedName) -> bytes:
    statement = sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(relation_name(name))
    return statement.as_string(None).encode()
