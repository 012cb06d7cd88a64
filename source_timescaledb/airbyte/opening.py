"""Settles, before a stream's first slice, what is read and from where: the start, or where another process stopped.

Whatever a resumed read must see as the first one saw it comes from the state. Where the state cannot be gone on from,
because the table was recreated or the settings now cut it differently, the stream starts over and the log says why:
that repeats rows and loses none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from psycopg import sql

from source_timescaledb.airbyte.catalog import Mode, StreamRequest
from source_timescaledb.airbyte.estimates import ask_statistics
from source_timescaledb.airbyte.session import Session
from source_timescaledb.config.timescaledb import SnapshotOrder, TieredChunks
from source_timescaledb.errors import ConfigurationError
from source_timescaledb.hypertables.bounds import box_is_nameable, within
from source_timescaledb.hypertables.model import EVERYTHING, Chunk, Relation, Span
from source_timescaledb.hypertables.registry import check_columns, read_chunks
from source_timescaledb.hypertables.statistics import Statistics
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.postgres.writers import writers_of
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.snapshot.cursor import CursorRange, open_range
from source_timescaledb.snapshot.key_plan import KeyPlan
from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.snapshot.plan import Plan, WholePlan
from source_timescaledb.snapshot.query import Selection
from source_timescaledb.snapshot.window import window_since
from source_timescaledb.state.model import (
    ChunkProgress,
    FollowedState,
    KeyProgress,
    Progress,
    StreamState,
)

WRITERS_SECONDS: Final = 10.0
"""How long a cursor waits for those who are writing."""
FIRST_LOOK_SECONDS: Final = 0.05
"""Before looking for them again; twice as long each time, because a busy server has many locks to show."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Everything settled before the first slice."""

    plan: Plan
    selection: Selection
    cursor: CursorRange | None
    statistics: Statistics


def open_stream(session: Session, request: StreamRequest, before: StreamState | None) -> Opening:
    """Settle a stream's read.

    Raises ConnectorError.
    """
    name = request.name
    relation = request.relation
    chunks = list_chunks(session, request)
    cursor = None
    if request.mode is Mode.CURSOR:
        assert request.cursor is not None
        field, position = request.cursor, before.cursor if before else None
        asked = [] if _may_be_highest_in_tiered_storage(session, relation, field) else chunks
        cursor = session.ask(
            lambda connection: open_range(connection, relation, field, asked, position),
            f"Looking for the highest {request.cursor} of {name}",
        )
        _await_writers(session, request)
    plan = _plan(session, request, chunks, cursor, _progress(before))
    session.settle_replica()
    return Opening(
        plan=plan,
        selection=Selection(
            relation,
            request.columns,
            session.registry.server.version_number,
            _condition(session, request, cursor, plan),
            metadata=request.metadata,
            tiered=session.configuration.timescaledb.tiered_chunks is TieredChunks.READ,
        ),
        cursor=cursor,
        statistics=ask_statistics(session, relation, chunks),
    )


def _progress(before: StreamState | None) -> Progress | None:
    """Where an unfinished read stands; nowhere if its cursor had no bound: rows below the one of now may be anywhere."""
    if before is None or (before.cursor is not None and before.cursor.upper is None):
        return None
    return before.progress


def _await_writers(session: Session, request: StreamRequest) -> None:
    """Wait for those who were writing when the highest value of a cursor was looked up: theirs may be lower.

    Raises ConnectorError.
    """

    def writing() -> frozenset[str]:
        return session.ask(
            lambda connection: writers_of(connection, request.relation.oid),
            f"Looking who writes to {request.name}",
        )

    under_way, pause, give_up = writing(), FIRST_LOOK_SECONDS, session.clock() + WRITERS_SECONDS
    while under_way and session.clock() < give_up:
        session.pause(min(pause, max(0.0, give_up - session.clock())))
        under_way, pause = under_way & writing(), pause * 2
    if under_way:
        session.logger.warning(
            "Transactions that write to %s were waited for and are still open (%d of them): rows of theirs whose %s is "
            "below the highest one of now will not be read by this cursor. Keep transactions short, or use CDC.",
            request.name,
            len(under_way),
            request.cursor,
        )


def _may_be_highest_in_tiered_storage(session: Session, relation: Relation, cursor: str) -> bool:
    """Whether the whole hypertable must be asked for its highest value: old chunks are in tiered storage, by time."""
    hypertable = relation.hypertable
    return (
        hypertable is not None
        and relation.tiered
        and hypertable.time.column != cursor
        and session.configuration.timescaledb.tiered_chunks is TieredChunks.READ
    )


