"""The stream of what becomes of chunks, so that a warehouse can mirror retention: `timescaledb_chunk_events`.

It is read last, when the rows of all other streams are out, by comparing the catalog with what the state remembers of it
(`hypertables.chunk_events`); the first sync tells of all chunks there are as born. Each event says by when it had
happened, by the server's clock and by a position in its log, to be compared with `_ab_cdc_lsn` of rows: where the log has
told of the chunk (`cdc.sightings`), the one of that, else the one of the look. A chunk in whose place another one was
born was dropped by when that was born, or, where the log does not tell, by the look of the last sync: no row of the new
one is below that.

It needs no rights but those to the catalog. Nothing is written, and no chunk is locked.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from airbyte_cdk.models import (
    AirbyteMessage,
    AirbyteStreamStatus,
    ConfiguredAirbyteCatalog,
    ConfiguredAirbyteStream,
    SyncMode,
)

from source_timescaledb.airbyte.catalog import CHUNK_EVENTS, check_chunk_events, offered, stream_name
from source_timescaledb.airbyte.messages import error_trace, now_milliseconds, stream_status
from source_timescaledb.airbyte.session import Session, Stopped
from source_timescaledb.hypertables.bounds import written
from source_timescaledb.hypertables.chunk_events import ChunkEvent, Fate, chunk_events, remembered
from source_timescaledb.hypertables.chunk_memory import ChunkMemory
from source_timescaledb.hypertables.model import (
    OPEN_ABOVE,
    OPEN_BELOW,
    Chunk,
    Hypertable,
    QualifiedName,
    Relation,
)
from source_timescaledb.hypertables.registry import read_chunks
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.snapshot.held import RECORD_END, record_start
from source_timescaledb.state.codec import decode_chunk_events, encode_chunk_events

LINES_AT_ONCE: Final = 1000

_MOMENT: Final = """
SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_insert_lsn() - '0/0')::int8 END
"""


def read_chunk_events(
    session: Session, catalog: ConfiguredAirbyteCatalog, states: Mapping[QualifiedName, Mapping[str, Any]]
) -> Generator[AirbyteMessage, None, list[QualifiedName]]:
    """Read the stream if it is configured; its name if it failed."""
    failed = []
    for configured in catalog.streams:
        if stream_name(configured) == CHUNK_EVENTS:
            reading = ChunkEventsReading(session, configured, states.get(CHUNK_EVENTS))
            yield from reading.messages()
            failed += [CHUNK_EVENTS] if reading.failed else []
    return failed


@dataclass(frozen=True, slots=True)
class _Look:
    """The chunks of all hypertables."""

    chunks: Mapping[int, list[Chunk]]
    """By the id of the hypertable."""
    begun: int | None
    """A position in the log: what they do not show had not happened by then."""
    seen_at: str
    """When all that they show had happened; and `lsn`, where in the log."""
    lsn: int | None


class ChunkEventsReading:
    """The stream of one sync; `before` is its incoming state, as it came."""

    def __init__(
        self, session: Session, configured: ConfiguredAirbyteStream, before: Mapping[str, Any] | None
    ) -> None:
        self._session = session
        self._configured = configured
        self._before = before if configured.sync_mode is SyncMode.incremental else None
        self.failed = False

    def messages(self) -> Iterator[AirbyteMessage]:
        """Everything the stream emits, its status at the end included; a failure ends the stream, not the sync."""
        yield stream_status(CHUNK_EVENTS, AirbyteStreamStatus.STARTED)
        complete = False
        try:
            yield from self._read()
            complete = True
        except BrokenPipeError:
            raise
        except Stopped:
            pass
        except Exception as error:  # noqa: BLE001 - whatever ends this stream, the others have been read
            self.failed = True
            yield error_trace(error, CHUNK_EVENTS)
        status = AirbyteStreamStatus.COMPLETE if complete else AirbyteStreamStatus.INCOMPLETE
        yield stream_status(CHUNK_EVENTS, status)

    def _read(self) -> Iterator[AirbyteMessage]:
        session = self._session
        check_chunk_events(self._configured, session.configuration.timescaledb)
        if session.stop.is_set():
            raise Stopped
        memory, lsn = ChunkMemory(), None
        if self._before:
            memory, lsn = decode_chunk_events(CHUNK_EVENTS, self._before, session.identity)
        relations = {
            relation.hypertable.id: (relation, relation.hypertable)
            for relation in offered(session.registry, session.configuration)
            if relation.hypertable is not None
        }
        look = self._look([hypertable for _, hypertable in relations.values()])
        lines = [
            orjson.dumps(_record(relation, event, *self._moment(event, look, lsn)))
            for id_, (relation, _) in relations.items()
            for event in chunk_events(memory, id_, look.chunks[id_])
        ]
        yield from self._emit(lines)
        state, complete = encode_chunk_events(remembered(look.chunks), look.begun, session.identity)
        if not complete:
            session.logger.warning(
                "The chunks of this database are too many and too irregular for the state of %s: of the largest "
                "hypertables the next sync can tell only which chunks are born.",
                CHUNK_EVENTS,
            )
        yield session.states.tell(CHUNK_EVENTS, state, len(lines))
        session.logger.info("%s: %d events.", CHUNK_EVENTS, len(lines))

    def _moment(self, event: ChunkEvent, look: _Look, before: int | None) -> tuple[str, int | None]:
        """By when an event had happened; `before` is where in the log the last sync looked."""
        told = self._session.sightings.of(event.heir or event.id, Fate.BORN if event.heir else event.fate)
        if told is not None:
            return told.at, told.lsn
        return look.seen_at, before if event.heir else look.lsn

    def _look(self, hypertables: list[Hypertable]) -> _Look:
        extension = self._session.extension
        if extension is None:
            return _Look({}, None, "", None)

        def question(connection: Connection) -> _Look:
            _, begun = _moment(connection)
            chunks = {
                hypertable.id: read_chunks(connection, extension, hypertable) for hypertable in hypertables
            }
            return _Look(chunks, begun, *_moment(connection))

        return self._session.ask(question, "Looking at all chunks")

    def _emit(self, rows: list[bytes]) -> Iterator[AirbyteMessage]:
        if rows:
            yield stream_status(CHUNK_EVENTS, AirbyteStreamStatus.RUNNING)
        for first in range(0, len(rows), LINES_AT_ONCE):
            start = record_start(CHUNK_EVENTS, now_milliseconds())
            some = rows[first : first + LINES_AT_ONCE]
            lines = b"".join(start + row + RECORD_END for row in some)
            yield from self._session.sink.write([lines], self._session.states.counted_by([CHUNK_EVENTS]))


def _moment(connection: Connection) -> tuple[str, int | None]:
    """The server's time, and its position in the log where it has one of its own."""
    row = connection.execute(_MOMENT).fetchone()
    assert row is not None
    return row[0], row[1]


def _record(relation: Relation, event: ChunkEvent, seen_at: str, lsn: int | None) -> dict[str, Any]:
    assert relation.hypertable is not None
    time, chunk = relation.hypertable.time.time, event.chunk
    return {
        "event": event.fate.value,
        "hypertable_schema": relation.name.schema,
        "hypertable": relation.name.name,
        "chunk_schema": chunk.name.schema if chunk is not None else None,
        "chunk": chunk.name.name if chunk is not None else None,
        "chunk_id": event.id or None,
        "range_start": written(time, event.span.lower),
        "range_end": written(time, event.span.upper),
        "range_start_value": event.span.lower if event.span.lower != OPEN_BELOW else None,
        "range_end_value": event.span.upper if event.span.upper != OPEN_ABOVE else None,
        "seen_at": seen_at,
        "lsn": lsn,
    }
