"""The followed streams on their way through a sync: what is left to read of each, what was told, and its state."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping

from airbyte_cdk.models import AirbyteMessage, AirbyteStreamStatus

from source_timescaledb.airbyte.catalog import StreamRequest
from source_timescaledb.airbyte.estimates import Estimates
from source_timescaledb.airbyte.messages import stream_status
from source_timescaledb.airbyte.opening import FollowedOpening, open_followed
from source_timescaledb.airbyte.session import Session
from source_timescaledb.airbyte.watching import Lookout
from source_timescaledb.cdc.coverage import Coverage, Skipped
from source_timescaledb.cdc.followed import FollowedStream
from source_timescaledb.cdc.ledger import Ledger
from source_timescaledb.config.timescaledb import OnVanishedRows
from source_timescaledb.errors import ConfigurationError, ConnectorError
from source_timescaledb.hypertables.bounds import readable
from source_timescaledb.hypertables.model import Chunk, QualifiedName, Span
from source_timescaledb.postgres.publication import PublicationMarks
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.state.codec import FollowedStates
from source_timescaledb.state.model import FollowedState


class StreamProgress:
    """One followed stream with what is left to read of it."""

    def __init__(
        self,
        request: StreamRequest,
        opening: FollowedOpening,
        followed: FollowedStream,
        clock: Callable[[], float],
    ) -> None:
        self.request = request
        self.opening = opening
        self.followed = followed
        self.tiered = False
        """Whether the rows in tiered storage have been read."""
        self.failed: ConnectorError | None = None
        self.running = False
        self.torn = False
        """Whether a part of a slice was told that is not finished: no state can count it."""
        self.amending = False
        """Whether rows that an audit found were told before what it found was adopted: no state counts them yet."""
        self.unreported = 0
        self._goal = 0
        self.counters = followed.counters
        self.estimates = Estimates(request.name, opening.plan, opening.statistics, self.counters, clock)

    @property
    def name(self) -> QualifiedName:
        """The stream's name."""
        return self.request.name

    @property
    def readable(self) -> bool:
        """Whether something is left to read, and can be."""
        return self.failed is None and not self.followed.coverage.complete

    @property
    def owes(self) -> bool:
        """Whether it is readable, and has yet to reach its goal; what has no chunks has until all of it is read."""
        chunked = isinstance(self.opening.plan, ChunkPlan)
        return self.readable and (not chunked or self.counters.chunks < self._goal)

    def set_goal(self) -> int:
        """Make all that is left its goal; how many chunks that is."""
        plan = self.opening.plan
        left = plan.chunks_left if self.readable and isinstance(plan, ChunkPlan) else 0
        self._goal = self.counters.chunks + left
        return left

    def count(self, rows: int, size: int) -> Iterator[AirbyteMessage]:
        """So many records, of so many bytes, were told."""
        if rows and not self.running:
            self.running = True
            yield stream_status(self.name, AirbyteStreamStatus.RUNNING)
        self.counters.rows += rows
        self.counters.size += size
        self.unreported += rows

    def count_changes(self) -> Iterator[AirbyteMessage]:
        """A batch of changes, of which some may be the stream's, was told."""
        rows, size = self.followed.take_emitted()
        self.counters.changes += rows
        return self.count(rows, size)

    @property
    def uncounted(self) -> bool:
        """Whether rows were told that no state can count."""
        return self.torn or self.amending

    def state(self, marks: PublicationMarks, lookout: Lookout) -> FollowedState:
        """What a later process needs of it."""
        plan, ledger = self.opening.plan, self.followed.ledger
        return FollowedState(
            relation=self.request.relation.oid,
            complete=self.followed.coverage.complete,
            progress=plan.progress if plan is not None else None,
            entry=marks.entries.get(self.request.relation.oid, 0),
            exposed=self.followed.coverage.exposed,
            tiered=self.tiered,
            audit=ledger.state if ledger is not None else None,
            seen=lookout.seen(self.request.relation),
        )


