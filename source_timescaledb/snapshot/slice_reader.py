"""Reads one slice in one short transaction, and proves that what it read was right.

The order of the steps is the proof.

1. `LOCK TABLE ONLY chunk IN ACCESS SHARE MODE` comes before the first query, so the transaction's snapshot is taken
   while nobody can be rewriting the chunk: with a snapshot taken first, a decompression that commits in between
   leaves the chunk empty for us without an error (upstream issue #6842). The wait is short; who holds the chunk goes
   first.
2. The fingerprint compares the snapshot's catalog with the live one. TimescaleDB plans a query from the live status
   of a chunk and reads it with our snapshot, so the two must agree, before the rows and after them.
3. The rows come through a server-side cursor a bounded number of bytes at a time; we can stop between two fetches,
   and the server itself stops a fetch that would outlive the deadline.
4. A changed fingerprint throws the rows away. They were held, not printed.

(2.29.2: two readers with this protocol against two sessions compressing, decompressing and recompressing the same
chunk without pause: 868 confirmed reads, none wrong.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.snapshot.held import HeldRows, LineFormat
from source_timescaledb.snapshot.pace import MOST_BYTES
from source_timescaledb.snapshot.query import SliceQuery, relation_name

FETCH_BYTES: Final = 512 * 1024
FIRST_FETCH: Final = 64
LARGEST_ROW: Final = 50 * 1024 * 1024
LOCK_SECONDS: Final = 0.25
MOST_HELD: Final = 256 * 1024 * 1024
"""Past this the rows of one unbounded query go out as they come, instead of filling the disk."""
STALE_TIMEOUT_SHARE: Final = 0.7
"""The server's timeout is lowered when no more than this share of it is left: no fetch outlives the deadline by 30 %."""