@dataclass(frozen=True, slots=True)
class FollowedOpening:
    """What is settled for a stream whose changes are followed."""

    plan: Plan | None
    """None where everything was read before and nothing can be born."""
    selection: Selection
    statistics: Statistics
    begun: frozenset[int] = frozenset()
    """The oids of chunks of which an earlier sync has read something, so that their changes have been followed since."""


def open_followed(session: Session, request: StreamRequest, before: FollowedState | None) -> FollowedOpening:
    """Settle what is left to read of a stream before its changes can tell the rest.

    Raises ConnectorError.
    """
    relation = request.relation
    if before is not None and before.relation != relation.oid:
        session.logger.warning(
            "%s was recreated since the last sync: it is read from the start.", request.name
        )
        before = None
    if before is not None and before.complete and _has_moved(relation, before):
        _tell_moved(session, relation)
    chunks = list_chunks(session, request)
    session.sightings.listed(chunks)
    complete = before is not None and before.complete and relation.hypertable is None
    plan = None if complete else _plan(session, request, chunks, None, before.progress if before else None)
    return FollowedOpening(
        plan=plan,
        selection=Selection(
            relation,
            request.columns,
            session.registry.server.version_number,
            None if plan is None else _condition(session, request, None, plan),
            metadata=request.metadata,
            followed=True,
        ),
        statistics=ask_statistics(session, relation, chunks) if plan and not plan.exhausted else Statistics(),
        begun=_begun(plan, chunks, before),
    )


def _has_moved(relation: Relation, before: FollowedState) -> bool:
    """Whether the rows lay in a plain table when they were read, and lie in chunks now."""
    return relation.hypertable is not None and not isinstance(before.progress, ChunkProgress)


def _tell_moved(session: Session, relation: Relation) -> None:
    """Chunks that are not known are read, whether their rows are new or were moved there.

    Raises ConfigurationError where there is no key by which a destination finds them to be the same.
    """
    if not relation.key:
        raise ConfigurationError(
            f"{relation.name} has become a hypertable since the last sync and has no key: a destination could not tell "
            "the rows that were moved into chunks from new ones.",
            remedy="Refresh the stream with its data cleared.",
        )
    session.logger.warning(
        "%s has become a hypertable since the last sync: it is read from the start.", relation.name
    )


def _begun(plan: Plan | None, chunks: list[Chunk], before: FollowedState | None) -> frozenset[int]:
    if before is None or not isinstance(before.progress, ChunkProgress) or not isinstance(plan, ChunkPlan):
        return frozenset()
    known = before.progress.last_chunk
    return frozenset(chunk.oid for chunk in chunks if chunk.id <= known and not plan.untouched(chunk.id))


def list_chunks(session: Session, request: StreamRequest, *, after: int = 0) -> list[Chunk]:
    """The chunks of a stream that is read by chunk, with ids greater than `after`; none for any other.

    The one in tiered storage is left out (`airbyte.tiered`). The columns are as they were when the relation was read: a
    change after that rewrites the chunks, and shows. Raises ConnectorError.
    """
    by_chunk = request.relation.divisible and session.configuration.timescaledb.chunk_by_chunk
    return (
        [chunk for chunk in all_chunks(session, request, after=after) if not chunk.tiered] if by_chunk else []
    )


def all_chunks(session: Session, request: StreamRequest, *, after: int = 0) -> list[Chunk]:
    """The same, however the stream is read, and with the one in tiered storage. Raises ConnectorError."""
    relation = request.relation
    hypertable, extension = relation.hypertable, session.extension
    if hypertable is None or extension is None:
        return []

    def listing(connection: Connection) -> list[Chunk]:
        found = read_chunks(connection, extension, hypertable, after=after)
        check_columns(connection, relation, request.columns)
        return found

    return session.ask(listing, f"Listing the chunks of {request.name}")


def join_chunks(session: Session, request: StreamRequest, plan: ChunkPlan) -> int:
    """Let chunks join a running read that were born since, and those that took others in; how many were born.

    Raises ConnectorError.
    """
    bereft = plan.bereft
    listed = list_chunks(session, request, after=0 if bereft else plan.last_chunk)
    session.sightings.listed(chunk for chunk in listed if chunk.id > plan.last_chunk)
    born = plan.extend(listed)
    if born:
        session.logger.info("%s: %d new chunks join the sync.", request.name, born)
    if bereft and (heirs := plan.adopt(listed)):
        session.logger.info("%s: %d chunks have taken in others, which are read there.", request.name, heirs)
    return born