def open_streams(
    session: Session,
    requests: Iterable[StreamRequest],
    states: FollowedStates | None,
    skipped: Skipped,
    compressing: Container[QualifiedName],
) -> list[StreamProgress]:
    """Each stream where the last sync left it; `compressing` are those whose rows are counted.

    Raises ConnectorError.
    """
    before: Mapping[QualifiedName, FollowedState] = states.streams if states else {}
    left_open = states is not None and states.position.open
    streams = []
    for request in requests:
        known = before.get(request.name)
        opening = open_followed(session, request, known)
        types = {column.name: column for column in request.relation.columns}
        exposed = known is not None and (left_open or known.exposed)  # a new stream has told no rows yet
        followed = FollowedStream(
            request.relation,
            tuple(types[name] for name in request.columns),
            request.metadata,
            Coverage(
                opening.plan,
                skipped,
                exposed=exposed,
                keyed=bool(request.relation.key),
                complete=known is not None and known.complete and known.relation == request.relation.oid,
            ),
            _ledger(request, known) if request.name in compressing else None,
            counters=session.counters.stream(request.name),
        )
        stream = StreamProgress(request, opening, followed, session.clock)
        stream.tiered = known is not None and known.relation == request.relation.oid and known.tiered
        streams.append(stream)
    return streams


def _ledger(request: StreamRequest, before: FollowedState | None) -> Ledger:
    """The ledger of a hypertable, as the last sync left it. Raises ConfigurationError if that is damaged."""
    usable = before is not None and before.relation == request.relation.oid
    try:
        return Ledger(before.audit if before is not None and usable else None)
    except ValueError:
        raise ConfigurationError(
            f"The state of stream {request.name} is damaged at: audit.",
            remedy="Clear the stream's state (refresh it in Airbyte) to read it again from the start.",
        ) from None


def tell_ends(session: Session, streams: Iterable[StreamProgress]) -> Iterator[AirbyteMessage]:
    """What came of the streams, in the log a line for each, and as a last ESTIMATE."""
    for stream in streams:
        stream.counters.ended = session.clock()
        yield from stream.estimates.now()
        session.logger.info("%s", stream.counters.summary(session.clock()))
        if stream.followed.truncated:
            session.logger.warning(
                "%s: rows were removed by TRUNCATE %d times; a destination still has them.",
                stream.name,
                stream.followed.truncated,
            )


def tell_displaced(session: Session, stream: StreamProgress) -> None:
    """Name the chunks that came with rows which were told before: nothing tells of deletes in them until now."""
    plan = stream.opening.plan
    if isinstance(plan, ChunkPlan):
        for displaced, certain in ((plan.displacing, True), (plan.doubtful, False)):
            if displaced:
                _tell_displaced(session, stream, displaced, certain=certain)
                displaced.clear()


def _tell_displaced(
    session: Session, stream: StreamProgress, displaced: Iterable[Chunk], *, certain: bool
) -> None:
    stream.followed.coverage.expose()
    chunks = ", ".join(f"{chunk.name}{between(stream, chunk.span)}" for chunk in displaced)
    held = "held" if certain else "may have held"
    sentence = (
        f"Chunks of {stream.name} are new and hold what another chunk {held} before (it was split, merged, or dropped "
        f"and made again): {chunks}. Rows of theirs that were deleted, or given another key, before they were added "
        "to the publication vanished, and the log does not tell which, so a destination still has them."
    )
    remedy = "Refresh the stream with its data cleared to be rid of them."
    if certain and session.configuration.timescaledb.invisible_deletes is OnVanishedRows.FAIL:
        stream.failed = ConfigurationError(
            sentence, remedy=f"{remedy} It is told once: the next sync goes on."
        )
    else:
        session.logger.warning("%s %s", sentence, remedy)


def between(stream: StreamProgress, span: Span) -> str:
    """A range of time, where it says something, to be put behind a name."""
    hypertable = stream.request.relation.hypertable
    assert hypertable is not None
    lower, upper = (readable(hypertable.time.time, end) for end in span)
    return f", from {lower} up to {upper}" if lower and upper else ""
