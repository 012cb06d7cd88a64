"""The readers of one stream: threads that take slices from a plan, read them, and hand the rows to the one writer.

    plan --take--> reader threads --rows, confirmed by fingerprint--> queue --> writer --written--> plan.confirm

The plan is guarded by one lock; only the writer confirms, after the rows are out, so progress never runs ahead of the
output. A slice that ran into a limit goes back into the plan and is cut smaller. A failure that may pass is tried again
(`snapshot.attempt`), with jitter, inside a budget of its own for each slice. Anything else ends the stream, with the
error as its reason.

A server that is full is no reason to end while it lets one of us in. A reader for whom it has no connection gives its
slice back and stands aside for a while, and the others, who hold theirs, read on; only where nobody holds any is it an
error, and tried again like others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from typing_extensions import Self

from source_timescaledb.errors import ConnectionsExhaustedError
from source_timescaledb.postgres.pool import ReaderPool
from source_timescaledb.postgres.retry import Patience
from source_timescaledb.snapshot.attempt import Attempt, Orders, Seat
from source_timescaledb.snapshot.byte_queue import ByteQueue, Closed
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.snapshot.held import HeldRows, Portion
from source_timescaledb.snapshot.pace import SliceCost
from source_timescaledb.snapshot.plan import Plan
from source_timescaledb.snapshot.query import boundary_query
from source_timescaledb.snapshot.slice_reader import SliceOverran, SliceRead
from source_timescaledb.snapshot.slices import ChunkSlice, Slice
from source_timescaledb.state.model import Key

QUEUE_BYTES: Final = 16 * 1024 * 1024
ITEM_OVERHEAD: Final = 1024
ASIDE_SECONDS: Final = 15.0
"""How long a reader for whom the server has no connection lets the others read before it asks again."""
_IDLE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class FinishedSlice:
    """A slice whose rows are right and wait to be written."""

    slice: Slice
    """With its chunk as it was when the rows were read: it may cover less than when the slice was cut."""
    rows: HeldRows
    snapshot: str
    """The snapshot it was read in, as `pg_current_snapshot()` writes it; empty where none was asked for, as always where
    the slice's chunk is gone."""


@dataclass(frozen=True, slots=True)
class Overflow:
    """Rows of an indivisible slice that has grown past what may be held: written before the slice is finished."""

    rows: HeldRows


@dataclass(frozen=True, slots=True)
class Failure:
    """A reader has given up."""

    error: BaseException


Result = FinishedSlice | Overflow
Done = TypeVar("Done")


class _StandAside(Exception):  # noqa: N818 - an order, not a failure
    """The server has no connection for this reader, and others have theirs."""


