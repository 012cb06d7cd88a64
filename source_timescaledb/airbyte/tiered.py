"""What becomes of rows in tiered storage: they are left out, with a warning, or read after all others.

Changes of them do not exist: they are in a first load only, and a stream whose changes are followed remembers that it
has had them. (`snapshot.tiered` says how they are read.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from airbyte_cdk.models import AirbyteMessage

from source_timescaledb.airbyte.auditing import ReadSlices
from source_timescaledb.airbyte.catalog import StreamRequest
from source_timescaledb.airbyte.opening import all_chunks
from source_timescaledb.airbyte.session import Session
from source_timescaledb.airbyte.stream_progress import StreamProgress
from source_timescaledb.config.timescaledb import TieredChunks
from source_timescaledb.hypertables.bounds import readable, texts
from source_timescaledb.hypertables.model import (
    EVERYTHING,
    OPEN_ABOVE,
    OPEN_BELOW,
    SCATTERED,
    Chunk,
    Hypertable,
    Relation,
    Span,
    TimeKind,
)
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.snapshot.plan import Plan
from source_timescaledb.snapshot.slices import TieredSlice
from source_timescaledb.snapshot.tiered import TieredPlan, tiered_spans
from source_timescaledb.state.model import Bounds

Emission = Iterator[AirbyteMessage]


def tell_tiered(session: Session, request: StreamRequest) -> None:
    """Say what of a stream is left out because it is in tiered storage. Raises ConnectorError."""
    hypertable = request.relation.hypertable
    if hypertable is None or not hypertable.tiered or _are_read(session):
        return
    for chunk in all_chunks(session, request):
        if chunk.tiered:
            session.logger.warning(
                "%s has rows in tiered storage, which are not read: chunk %s, %s. Set timescaledb.tiered_chunks to read "
                "to read them too.",
                request.name,
                chunk.name,
                _extent(hypertable, chunk),
            )


def tiered_plan(session: Session, request: StreamRequest, plan: Plan | None) -> TieredPlan | None:
    """What is left to read of a stream by whose plan all other chunks were read that it owes; None if nothing is.

    The catalog is asked now: chunks may have been moved while the others were read. Raises ConnectorError.
    """
    hypertable = request.relation.hypertable
    if hypertable is None or not isinstance(plan, ChunkPlan) or not _are_read(session):
        return None
    chunks = all_chunks(session, request)
    tiered = next((chunk for chunk in chunks if chunk.tiered), None)
    if tiered is None:
        return None
    slices = _slices(session, request.relation, tiered, chunks, plan.progress.window)
    if not slices:
        return None
    session.logger.info(
        "%s: rows in tiered storage are read, in %d ranges of time.", request.name, len(slices)
    )
    return TieredPlan(slices, Pace(limit=session.configuration.timescaledb.max_transaction_seconds))


def read_tiered(
    session: Session, streams: Iterable[StreamProgress], drain: Callable[[], Emission], read: ReadSlices
) -> Emission:
    """Read what streams whose changes are followed have in tiered storage, where that is not read yet.

    What is moved there later was told before. Raises ConnectorError.
    """
    if not _are_read(session):
        return
    for stream in streams:
        if stream.tiered or stream.failed is not None or not stream.followed.coverage.complete:
            continue
        plan = tiered_plan(session, stream.request, stream.opening.plan)
        while plan is not None and stream.failed is None and not plan.exhausted:
            yield from read(stream, lambda: True, plan)
            yield from drain()
        stream.tiered = stream.failed is None


def _are_read(session: Session) -> bool:
    return session.configuration.timescaledb.tiered_chunks is TieredChunks.READ


def _slices(
    session: Session, relation: Relation, tiered: Chunk, chunks: Iterable[Chunk], window: Bounds | None
) -> list[TieredSlice]:
    assert relation.hypertable is not None
    kind = relation.hypertable.time.time
    if kind is None or kind is TimeKind.OPAQUE:
        return _whole(session, relation, tiered)
    others = [chunk for chunk in chunks if not chunk.tiered]
    spans = tiered_spans(
        tiered, others, Span(*window) if window else EVERYTHING, apart=not relation.tells_chunks
    )
    ends = sorted({end for span in spans for end in span} - {OPEN_BELOW, OPEN_ABOVE})
    written: dict[int, str] = {}
    if ends:
        query = texts(kind, ends)
        row = session.ask(
            lambda connection: connection.execute(query).fetchone(), "Asking for ranges of time"
        )
        assert row is not None
        written = dict(zip(ends, row[0], strict=True))
    return [TieredSlice(tiered, written.get(span.lower), written.get(span.upper)) for span in spans]


def _whole(session: Session, relation: Relation, tiered: Chunk) -> list[TieredSlice]:
    """All of a tiered chunk at once, where ranges of time say nothing of its rows."""
    if relation.tells_chunks:
        return [TieredSlice(tiered, None, None)]
    session.logger.warning(
        "Rows of %s in tiered storage are not read: the role cannot tell them from others.",
        relation.name,
    )
    return []


def _extent(hypertable: Hypertable, chunk: Chunk) -> str:
    """What of time a tiered chunk covers, in words."""
    lower, upper = (readable(hypertable.time.time, end) for end in chunk.span)
    if chunk.span == SCATTERED or not lower:
        return "whose rows lie between those of other chunks, or outside of them"
    return f"from {lower} up to {upper}"
