"""The readers of one stream: threads that take slices from a plan, read them, and hand the rows to the one writer.

    plan --take--> reader threads --rows, confirmed by fingerprint--> queue --> writer --written--> plan.confirm

The plan is guarded by one lock; only the writer confirms, after the rows are out, so progress never runs ahead of the
output. A slice that fails goes back into the plan and is cut anew. What a failure means is decided by its class:

- the slice ran into a limit: it is cut smaller;
- the chunk changed underneath, or somebody holds it: it is read again, with what the catalog says of it now;
- the chunk is gone: only the catalog can say so, because 42P01 also comes from a compressed relation that a
  decompression dropped between look-up and lock; then there is nothing left to read;
- the connection or the server failed: again, with jitter, inside a budget that starts over with every success;
- anything else ends the stream, with the error as its reason.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

import psycopg
from typing_extensions import Self

from source_timescaledb.errors import ConfigurationError, ContentionError, TornReadError
from source_timescaledb.hypertables.model import Chunk, ServerVersion
from source_timescaledb.hypertables.registry import read_chunk
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.postgres.pool import ReaderPool
from source_timescaledb.postgres.retry import Patience
from source_timescaledb.snapshot.byte_queue import ByteQueue, Closed
from source_timescaledb.snapshot.held import HeldRows, LineFormat
from source_timescaledb.snapshot.pace import SliceCost
from source_timescaledb.snapshot.plan import Plan
from source_timescaledb.snapshot.query import Selection, boundary_query
from source_timescaledb.snapshot.slice_reader import (
    Limits,
    RowTooLarge,
    SliceChanged,
    SliceOverran,
    SliceRead,
    SliceReader,
)
from source_timescaledb.snapshot.slices import ChunkSlice, Slice
from source_timescaledb.state.model import Key

QUEUE_BYTES: Final = 16 * 1024 * 1024
ITEM_OVERHEAD: Final = 1024
_IDLE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class FinishedSlice:
    """A slice whose rows are right and wait to be written."""

    slice: Slice
    rows: HeldRows


@dataclass(frozen=True, slots=True)
class Overflow:
    """Rows of an indivisible slice that has grown past what may be held: written before the slice is finished."""

    rows: HeldRows


@dataclass(frozen=True, slots=True)
class Failure:
    """A reader has given up."""

    error: BaseException


Result = FinishedSlice | Overflow


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


@dataclass(slots=True)
class Counters:
    """What happened on the way; for the log and the summary."""

    slices: int = 0
    overran: int = 0
    changed: int = 0
    retried: int = 0
    gone: int = 0
    longest_seconds: float = 0.0

    def add(self, other: Counters) -> None:
        """Take another crew's counts in."""
        self.slices += other.slices
        self.overran += other.overran
        self.changed += other.changed
        self.retried += other.retried
        self.gone += other.gone
        self.longest_seconds = max(self.longest_seconds, other.longest_seconds)


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
            self.connection = self._borrowed.enter_context(self._pool.connection())
        return self.connection

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