class Crew:
    """Runs the readers of one plan; used by one writer thread. Use it as a context manager: leaving stops the readers.

    `pool` must hold at least as many connections as there are readers. `clock` is monotonic, in seconds. Once `resting`
    says so, and it must not take that back, no slice is taken any more, but those in flight are finished. One slice is
    always taken, so that a crew gets on however soon it is told to rest.
    """

    def __init__(
        self,
        plan: Plan,
        orders: Orders,
        pool: ReaderPool,
        clock: Callable[[], float],
        resting: Callable[[], bool] = lambda: False,
    ) -> None:
        self._plan = plan
        self._resting = resting
        self._taken = False
        self._in_flight = 0
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
        self._portion = Portion(orders.fetch_rows)
        self._counters = orders.counters

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for item in self._queue.close():
            if not isinstance(item, Failure):
                item.rows.close()
        self._note_queue()
        with self._turn:
            self._turn.notify_all()
        for seat in self._seats:
            seat.interrupt()
        for thread in self._threads:
            thread.join(timeout=5)

    def results(self, stop: Callable[[], bool]) -> Iterator[Result]:
        """What the readers bring, until the plan is exhausted, the crew rests, or `stop` says so.

        The caller writes the rows, closes them and confirms the slice before it asks for more.
        Raises what made a reader give up.
        """
        while not stop():
            with self._turn:
                if self._plan.exhausted or (self._rests and not self._in_flight):
                    return
            item = self._queue.get(_IDLE_SECONDS)
            if isinstance(item, Failure):
                raise item.error
            if item is not None:
                self._note_queue()
                yield item

    def confirm(self, result: FinishedSlice) -> bool:
        """Count a written slice as finished; True if that finished a chunk, or the relation."""
        counters = self._counters
        with self._turn:
            if (
                isinstance(self._plan, ChunkPlan)
                and isinstance(result.slice, ChunkSlice)
                and not result.snapshot
            ):
                finished = self._plan.vanish(result.slice)
            else:
                finished = self._plan.confirm(result.slice)
            self._in_flight -= 1
            counters.chunks += finished
            counters.chunks_left = self._plan.chunks_left
            self._turn.notify_all()
            return finished

    @property
    def _rests(self) -> bool:
        """Asked with the lock held: a slice that is taken after `results` has ended is in nobody's hands."""
        return self._taken and self._resting()

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
        """The next slice, waiting while others may still give one back; None when none is left, or to be taken."""
        name = self._orders.selection.relation.name
        while not self._stopping.is_set():
            try:
                slice_, exhausted = self._patience().keep_trying(
                    lambda: self._with_room(seat, lambda: self._take(seat)),
                    f"Looking for the next rows of {name}",
                )
            except _StandAside:
                self._stand_aside()
                continue
            if slice_ is not None or exhausted:
                return slice_
        return None

    def _take(self, seat: Seat) -> tuple[Slice | None, bool]:
        def boundary(lower: Key | None, upper: Key | None, rows: int) -> Key | None:
            query = boundary_query(self._orders.selection.relation, lower, upper, rows)
            connection = seat.take()
            with seat.watched(connection):
                row = connection.execute(query).fetchone()
            return tuple(row) if row else None

        with self._turn:
            if self._rests:
                return None, True
            slice_ = self._plan.take(boundary)
            if slice_ is not None:
                self._taken = True
                self._in_flight += 1
            elif not self._plan.exhausted:
                self._turn.wait(_IDLE_SECONDS)
            return slice_, self._plan.exhausted

    def _read(self, slice_: Slice, seat: Seat) -> None:
        """Read a slice and hand it over, or give it back to be cut smaller."""
        attempt = Attempt(self._orders, slice_, seat, self._clock, self._overflow)
        name = self._orders.selection.relation.name
        try:
            read = self._patience().keep_trying(
                lambda: self._with_room(
                    seat, lambda: attempt.read(self._plan.pace.deadline, self._portion.rows)
                ),
                f"Reading {name}",
            )
        except SliceOverran as overrun:
            with self._turn:
                self._counters.overran += 1
                self._plan.pace.overran(slice_.width, by_time=overrun.by_time)
            self._give_back(slice_)
        except _StandAside:
            self._give_back(slice_)
            self._stand_aside()
        else:
            self._hand_over(attempt.slice, read)

    def _give_back(self, slice_: Slice) -> None:
        with self._turn:
            self._plan.give_back(slice_)
            self._in_flight -= 1
            self._turn.notify_all()

    def _with_room(self, seat: Seat, action: Callable[[], Done]) -> Done:
        """Do what needs a connection. Raises _StandAside where there is none and others read."""
        try:
            return action()
        except ConnectionsExhaustedError as refusal:
            if not any(other.connection is not None for other in self._seats if other is not seat):
                raise
            self._orders.tell_aside(refusal)
            raise _StandAside from None

    def _stand_aside(self) -> None:
        """Let the others read, until that has come to its end or there may be room again."""
        with self._turn:
            self._turn.wait_for(
                lambda: self._stopping.is_set() or self._plan.exhausted or self._rests, ASIDE_SECONDS
            )

    def _hand_over(self, slice_: Slice, read: SliceRead) -> None:
        with self._turn:
            self._plan.pace.finished(SliceCost(slice_.width, read.rows.size, read.seconds))
            self._portion.learn(read.rows)
            counters = self._counters
            counters.slices += 1
            counters.slice_seconds += read.seconds
            counters.longest_seconds = max(counters.longest_seconds, read.seconds)
        self._queue.put(FinishedSlice(slice_, read.rows, read.snapshot), read.rows.in_memory + ITEM_OVERHEAD)
        self._note_queue()

    def _overflow(self, rows: HeldRows) -> None:
        self._queue.put(Overflow(rows), rows.in_memory)
        self._note_queue()

    def _note_queue(self) -> None:
        self._counters.queued, self._counters.queued_size = len(self._queue), self._queue.weight

    def _patience(self) -> Patience:
        return self._orders.patience(self._sleep)

    def _sleep(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise Closed