def usable_state(session: Session, request: StreamRequest, before: StreamState | None) -> StreamState | None:
    """The state as far as this read can go on from it."""
    if before is None or (request.mode is Mode.EVERYTHING and before.complete):
        return None
    if reason := _reason_to_start_over(request, before):
        session.logger.warning("%s %s: it is read from the start.", request.name, reason)
        return None
    if before.relation != request.relation.oid:
        session.logger.warning("%s was recreated: its unfinished read starts over.", request.name)
        return before.model_copy(update={"progress": None})
    return before


def _reason_to_start_over(request: StreamRequest, before: StreamState) -> str | None:
    """Why nothing of a state can be used; None if it can."""
    if before.state_type != _state_type(request.mode):
        return "was synced in another mode before"
    if before.cursor is not None and before.cursor.field != request.cursor:
        return "follows another cursor now"
    if before.cursor is None and before.relation != request.relation.oid:
        return "was recreated since the last sync"
    return None


def _state_type(mode: Mode) -> str:
    return "cursor_based" if mode is Mode.CURSOR else "full_refresh"


def _plan(
    session: Session,
    request: StreamRequest,
    chunks: list[Chunk],
    cursor: CursorRange | None,
    progress: Progress | None,
) -> Plan:
    settings = session.configuration.timescaledb
    pace = Pace(limit=settings.max_transaction_seconds)
    relation = request.relation
    if relation.hypertable is not None and relation.divisible and settings.chunk_by_chunk:
        usable = progress if isinstance(progress, ChunkProgress) else None
        if usable is not None and usable.hypertable != relation.hypertable.id:
            usable = None
        _tell_restart(session, request, progress, usable)
        return ChunkPlan(
            relation.hypertable,
            chunks,
            pace,
            newest_first=settings.snapshot_order is SnapshotOrder.NEWEST_FIRST,
            window=_window(session, request, cursor),
            progress=usable,
            by_time_alone=_only_time_is_nameable(relation),
        )
    if relation.hypertable is None and relation.key:
        keyed = progress if isinstance(progress, KeyProgress) and progress.key == relation.key else None
        _tell_restart(session, request, progress, keyed)
        return KeyPlan(relation.key, pace, keyed, holding=request.mode is Mode.CHANGES)
    _tell_restart(session, request, progress, None)
    return WholePlan(pace)


def _only_time_is_nameable(relation: Relation) -> bool:
    """Whether chunks are read through the hypertable, and some of their dimensions by columns the role may not read."""
    readable = frozenset(column.name for column in relation.columns)
    return (
        relation.guarded
        and relation.hypertable is not None
        and not box_is_nameable(relation.hypertable, readable)
    )


def _tell_restart(
    session: Session, request: StreamRequest, progress: Progress | None, usable: Progress | None
) -> None:
    if progress is not None and usable is None:
        session.logger.warning(
            "%s is now read in another way: its unfinished read starts over.", request.name
        )


def _condition(
    session: Session, request: StreamRequest, cursor: CursorRange | None, plan: Plan
) -> sql.Composable | None:
    """What every row must fulfil; a window of time only where no chunk plan keeps to it."""
    conditions = [cursor.condition] if cursor is not None else []
    hypertable = request.relation.hypertable
    if hypertable is not None and not isinstance(plan, ChunkPlan):
        window = _window(session, request, cursor)
        if window != EVERYTHING:
            assert hypertable.time.time is not None
            conditions += within(hypertable.time.column, hypertable.time.time, window)
    return sql.SQL(" AND ").join(conditions) if conditions else None


def _window(session: Session, request: StreamRequest, cursor: CursorRange | None) -> Span:
    """What of time is read: from the cursor on, or, in a first load, from `snapshot_since` on."""
    if cursor is not None and cursor.position.value is not None:
        return cursor.window
    since = session.configuration.timescaledb.snapshot_since
    if since is None:
        return EVERYTHING
    assert request.relation.hypertable is not None
    window = window_since(request.relation.hypertable, since.resolve(session.now()))
    if not request.relation.divisible:
        session.logger.warning(
            "timescaledb.snapshot_since needs the time column of %s, which the role may not read: all of it is read.",
            request.name,
        )
        return EVERYTHING
    if window is None:
        session.logger.warning(
            "timescaledb.snapshot_since does not fit the time dimension of %s: all of it is read.",
            request.name,
        )
        return EVERYTHING
    return window
