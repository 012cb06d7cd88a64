"""Reads one stream: slices in, protocol messages out, the state always a step behind the output.

    STARTED, ESTIMATE, RUNNING at the first row, then for each slice its RECORD lines and, when a chunk is finished or a
    second has passed, a STATE that counts exactly the records since the last one; at the end a last STATE and COMPLETE.

A stream that cannot go on, or is told to stop, still emits the STATE of what it has written, and ends as INCOMPLETE:
the next sync goes on there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final

from airbyte_cdk.models import AirbyteMessage, AirbyteStreamStatus

from source_timescaledb.airbyte.catalog import Mode, StreamRequest
from source_timescaledb.airbyte.estimates import Estimates
from source_timescaledb.airbyte.goal import Goal
from source_timescaledb.airbyte.messages import error_trace, now_milliseconds, stream_status
from source_timescaledb.airbyte.opening import Opening, join_chunks, open_stream, usable_state
from source_timescaledb.airbyte.owed import ChunksOwed
from source_timescaledb.airbyte.session import Session, Stopped
from source_timescaledb.airbyte.tiered import tell_tiered, tiered_plan
from source_timescaledb.errors import ConnectorError
from source_timescaledb.snapshot.attempt import Orders
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.snapshot.crew import Crew, FinishedSlice, Result
from source_timescaledb.snapshot.cursor import closed
from source_timescaledb.snapshot.held import LineFormat
from source_timescaledb.snapshot.plan import Plan, WholePlan
from source_timescaledb.snapshot.tiered import TieredPlan
from source_timescaledb.state.codec import encode
from source_timescaledb.state.model import StreamState

STATE_SECONDS: Final = 1.0

Messages = Generator[AirbyteMessage, None, bool]
"""Messages, and at the end whether that was all of them."""


class StreamReading:
    """One stream of one sync; `before` is its incoming state, already proved to be ours."""

    def __init__(self, session: Session, request: StreamRequest, before: StreamState | None) -> None:
        self._session = session
        self._request = request
        self._before = usable_state(session, request, before)
        self._opening: Opening | None = None
        self._estimates: Estimates | None = None
        self._counters = session.counters.stream(request.name)
        self._unreported = 0
        self._left_over = False
        """Whether chunks are left that a cursor is not to pass over."""
        self._counters.began = self._last_state = session.clock()
        self.failed = False

    def messages(self) -> Iterator[AirbyteMessage]:
        """Everything the stream emits, its status at the end included; a failure ends the stream, not the sync."""
        name = self._request.name
        yield stream_status(name, AirbyteStreamStatus.STARTED)
        complete = False
        try:
            complete = yield from self._read()
        except BrokenPipeError:
            raise
        except Stopped:
            yield from self._last_words()
        except Exception as error:  # noqa: BLE001 - whatever ends this stream, the others go on
            self.failed = True
            yield from self._failure(error)
        self._counters.ended = self._session.clock()
        if self._opening is not None:
            self._session.logger.info("%s", self._counters.summary(self._counters.ended))
        status = AirbyteStreamStatus.COMPLETE if complete else AirbyteStreamStatus.INCOMPLETE
        yield stream_status(name, status)

    def _last_words(self) -> Iterator[AirbyteMessage]:
        """The STATE of what was written, however far the stream has come."""
        if self._opening is not None:
            yield self._state(self._opening, complete=False)

    def _failure(self, error: Exception) -> Iterator[AirbyteMessage]:
        yield from self._last_words()
        if not isinstance(error, ConnectorError):
            self._session.logger.error("%s ended by %s.", self._request.name, type(error).__qualname__)
        yield error_trace(error, self._request.name)

    def _read(self) -> Messages:
        if self._finished_before():
            self._session.logger.info("%s was read completely before: nothing is left.", self._request.name)
            assert self._before is not None
            yield self._session.states.tell(self._request.name, encode(self._before), 0)
            return True
        self._opening = opening = open_stream(self._session, self._request, self._before)
        tell_tiered(self._session, self._request)
        estimates = self._estimates = Estimates(
            self._request.name, opening.plan, opening.statistics, self._counters, self._session.clock
        )
        yield from estimates.now()
        ended = (yield from self._read_slices(opening)) and (yield from self._read_tiered(opening))
        yield from estimates.now()
        yield self._state(opening, complete=ended and not self._left_over)
        if opening.plan.pace.raised:
            self._session.logger.warning(
                "%s: transactions had to last longer than timescaledb.max_transaction_seconds, because finding rows "
                "takes most of that. An index that begins with the time column, or the key, would end this.",
                self._request.name,
            )
        return ended

    def _finished_before(self) -> bool:
        """A full refresh whose state is complete belongs to an attempt of the same job: it is not read again."""
        return self._request.mode is Mode.FULL_REFRESH and self._before is not None and self._before.complete

    def _read_slices(self, opening: Opening) -> Messages:
        """Read all that the plan has; whether that came to its end."""
        plan = opening.plan
        if isinstance(plan, ChunkPlan):
            return (yield from self._read_chunks(plan, opening))
        yield from self._read_by(plan, opening)
        return plan.exhausted

    def _read_chunks(self, plan: ChunkPlan, opening: Opening) -> Messages:
        """Read chunks, with a look for others before and after, until the goal is reached; whether it is.

        Only that look can tell: a chunk that was born, or took in another one, may have rows that nobody has read. Told
        to stop, nobody looks, and the next sync does.
        """
        goal = Goal([ChunksOwed(plan)])
        while not self._session.stop.is_set():
            self._join(plan)
            if goal.reached():
                self._leave(goal.left, opening)
                return True
            yield from self._read_by(plan, opening)
        return False

    def _leave(self, chunks: int, opening: Opening) -> None:
        """Leave so many chunks that were born during the read to the next sync.

        A full refresh is complete without them. A cursor that moved on would pass over rows in them: it stays, and the
        next sync goes on below the same bound; one that has none has nothing to pass over.
        """
        if not chunks:
            return
        self._session.logger.info(
            "%s: Chunks are born faster than they are read: %d are left to the next sync.",
            self._request.name,
            chunks,
        )
        self._left_over = opening.cursor is not None and opening.cursor.position.upper is not None

    def _read_by(self, plan: Plan, opening: Opening) -> Iterator[AirbyteMessage]:
        """Read until the plan is exhausted, or a chunk is born, which then joins it."""
        with self._crew(plan, opening) as crew:
            for result in crew.results(self._session.stop.is_set):
                yield from self._emit(crew, opening, result)

    def _read_tiered(self, opening: Opening) -> Messages:
        """Read what is in tiered storage, which comes last; whether nothing of it is left to this sync."""
        plan = None if self._left_over else tiered_plan(self._session, self._request, opening.plan)
        if plan is None:
            return True
        yield self._state(opening, complete=False)
        yield from self._read_by(plan, opening)
        return plan.exhausted

    def _crew(self, plan: Plan, opening: Opening) -> Crew:
        session = self._session
        alone = isinstance(plan, (WholePlan, TieredPlan))
        orders = Orders(
            selection=opening.selection,
            extension=session.extension,
            line_format=lambda: LineFormat(self._request.name, now_milliseconds()),
            fetch_rows=session.configuration.timescaledb.fetch_rows,
            readers=1 if alone else session.reader_count,
            patience=session.reader_patience,
            counters=self._counters,
            tell_aside=session.tell_aside,
        )
        return Crew(plan, orders, session.readers, session.clock, resting=session.births([plan]))

    def _emit(self, crew: Crew, opening: Opening, result: Result) -> Iterator[AirbyteMessage]:
        rows = result.rows
        if rows.rows and not self._counters.rows:
            yield stream_status(self._request.name, AirbyteStreamStatus.RUNNING)
        counted_by = self._session.states.counted_by([self._request.name])
        yield from self._session.sink.write(rows.pieces(), counted_by)
        self._counters.rows += rows.rows
        self._counters.size += rows.size
        self._unreported += rows.rows
        rows.close()
        if isinstance(result, FinishedSlice):
            chunk_finished = crew.confirm(result)
            assert self._estimates is not None
            yield from self._estimates.confirm(result.slice)
            if opening.plan.exhausted:
                return  # the last STATE follows, and only that one says that nothing is left
            if chunk_finished or self._session.clock() - self._last_state >= STATE_SECONDS:
                yield self._state(opening, complete=False)

    def _join(self, plan: ChunkPlan) -> None:
        """Let chunks join that were born, or took others in, since the last look. Raises ConnectorError."""
        join_chunks(self._session, self._request, plan)
        if not plan.exhausted:
            self._session.settle_replica()

    def _state(self, opening: Opening, *, complete: bool) -> AirbyteMessage:
        position = opening.cursor.position if opening.cursor else None
        state = StreamState(
            state_type="cursor_based" if position else "full_refresh",
            database=self._session.identity,
            relation=self._request.relation.oid,
            complete=complete,
            progress=None if complete else opening.plan.progress,
            cursor=closed(position) if position and complete else position,
            seen=self._session.lookout.seen(self._request.relation),
        )
        count, self._unreported = self._unreported, 0
        self._last_state = self._session.clock()
        return self._session.states.tell(self._request.name, encode(state), count)