class Crew:
    """Runs the readers of one plan; used by one writer thread. Use it as a context manager: leaving stops the readers.

    `pool` must hold at least as many connections as there are readers. `clock` is monotonic, in seconds.
    """

    def __init__(self, plan: Plan, orders: Orders, pool: ReaderPool, clock: Callable[[], float]) -> None:
        self._plan = plan
        self._orders = orders
        self._clock = clock
        self._queue: ByteQueue[Result | Failure] = ByteQueue(QUEUE_BYTES)
        self._turn = threading.Condition()
        self._stopping = threading.Event()
        self._seats = [Seat(pool) for _ in range(orders.readers)]
        self._threads = [
            threading.Thread(target=self._work, args=(seat,), name=f"reader-{number}", daemon=True)
            for number, seat in enumerate(self._seats, start=1)
        ]
        self.counters = Counters()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for item in self._queue.close():
            if not isinstance(item, Failure):
                item.rows.close()
        with self._turn:
            self._turn.notify_all()
        for seat in self._seats:
            seat.interrupt()
        for thread in self._threads:
            thread.join(timeout=5)

    def results(self, stop: Callable[[], bool]) -> Iterator[Result]:
        """What the readers bring, until the plan is exhausted or `stop` says so.

        The caller writes the rows, closes them and confirms the slice before it asks for more.
        Raises what made a reader give up.
        """
        while not stop():
            with self._turn:
                if self._plan.exhausted:
                    return
            item = self._queue.get(_IDLE_SECONDS)
            if isinstance(item, Failure):
                raise item.error
            if item is not None:
                yield item

    def confirm(self, slice_: Slice) -> bool:
        """Count a written slice as finished; True if that finished a chunk, or the relation."""
        with self._turn:
            finished = self._plan.confirm(slice_)
            self._turn.notify_all()
            return finished

    def _work(self, seat: Seat) -> None:
        try:
            while (slice_ := self._next(seat)) is not None:
                self._read(slice_, seat)
        except Closed:
            pass
        except BaseException as error:  # noqa: BLE001 - the writer raises it, where the user sees it
            with suppress(Closed):
                self._queue.put(Failure(error), 0)
        finally:
            seat.leave()

    def _next(self, seat: Seat) -> Slice | None:
        """The next slice, waiting while others may still give one back; None when there is none left."""
        name = self._orders.selection.relation.name
        while not self._stopping.is_set():
            slice_, exhausted = self._patience().keep_trying(
                lambda: self._take(seat), f"Looking for the next rows of {name}"
            )
            if slice_ is not None or exhausted:
                return slice_
        return None

    def _take(self, seat: Seat) -> tuple[Slice | None, bool]:
        def boundary(lower: Key | None, upper: Key | None, rows: int) -> Key | None:
            query = boundary_query(self._orders.selection.relation, lower, upper, rows)
            row = seat.take().execute(query).fetchone()
            return tuple(row) if row else None

        with self._turn:
            slice_ = self._plan.take(boundary)
            if slice_ is None and not self._plan.exhausted:
                self._turn.wait(_IDLE_SECONDS)
            return slice_, self._plan.exhausted

    def _read(self, slice_: Slice, seat: Seat) -> None:
        """Read a slice and hand it over, or give it back to be cut smaller."""
        attempt = _Attempt(self._orders, slice_, seat, self.counters, self._clock, self._overflow)
        name = self._orders.selection.relation.name
        try:
            read = self._patience().keep_trying(
                lambda: attempt.read(self._plan.pace.deadline), f"Reading {name}"
            )
        except SliceOverran as overrun:
            with self._turn:
                self.counters.overran += 1
                self._plan.pace.overran(slice_.width, by_time=overrun.by_time)
                self._plan.give_back(slice_)
                self._turn.notify_all()
            return
        self._hand_over(slice_, read)

    def _hand_over(self, slice_: Slice, read: SliceRead) -> None:
        with self._turn:
            self._plan.pace.finished(SliceCost(slice_.width, read.rows.size, read.seconds))
            self.counters.slices += 1
            self.counters.longest_seconds = max(self.counters.longest_seconds, read.seconds)
        self._queue.put(FinishedSlice(slice_, read.rows), read.rows.in_memory + ITEM_OVERHEAD)

    def _overflow(self, rows: HeldRows) -> None:
        self._queue.put(Overflow(rows), rows.in_memory)

    def _patience(self) -> Patience:
        return self._orders.patience(self._sleep)

    def _sleep(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise Closed


class _Attempt:
    """Reading one slice, as often as it takes; knows what the catalog says of its chunk by now."""

    def __init__(
        self,
        orders: Orders,
        slice_: Slice,
        seat: Seat,
        counters: Counters,
        clock: Callable[[], float],
        overflow: Callable[[HeldRows], None],
    ) -> None:
        self._orders = orders
        self._slice = slice_
        self._seat = seat
        self._counters = counters
        self._clock = clock
        self._overflow = overflow
        self._released = False

    def read(self, deadline: float) -> SliceRead:
        """Try once. Raises TransientError for what is worth another try, SliceOverran, and the rest as it comes."""
        connection = self._seat.take()
        try:
            return self._read_over(connection, deadline)
        except (SliceChanged, psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedTable) as event:
            if not isinstance(self._slice, ChunkSlice):
                raise
            return self._look_again(connection, self._slice, event)
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

    def _read_over(self, connection: Connection, deadline: float) -> SliceRead:
        query = self._orders.selection.slice_query(self._slice, self._orders.extension)
        limits = Limits(
            seconds=deadline if self._slice.narrower_exists else None, fetch_rows=self._orders.fetch_rows
        )
        reader = SliceReader(connection, self._clock)
        return reader.read(query, self._orders.line_format(), limits, self._release)

    def _release(self, rows: HeldRows) -> None:
        self._released = True
        self._overflow(rows)

    def _look_again(self, connection: Connection, slice_: ChunkSlice, event: Exception) -> SliceRead:
        """Ask the catalog what became of a chunk that could not be read."""
        selection, extension = self._orders.selection, self._orders.extension
        assert selection.relation.hypertable is not None
        assert extension is not None
        chunk = read_chunk(connection, extension, selection.relation.hypertable, slice_.chunk.oid)
        if chunk is None:
            self._counters.gone += 1
            return SliceRead(HeldRows(self._orders.line_format()), 0.0, "")
        self._counters.changed += 1
        self._slice = ChunkSlice(chunk, slice_.span)
        raise _contended(chunk, event)

    def _torn(self) -> TornReadError:
        return TornReadError(
            f"The connection was lost while {self._orders.selection.relation.name} was read in one query, with a part of "
            "its rows already emitted.",
            remedy="The next sync reads it again from the start.",
        )


def _contended(chunk: Chunk, event: Exception) -> ContentionError:
    if isinstance(event, psycopg.errors.LockNotAvailable):
        what = "is locked by another session (compression, retention or DDL)"
    else:
        what = "is being rewritten by another session (compression, decompression or DDL)"
    return ContentionError(f"Chunk {chunk.name} {what}.", remedy="It is read again in a moment.")
