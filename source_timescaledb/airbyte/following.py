"""Follows the changes of all streams that have them: rounds of slices and drains, and one state for all.

    position ──> STATE ──> drain ──> chunks born? ──> slices for a while ──> fence ──> drain ──> STATE ──┐
                             ^                                                                            │
                             └──────────── until nothing is left to read (`goal`): STATE, COMPLETE <──────┘

The position is told in a STATE before any row, so the next process finds where to begin whatever happens to this one.
The first drain catches up with the log and proves that the slot can be decoded. After it each round reads slices for some
seconds, lets those in flight finish, writes a fence into the log and drains to it: then what was read is settled
(`cdc.coverage`), and a STATE may say so. A STATE in the middle of a drain is right only while nothing read is unsettled.

Silence ends nothing and nothing ends by a timeout: the fence does, and it always comes. The log stays open throughout.

A sync that is told to stop takes no more slices. It goes on to where nothing is half told: past the fence if slices were
read, else to the end of the transaction. There a STATE can say all that was told, and it is as closed as that of a
sync that ended by itself. Where getting there takes too long the last STATE counts, and that one says `open`.

What the server may forget is the position of the state that came in, once it has proved right; with `While reading Data`
also what states of this sync have told.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import timezone
from typing import Final

from airbyte_cdk.models import AirbyteMessage, AirbyteStreamStatus

from source_timescaledb.airbyte.auditing import Audit
from source_timescaledb.airbyte.catalog import StreamRequest
from source_timescaledb.airbyte.goal import Goal
from source_timescaledb.airbyte.ground import Ground
from source_timescaledb.airbyte.lag import Lag
from source_timescaledb.airbyte.messages import (
    error_trace,
    now_milliseconds,
    stream_status,
)
from source_timescaledb.airbyte.opening import join_chunks
from source_timescaledb.airbyte.session import Session, Stopped
from source_timescaledb.airbyte.stream_progress import (
    StreamProgress,
    open_streams,
    tell_displaced,
    tell_ends,
)
from source_timescaledb.airbyte.tiered import read_tiered, tell_tiered
from source_timescaledb.cdc.changes import Changes
from source_timescaledb.cdc.clock import OrderClock
from source_timescaledb.cdc.database import LiveCatalog, LiveLookup, read_currency
from source_timescaledb.cdc.followed import cdc_fields
from source_timescaledb.cdc.lines import Batch
from source_timescaledb.cdc.routing import Router
from source_timescaledb.cdc.sightings import Moment
from source_timescaledb.cdc.visibility import Snapshot
from source_timescaledb.config.replication import LsnCommitBehaviour
from source_timescaledb.config.timescaledb import OnVanishedRows
from source_timescaledb.errors import ConnectorError, TransientError
from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.connection import ConnectionSettings
from source_timescaledb.postgres.replication import ReplicationStream
from source_timescaledb.snapshot.attempt import Orders
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.snapshot.crew import Crew, FinishedSlice, Overflow, Result
from source_timescaledb.snapshot.held import LineFormat, record_start
from source_timescaledb.snapshot.plan import Plan
from source_timescaledb.state.codec import FollowedStates
from source_timescaledb.state.model import LogPosition

ROUND_SECONDS: Final = 5.0
STATE_SECONDS: Final = 1.0
LAST_SECONDS: Final = 5.0
"""How long a sync that is told to stop may take to get to where nothing is half told."""
MOST_RECONNECTIONS: Final = 8
"""In a row without a commit between them; each is tried for the whole retry budget."""

Emission = Iterator[AirbyteMessage]


class Following:
    """All followed streams of one sync; `before` is their state, already proved to be ours.

    `failed` names the streams that did not come to their end.
    """

    def __init__(
        self,
        session: Session,
        settings: ConnectionSettings,
        requests: Iterable[StreamRequest],
        before: FollowedStates | None,
    ) -> None:
        self._session = session
        self._requests = list(requests)
        self._ground = Ground(session, settings, self._requests, before)
        self._clock = OrderClock(before.position.clock if before else 0)
        self._clock_lock = threading.Lock()
        self._streams: list[StreamProgress] = []
        self._changes: Changes | None = None
        self._lag = Lag(session, self._ground.cdc.replication_slot)
        self._last_state: FollowedStates | None = None
        self._started = self._last_state_at = session.clock()
        self._stopping_since: float | None = None
        self.failed: list[QualifiedName] = []

    def messages(self) -> Emission:
        """Everything the streams emit, their status at the end included."""
        for request in self._requests:
            self._session.counters.stream(request.name).began = self._started
            yield stream_status(request.name, AirbyteStreamStatus.STARTED)
        complete = False
        try:
            with self._ground:
                complete = yield from self._sync_or_stop()
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the state and one ERROR come out
            yield from self._last_words()
            yield error_trace(error)
            self.failed = [request.name for request in self._requests]
        yield from self._ends(complete=complete)

    def _ends(self, *, complete: bool) -> Emission:
        yield from tell_ends(self._session, self._streams)
        broken = {stream.name: stream.failed for stream in self._streams if stream.failed is not None}
        for request in self._requests:
            error = broken.get(request.name)
            if error is not None and complete:
                self.failed.append(request.name)
                yield error_trace(error, request.name)
            well = complete and error is None
            yield stream_status(
                request.name, AirbyteStreamStatus.COMPLETE if well else AirbyteStreamStatus.INCOMPLETE
            )

    def _last_words(self) -> Emission:
        """The last STATE again, for the records since: it is what a later process goes on from."""
        if self._last_state is not None:
            yield from self._emit_state(self._last_state)

    def _sync_or_stop(self) -> Generator[AirbyteMessage, None, bool]:
        """The sync, with the right STATE at its end; whether it came there by itself."""
        try:
            yield from self._sync()
        except Stopped:
            yield from self._stopped()
            return False
        return True

    def _stopped(self) -> Emission:
        try:
            if self._rests():
                yield from self._tell(open_=False)
                return
        except Stopped:  # the server does not answer, and is not waited for any more
            pass
        yield from self._last_words()

    def _sync(self) -> Emission:
        start = self._ground.prepare(self._clock)
        self._open_streams()
        for stream in self._streams:
            yield from stream.estimates.now()
        self._connect(start)
        yield from self._tell(open_=True)
        yield from self._drain()
        goal = Goal(self._streams)
        while self._welcome() and not self._is_late() and not goal.reached():
            yield from self._read_slices()
            yield from self._drain()
            if self._is_readable:
                yield from self._tell(open_=True)
        if goal.left:
            self._session.logger.info(
                "Chunks are born faster than they are read: %d are left to the next sync.", goal.left
            )
        yield from read_tiered(self._session, self._streams, self._drain, self._read_stream)
        audit = Audit(self._session, self._streams, self._drain, self._read_stream, self._ground.barrier)
        yield from audit.messages()
        yield from self._tell(open_=False)

    def _open_streams(self) -> None:
        ground = self._ground
        self._streams = open_streams(
            self._session, self._requests, ground.before, ground.skipped, ground.compressing
        )
        for stream in self._streams:
            tell_displaced(self._session, stream)
            tell_tiered(self._session, stream.request)
        if ground.publish_chunks({oid for stream in self._streams for oid in stream.opening.begun}):
            ground.barrier()

    def _connect(self, start: Lsn) -> None:
        session = self._session
        followed = [stream.followed for stream in self._streams]
        catalog = LiveCatalog(session.ask, followed, session.extension)
        currency = session.ask(read_currency, "Asking for the currency")
        router = Router(
            catalog,
            tuple(followed),
            lambda stream: record_start(stream.name, now_milliseconds()),
            currency,
            lambda name: session.logger.info(
                "Changes of %s are passed over: it is gone and not followed.", name
            ),
        )
        self._changes = Changes(
            self._ground.open_log(start),
            router,
            self._clock,
            LiveLookup(session.ask),
            position=start,
            truncation_fails=session.configuration.timescaledb.truncated_tables is OnVanishedRows.FAIL,
            sightings=session.sightings,
        )

    def _drain(self) -> Emission:
        """Emit everything that had been committed by now; afterwards all that was read is settled. Raises Stopped."""
        changes = self._changes
        assert changes is not None
        self._heed_stop()
        fence = secrets.token_hex(8)
        self._ground.fence(fence)
        for batch in self._batches(changes, fence.encode()):
            yield from self._emit(batch)
        for stream in self._streams:
            stream.followed.coverage.settle()
        self._heed_stop()

    def _batches(self, changes: Changes, fence: bytes) -> Iterator[Batch]:
        """Everything up to a fence; a log that is lost is opened again where the last commit ended."""
        failures, reached = 0, changes.position
        while True:
            try:
                yield from changes.until(fence)
                break
            except TransientError as error:
                failures = failures + 1 if changes.position == reached else 1
                reached = changes.position
                if failures > MOST_RECONNECTIONS:
                    raise
                self._session.counters.reconnections += 1
                self._session.logger.warning("%s Following goes on from %s.", error.message, reached)
                changes.reconnect(self._ground.open_log(reached))

    def _emit(self, batch: Batch) -> Emission:
        assert self._changes is not None
        self._lag.measure(self._changes)
        if batch.records:
            counted_by = self._session.states.counted_by(stream.name for stream in self._streams)
            yield from self._session.sink.write_in_order(batch.lines, counted_by)
            for stream in self._streams:
                yield from stream.count_changes()
            if self._session.clock() - self._last_state_at >= STATE_SECONDS and self._rests():
                yield from self._tell(open_=True)
        self._heed_stop()

    def _rests(self) -> bool:
        """Whether a STATE can say all that was told: no transaction is half told, and what was read is settled."""
        changes = self._changes
        read = any(stream.followed.coverage.fresh for stream in self._streams)
        return changes is not None and changes.rests and not read

    def _heed_stop(self) -> None:
        """End where a STATE can say all that was told, or when getting there takes too long. Raises Stopped."""
        if not self._session.stop.is_set():
            return
        now = self._session.clock()
        if self._stopping_since is None:
            self._stopping_since = now
        if self._rests() or now - self._stopping_since >= LAST_SECONDS:
            raise Stopped

    def _welcome(self) -> bool:
        """Let chunks join that were born since they were last listed; whether anything is left to read."""
        born = 0
        for stream in self._streams:
            plan = stream.opening.plan
            if isinstance(plan, ChunkPlan):
                born += join_chunks(self._session, stream.request, plan)
                tell_displaced(self._session, stream)
        if born:
            self._ground.publish_chunks()
            self._ground.barrier()
        self._session.sightings.date_listed(Moment(self._clock.value, self._utc_now()))
        return self._is_readable

    @property
    def _is_readable(self) -> bool:
        return any(stream.readable for stream in self._streams)

    def _is_late(self) -> bool:
        """Whether first loads have taken as long as one sync may spend on them; the next one goes on."""
        hours = self._ground.cdc.initial_load_timeout_hours
        late = self._session.clock() - self._started >= hours * 3600
        if late:
            self._session.logger.warning(
                "The first load has taken %d hours (initial_load_timeout_hours): the next sync goes on with it.",
                hours,
            )
        return late

    def _read_slices(self) -> Emission:
        """Read slices for a while, and at least one; a chunk that is born ends the round, and joins in the next."""
        session = self._session
        seconds = min(ROUND_SECONDS, float(session.configuration.checkpoint_target_interval_seconds))
        end = session.clock() + seconds
        born = session.births(stream.opening.plan for stream in self._streams)
        session.settle_replica()
        for stream in sorted((one for one in self._streams if one.readable), key=lambda one: not one.owes):
            yield from self._read_stream(stream, lambda: born() or session.clock() >= end)
            if session.stop.is_set() or born() or session.clock() >= end:
                break

    def _read_stream(
        self, stream: StreamProgress, resting: Callable[[], bool], plan: Plan | None = None
    ) -> Emission:
        """Read slices of a stream until it is time to rest, of its own plan or of another one."""
        session, plan = self._session, plan or stream.opening.plan
        assert plan is not None
        orders = Orders(
            selection=stream.opening.selection,
            extension=session.extension,
            line_format=lambda: self._line_format(stream),
            fetch_rows=session.configuration.timescaledb.fetch_rows,
            readers=session.reader_count,
            patience=session.patience,
            counters=stream.counters,
            accepts=lambda snapshot: self._ground.skipped.accept(Snapshot.parse(snapshot)),
            tell_aside=session.tell_aside,
        )
        try:
            with Crew(plan, orders, session.readers, session.clock, resting) as crew:
                for result in crew.results(session.stop.is_set):
                    yield from self._emit_slice(crew, stream, result)
        except ConnectorError as error:
            stream.failed = error

    def _emit_slice(self, crew: Crew, stream: StreamProgress, result: Result) -> Emission:
        rows = result.rows
        yield from self._session.sink.write(rows.pieces(), self._session.states.counted_by([stream.name]))
        yield from stream.count(rows.rows, rows.size)
        rows.close()
        stream.torn = isinstance(result, Overflow)
        if isinstance(result, FinishedSlice):
            crew.confirm(result)
            stream.followed.coverage.add(result.slice, result.snapshot)
            yield from stream.estimates.confirm(result.slice)

    def _utc_now(self) -> str:
        return self._session.now().astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _line_format(self, stream: StreamProgress) -> LineFormat:
        """The format of a slice, at the next time of the clock; asked for by readers, who are many."""
        with self._clock_lock:
            clock = self._clock.tick()
        tail = stream.followed.separator + cdc_fields(clock, self._utc_now())
        return LineFormat(stream.name, now_milliseconds(), tail)

    def _tell(self, *, open_: bool) -> Emission:
        """A STATE of where everything stands; `open_` where the sync goes on, so that it may be killed after it."""
        changes = self._changes
        assert changes is not None
        self._ground.check_publication()
        states = FollowedStates(
            LogPosition(
                database=self._session.identity,
                timeline=self._ground.timeline,
                slot=self._ground.cdc.replication_slot,
                publication=self._ground.marks.publication,
                lsn=str(changes.position),
                clock=self._clock.value,
                open=open_ or any(stream.uncounted for stream in self._streams),
            ),
            {one.name: one.state(self._ground.marks, self._session.lookout) for one in self._streams},
        )
        self._last_state = states
        self._lag.measure(changes, last=not open_)
        yield from self._emit_state(states)
        if self._ground.cdc.lsn_commit_behaviour is LsnCommitBehaviour.WHILE_READING:
            assert isinstance(changes.source, ReplicationStream)
            changes.source.acknowledge(changes.position)

    def _emit_state(self, states: FollowedStates) -> Emission:
        counts = {stream.name: stream.unreported for stream in self._streams}
        for stream in self._streams:
            stream.unreported = 0
        self._last_state_at = self._session.clock()
        yield from self._session.states.tell_followed(states, counts)
