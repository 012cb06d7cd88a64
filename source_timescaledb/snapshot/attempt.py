"""Reading one slice, as often as it takes.

What a failure means is decided by its class, and where that is not enough, by the catalog:

- the chunk changed underneath, or somebody holds it: it is read again, with what the catalog says of it now;
- the chunk is gone: only the catalog can say so, because 42P01 also comes from a compressed relation that a
  decompression dropped between look-up and lock; then there is nothing left to read. Where nothing could be locked, a
  chunk can go while it is read, and the second fingerprint finds none (42704, `chunk_status`);
- the connection failed: the seat is left, and the next try opens another;
- anything else is raised as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Final

import psycopg

from source_timescaledb.counters import StreamCounters
from source_timescaledb.errors import (
    ConfigurationError,
    ConnectorError,
    ContentionError,
    TornReadError,
)
from source_timescaledb.hypertables.model import Chunk, QualifiedName, ServerVersion
from source_timescaledb.hypertables.registry import check_columns, read_chunk
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.postgres.pool import ReaderPool
from source_timescaledb.postgres.retry import Patience
from source_timescaledb.postgres.silence import Line
from source_timescaledb.snapshot.held import HeldRows, LineFormat
from source_timescaledb.snapshot.query import Selection
from source_timescaledb.snapshot.slice_reader import (
    Limits,
    RowTooLarge,
    SliceChanged,
    SliceRead,
    SliceReader,
)
from source_timescaledb.snapshot.slices import ChunkSlice, Slice, TieredSlice, WholeSlice

MAY_BE_GONE: Final = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedObject,
)
"""Errors after which the catalog is asked what became of a chunk."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What the readers of one stream are told."""

    selection: Selection
    extension: ServerVersion | None
    line_format: Callable[[], LineFormat]
    fetch_rows: int
    readers: int
    patience: Callable[[Callable[[float], None]], Patience]
    """A fresh patience for one slice, given how to sleep."""
    counters: StreamCounters
    accepts: Callable[[str], bool] = lambda _snapshot: True
    """Whether a slice may have been read in such a snapshot (`pg_current_snapshot()`); if not it is read again."""
    tell_aside: Callable[[ConnectorError], None] = lambda _refusal: None
    """Told when a reader stands aside because the server has no connection for it."""


class Seat:
    """One reader's connection: borrowed when it is first needed, given back when it has failed."""

    def __init__(self, pool: ReaderPool) -> None:
        self._pool = pool
        self._borrowed = ExitStack()
        self.connection: Connection | None = None

    def take(self) -> Connection:
        """The connection, opened if there is none. Raises ConnectorError."""
        if self.connection is None or self.connection.closed:
            self.leave()
            self.connection = self._borrowed.enter_context(self._pool.connection(watched=False))
        return self.connection

    def watched(
        self, connection: Connection, seconds: float | None = None
    ) -> AbstractContextManager[Line | None]:
        """Give the connection up if its server is gone while the block waits for it (`ReaderPool.watched`)."""
        return self._pool.watched(connection, seconds)

    def leave(self) -> None:
        """Give the connection back."""
        self.connection = None
        self._borrowed.close()

    def interrupt(self) -> None:
        """Ask the server to end what the connection is doing; from another thread."""
        connection = self.connection
        if connection is not None and not connection.closed:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=2)


class Attempt:
    """Reading one slice, as often as it takes; `slice` has its chunk as the catalog has it by now."""

    def __init__(
        self,
        orders: Orders,
        slice_: Slice,
        seat: Seat,
        clock: Callable[[], float],
        overflow: Callable[[HeldRows], None],
    ) -> None:
        self._orders = orders
        self.slice = slice_
        self._seat = seat
        self._counters = orders.counters
        self._clock = clock
        self._overflow = overflow
        self._released = False

    def read(self, deadline: float, rows_at_once: int) -> SliceRead:
        """Try once. Raises TransientError for what is worth another try, SliceOverran, and the rest as it comes."""
        connection = self._seat.take()
        try:
            return self._read_over(connection, deadline, rows_at_once)
        except (SliceChanged, *MAY_BE_GONE) as event:
            if self._released:
                raise self._torn() from None
            if isinstance(event, SliceChanged) and not isinstance(self.slice, ChunkSlice):
                raise _rewritten(self._orders.selection.relation.name) from None
            if not isinstance(self.slice, ChunkSlice):
                raise
            return self._look_again(connection, self.slice, event)
        except RowTooLarge as error:
            relation = self._orders.selection.relation
            raise ConfigurationError(
                f"A row of {relation.name} is larger than {error.limit // 2**20} MiB as JSON, more than Airbyte takes. "
                f"Its key is in: {', '.join(relation.key) or 'no column'}.",
                remedy="Deselect the stream's large columns, or shorten the value in the database.",
            ) from None
        except psycopg.OperationalError:
            self._counters.retried += 1
            self._seat.leave()
            if self._released:
                raise self._torn() from None
            raise

    def _read_over(self, connection: Connection, deadline: float, rows_at_once: int) -> SliceRead:
        query = self._orders.selection.slice_query(self.slice, self._orders.extension)
        limits = Limits(deadline if self.slice.narrower_exists else None, rows_at_once)
        reader = SliceReader(connection, self._clock)
        with self._seat.watched(connection, limits.seconds):
            release = self._release if isinstance(self.slice, (WholeSlice, TieredSlice)) else None
            read = reader.read(query, self._orders.line_format(), limits, release)
        if read.snapshot and not self._orders.accepts(read.snapshot):
            read.rows.close()
            raise self._too_early()
        return read

    def _release(self, rows: HeldRows) -> None:
        self._released = True
        self._overflow(rows)

    def _look_again(self, connection: Connection, slice_: ChunkSlice, event: Exception) -> SliceRead:
        """Ask the catalog what became of a chunk that could not be read."""
        selection, extension = self._orders.selection, self._orders.extension
        assert selection.relation.hypertable is not None
        assert extension is not None
        with self._seat.watched(connection):
            chunk = read_chunk(connection, extension, selection.relation.hypertable, slice_.chunk.oid)
            if chunk is None:
                self._counters.gone += 1
                return SliceRead(HeldRows(self._orders.line_format()), 0.0, "")
            check_columns(connection, selection.relation, selection.columns)
        self._counters.changed += 1
        self.slice = replace(slice_, chunk=chunk)
        raise _contended(chunk, event)

    def _too_early(self) -> ConnectorError:
        """Rows were skipped in the stream for this slice to hold them, and it does not yet."""
        self._counters.changed += 1
        if self._released:
            return self._torn()
        return ContentionError(
            f"A slice of {self._orders.selection.relation.name} was read before transactions that the stream has shown "
            "already were visible, which synchronous replication delays.",
            remedy="It is read again in a moment.",
        )

    def _torn(self) -> TornReadError:
        return TornReadError(
            f"The connection was lost while {self._orders.selection.relation.name} was read in one query, with a part of "
            "its rows already emitted.",
            remedy="The next sync reads it again from the start.",
        )


def _rewritten(name: QualifiedName) -> ContentionError:
    return ContentionError(
        f"{name} is being rewritten by another session.", remedy="It is read again in a moment."
    )


def _contended(chunk: Chunk, event: Exception) -> ContentionError:
    if isinstance(event, psycopg.errors.LockNotAvailable):
        what = "is locked by another session (compression, retention or DDL)"
    else:
        what = "is being rewritten by another session (compression, decompression or DDL)"
    return ContentionError(f"Chunk {chunk.name} {what}.", remedy="It is read again in a moment.")