Connection = psycopg.Connection[tuple[Any, ...]]


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
    fetch_rows: int


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

    live: tuple[Any, ...]
    snapshot: str

    @classmethod
    def consistent(cls, row: tuple[Any, ...] | None, compressed: int | None) -> _Before:
        """A fingerprint whose snapshot and live values agree, and whose compressed relation is the one we locked.

        Otherwise the chunk is changing right now: raises SliceChanged.
        """
        if row is None:
            raise SliceChanged
        file, status, compressed_oid, compressed_file, *live, snapshot = row
        if [file, status, compressed_file] != live or compressed_oid != compressed or status is None:
            raise SliceChanged
        return cls(tuple(live), snapshot)


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
        release: Callable[[HeldRows], None],
    ) -> SliceRead:
        """Read one slice; the transaction is over when this returns or raises.

        Where nothing is there to prove (no fingerprint) and the rows outgrow `MOST_HELD`, they are passed to `release`
        as they come. Raises SliceChanged, SliceOverran or RowTooLarge, and psycopg errors as they come.
        """
        started = self._clock()
        self._rows = HeldRows(line_format)
        try:
            before = self._begin(query, limits)
            self._fetch_all(limits, started, None if query.fingerprint else release)
            self._prove(query, before)
        except BaseException as error:
            self._rows.close()
            self._abandon()
            if isinstance(error, psycopg.errors.QueryCanceled) and self._is_late(limits, started):
                raise SliceOverran(by_time=True) from error
            raise
        return SliceRead(self._rows, self._clock() - started, before.snapshot if before else "")

    def _begin(self, query: SliceQuery, limits: Limits) -> _Before | None:
        """Everything up to the open cursor, in one round trip."""
        cursor = self._connection.cursor()
        fingerprint = None
        with self._connection.pipeline():
            cursor.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute(f"SET LOCAL lock_timeout = {_milliseconds(LOCK_SECONDS)}".encode())
            if limits.seconds is None:
                cursor.execute(b"SET LOCAL idle_in_transaction_session_timeout = 0")
            else:
                cursor.execute(f"SET LOCAL statement_timeout = {_milliseconds(limits.seconds)}".encode())
            for name in query.locks:
                cursor.execute(_lock(name))
            if query.fingerprint is not None:
                fingerprint = self._connection.execute(query.fingerprint.before.encode())
            cursor.execute(sql.SQL("DECLARE slice NO SCROLL CURSOR FOR {}").format(query.rows))
        if query.fingerprint is None or fingerprint is None:
            return None
        return _Before.consistent(fingerprint.fetchone(), query.fingerprint.compressed)

    def _fetch_all(self, limits: Limits, started: float, release: Callable[[HeldRows], None] | None) -> None:
        wanted = min(FIRST_FETCH, limits.fetch_rows)
        timeout = limits.seconds
        while True:
            timeout = self._lower_timeout(limits, started, timeout)
            fetched = self._fetch(wanted)
            rows = self._rows
            rows.add(fetched)
            if len(fetched) < wanted:
                return
            if limits.seconds is not None and rows.size > MOST_BYTES:
                raise SliceOverran(by_time=False)
            average = max(1, rows.size // rows.rows)
            wanted = max(1, min(limits.fetch_rows, FETCH_BYTES // average, wanted * 16))
            if release is not None and rows.size > MOST_HELD:
                self._rows = rows.successor()
                release(rows)

    def _lower_timeout(self, limits: Limits, started: float, timeout: float | None) -> float | None:
        """Keep the server from working on a fetch past the deadline; the timeout that now holds there."""
        if limits.seconds is None or timeout is None:
            return None
        left = started + limits.seconds - self._clock()
        if left <= 0:
            raise SliceOverran(by_time=True)
        if left >= timeout * STALE_TIMEOUT_SHARE:
            return timeout
        self._run(f"SET LOCAL statement_timeout = {_milliseconds(left)}")
        return left

    def _is_late(self, limits: Limits, started: float) -> bool:
        return limits.seconds is not None and self._clock() - started >= limits.seconds * STALE_TIMEOUT_SHARE

    def _fetch(self, count: int) -> list[bytes]:
        result = self._connection.pgconn.exec_(f"FETCH FORWARD {count} FROM slice".encode())
        if result.status != ExecStatus.TUPLES_OK:
            raise _failure(result)
        get = result.get_value
        fetched = [get(index, 0) or b"" for index in range(result.ntuples)]
        if fetched and max(map(len, fetched)) > LARGEST_ROW:
            raise RowTooLarge
        return fetched

    def _prove(self, query: SliceQuery, before: _Before | None) -> None:
        """The fingerprint again, and the end of the transaction, in one round trip."""
        after = None
        with self._connection.pipeline():
            if query.fingerprint is not None:
                after = self._connection.execute(query.fingerprint.after.encode())
            self._connection.execute(b"COMMIT")
        if after is not None and before is not None and after.fetchone() != before.live:
            raise SliceChanged

    def _run(self, statement: str) -> None:
        result = self._connection.pgconn.exec_(statement.encode())
        if result.status != ExecStatus.COMMAND_OK:
            raise _failure(result)

    def _abandon(self) -> None:
        """Leave no transaction behind; a connection that cannot even roll back is closed."""
        try:
            if not self._connection.closed:
                self._connection.execute(b"ROLLBACK")
        except psycopg.Error:
            self._connection.close()


def _failure(result: PGresult) -> psycopg.Error:
    """What a failed statement amounts to.

    Every error of a server has a SQLSTATE; a result without one was made up by libpq, which lost the connection.
    """
    if result.error_field(DiagnosticField.SQLSTATE) is None:
        return psycopg.OperationalError("the connection was lost")
    return psycopg.errors.error_from_result(result, encoding="utf-8")


def _milliseconds(seconds: float) -> int:
    return max(1, min(int(seconds * 1000), 2**31 - 1))


def _lock(name: QualifiedName) -> sql.Composed:
    return sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(relation_name(name))
