"""From the registry to the catalog we offer, and from the catalog a platform sends back to what is to be read.

A stream is a relation under the name its user knows. Chunks, compressed relations and materialization tables never
come this far: the registry does not list them. What comes back may be older than the database; a stream or column
that is gone is that stream's error, with its name, and the other streams go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from airbyte_cdk.models import (
    AirbyteCatalog,
    AirbyteStream,
    ConfiguredAirbyteCatalog,
    ConfiguredAirbyteStream,
    DestinationSyncMode,
    SyncMode,
)

from source_timescaledb.cdc.followed import DELETED_AT, LSN, UPDATED_AT
from source_timescaledb.config.model import Configuration
from source_timescaledb.config.replication import Cdc
from source_timescaledb.config.timescaledb import Timescaledb
from source_timescaledb.errors import ConfigurationError
from source_timescaledb.health.facts import Aim
from source_timescaledb.health.replication import guard_error
from source_timescaledb.hypertables.model import (
    QualifiedName,
    Registry,
    Relation,
    RelationKind,
    ServerFacts,
)
from source_timescaledb.remedy import grant
from source_timescaledb.snapshot.query import CHUNK_COLUMN
from source_timescaledb.state.codec import DEFAULT_NAMESPACE
from source_timescaledb.types.rendering import json_schema

_CHUNK_SCHEMA: Final = {"type": ["null", "string"]}

_CDC_SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    LSN: {"type": ["null", "number"], "airbyte_type": "integer"},
    UPDATED_AT: {"type": ["null", "string"]},
    DELETED_AT: {"type": ["null", "string"]},
}

CHUNK_EVENTS: Final = QualifiedName(DEFAULT_NAMESPACE, "timescaledb_chunk_events")

_TEXT: Final = {"type": ["null", "string"]}
_NUMBER: Final = {"type": ["null", "number"], "airbyte_type": "integer"}
CHUNK_EVENT_SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "event": _TEXT,
    "hypertable_schema": _TEXT,
    "hypertable": _TEXT,
    "chunk_schema": _TEXT,
    "chunk": _TEXT,
    "chunk_id": _NUMBER,
    "range_start": _TEXT,
    "range_end": _TEXT,
    "range_start_value": _NUMBER,
    "range_end_value": _NUMBER,
    "seen_at": _TEXT,
    "lsn": _NUMBER,
}

_ORDERED_TYPES: Final = frozenset(
    (
        *("int2", "int4", "int8", "oid", "numeric", "float4", "float8", "money"),
        *("text", "varchar", "bpchar", "name", "uuid", "pg_lsn"),
        *("date", "timestamp", "timestamptz", "time", "timetz"),
    )
)
"""Types whose values a cursor can follow: totally ordered by the server, and written as text it reads back exactly."""

_REFRESH: Final = "Refresh the source schema in the connection."


class Mode(Enum):
    """What a stream is asked for."""

    FULL_REFRESH = "full_refresh"
    """Everything, once in a job: a state that says complete belongs to an earlier attempt of the same job."""
    EVERYTHING = "everything"
    """Everything in every sync: asked for incremental, but there is no cursor."""
    CURSOR = "cursor"
    CHANGES = "changes"
    """Everything once, then what the write-ahead log tells."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """One configured stream, matched with the relation it names."""

    name: QualifiedName
    relation: Relation
    mode: Mode
    columns: tuple[str, ...]
    """The selected columns, in the relation's order."""
    cursor: str | None
    metadata: bool
    """Whether records carry the name of their chunk."""


def offered(registry: Registry, configuration: Configuration) -> list[Relation]:
    """The relations that become streams, by name; hypertables as the patterns choose."""
    settings = configuration.timescaledb
    return [
        relation
        for relation in registry.relations.values()
        if relation.columns
        and (relation.kind is not RelationKind.HYPERTABLE or settings.hypertables.selects(*relation.name))
        and (relation.kind is not RelationKind.CONTINUOUS_AGGREGATE or settings.continuous_aggregates)
    ]


def airbyte_catalog(registry: Registry, configuration: Configuration) -> AirbyteCatalog:
    """The catalog `discover` prints."""
    metadata = configuration.timescaledb.emit_chunk_metadata
    following = configuration.cdc is not None
    streams = [
        _stream(relation, metadata=metadata, followed=following and relation.followable)
        for relation in offered(registry, configuration)
        if relation.name != CHUNK_EVENTS
    ]
    if configuration.timescaledb.chunk_events and registry.server.extension is not None:
        streams.append(_chunk_events())
    return AirbyteCatalog(streams=streams)


def _chunk_events() -> AirbyteStream:
    """The stream of what becomes of chunks (`airbyte.chunk_events`)."""
    return AirbyteStream(
        name=CHUNK_EVENTS.name,
        namespace=CHUNK_EVENTS.schema,
        json_schema={
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": {name: dict(schema) for name, schema in CHUNK_EVENT_SCHEMAS.items()},
        },
        supported_sync_modes=[SyncMode.full_refresh, SyncMode.incremental],
        source_defined_cursor=True,
        default_cursor_field=["seen_at"],
        is_resumable=False,
    )


def _stream(relation: Relation, *, metadata: bool, followed: bool) -> AirbyteStream:
    properties = {column.name: json_schema(column.type, column.typmod) for column in relation.columns}
    if metadata and relation.hypertable is not None:
        properties[CHUNK_COLUMN] = dict(_CHUNK_SCHEMA)
    if followed:
        properties |= {name: dict(schema) for name, schema in _CDC_SCHEMAS.items()}
    modes = [SyncMode.full_refresh]
    if followed or any(_can_be_cursor(relation, column.name) for column in relation.columns):
        modes.append(SyncMode.incremental)
    cursor = LSN if followed else default_cursor(relation)
    return AirbyteStream(
        name=relation.name.name,
        namespace=relation.name.schema,
        json_schema={
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": properties,
        },
        supported_sync_modes=modes,
        source_defined_cursor=followed,
        default_cursor_field=[cursor] if cursor else None,
        source_defined_primary_key=[[column] for column in relation.key] or None,
        is_resumable=is_resumable(relation),
    )


def default_cursor(relation: Relation) -> str | None:
    """The time dimension, if our role may read it and it can be followed."""
    if relation.hypertable is None:
        return None
    time = relation.hypertable.time.column
    return time if _can_be_cursor(relation, time) else None


def is_resumable(relation: Relation) -> bool:
    """Whether a full refresh has positions to go on from: chunks, or a key."""
    return relation.divisible or (relation.hypertable is None and bool(relation.key))


def _can_be_cursor(relation: Relation, name: str) -> bool:
    column = relation.column(name)
    return column is not None and column.scalar in _ORDERED_TYPES


def check_catalog(catalog: ConfiguredAirbyteCatalog) -> None:
    """Refuse a catalog that asks for nothing, or for one stream twice.

    Raises ConfigurationError.
    """
    if not catalog.streams:
        raise ConfigurationError(
            "The configured catalog selects no stream.",
            remedy="Select at least one stream in the connection.",
        )
    counts = Counter(stream_name(configured) for configured in catalog.streams)
    twice = sorted(str(name) for name, count in counts.items() if count > 1)
    if twice:
        raise ConfigurationError(
            f"The configured catalog lists these streams more than once: {', '.join(twice)}.",
            remedy="List every stream once.",
        )


def stream_name(configured: ConfiguredAirbyteStream) -> QualifiedName:
    """A configured stream's name, in the schema `public` where it has no namespace."""
    return QualifiedName(configured.stream.namespace or DEFAULT_NAMESPACE, configured.stream.name)


def request(
    configured: ConfiguredAirbyteStream,
    relations: Iterable[Relation],
    registry: Registry,
    *,
    following: bool = False,
    before: Container[QualifiedName] = (),
) -> StreamRequest:
    """Match a configured stream with the database as it is now; with `following`, changes are read where they can be.

    `before` are the streams of which they were. Raises ConfigurationError if the stream, a selected column, the key or
    the cursor is not there any more.
    """
    name = stream_name(configured)
    relation = next((relation for relation in relations if relation.name == name), None)
    if relation is None and name in registry.relations:
        raise ConfigurationError(
            f"Stream {name} is left out by the settings in timescaledb.",
            remedy="Change include_hypertables, exclude_hypertables or continuous_aggregates, or remove the stream.",
        )
    if relation is None:
        raise ConfigurationError(
            f"Stream {name} is not in the database, or the role may not read it.",
            remedy=f"Grant SELECT on it, or remove the stream. {_REFRESH}",
            statements=[grant("SELECT ON", name, registry.server.role)] if name in registry.forbidden else (),
        )
    incremental = configured.sync_mode is SyncMode.incremental
    followed = following and incremental and relation.followable
    if followed and (error := guard_error(relation, registry.server.role)):
        raise error
    selected = _selected_columns(configured, relation)
    columns = tuple(column.name for column in relation.columns if column.name in selected)
    key = _deduplicated_by(configured, columns, relation.key)
    if followed:
        _check_told(relation, key)
        mode, cursor = Mode.CHANGES, None
    else:
        if following and incremental:
            _check_never_followed(configured, relation, before)
        mode, cursor = _mode(configured, relation)
    return StreamRequest(
        name=name,
        relation=relation,
        mode=mode,
        columns=columns,
        cursor=cursor,
        metadata=CHUNK_COLUMN in selected and relation.hypertable is not None,
    )


def aim_of(requests: Iterable[StreamRequest], cdc: Cdc, settings: Timescaledb, server: ServerFacts) -> Aim:
    """What is to be done with a server for the streams whose changes are followed."""
    followed = list(requests)
    return Aim(
        cdc,
        settings,
        server,
        [one.relation for one in followed],
        chosen=True,
        unselected={
            one.name: frozenset(column.name for column in one.relation.columns) - set(one.columns)
            for one in followed
        },
    )


def _check_never_followed(
    configured: ConfiguredAirbyteStream, relation: Relation, before: Container[QualifiedName]
) -> None:
    """Refuse to read an aggregate by a cursor after its changes were followed: the deletes since would be lost."""
    obstacle = relation.aggregate.obstacle if relation.aggregate is not None else None
    if obstacle is None or not (relation.name in before or configured.cursor_field == [LSN]):
        return
    raise ConfigurationError(
        f"The changes of {relation.name} were followed and cannot be any more: {obstacle.reason}",
        remedy=f"{obstacle.mend} If it had left the publication, refresh the stream too. Or, to read it without its "
        "changes, refresh the source schema in the connection and clear the stream.",
    )


def check_chunk_events(configured: ConfiguredAirbyteStream, settings: Timescaledb) -> None:
    """Refuse the stream of what becomes of chunks where it is not offered as it is asked for.

    Raises ConfigurationError.
    """
    if not settings.chunk_events:
        raise ConfigurationError(
            f"Stream {CHUNK_EVENTS} is left out by the settings in timescaledb.",
            remedy="Turn timescaledb.chunk_events on, or remove the stream.",
        )
    _deduplicated_by(configured, CHUNK_EVENT_SCHEMAS.keys() & _properties(configured, CHUNK_EVENT_SCHEMAS))


def _deduplicated_by(
    configured: ConfiguredAirbyteStream, columns: Container[str], own: Sequence[str] = ()
) -> frozenset[str]:
    """The key by which a destination keeps the newest of each row; empty where it keeps all.

    A connection that says nothing means the key that the source defined when it was made. Without one, or with one that
    does not come in `columns`, each row would replace the others or none. Raises ConfigurationError.
    """
    if configured.destination_sync_mode is not DestinationSyncMode.append_dedup:
        return frozenset()
    name = stream_name(configured)
    paths = configured.primary_key or configured.stream.source_defined_primary_key or [[one] for one in own]
    if not paths:
        raise ConfigurationError(
            f"Stream {name} has no primary key, and the connection asks to deduplicate by it.",
            remedy="Choose the key's columns in the connection, or the append mode.",
        )
    absent = [path for path in paths if len(path) != 1 or path[0] not in columns]
    if absent:
        raise ConfigurationError(
            f"The connection deduplicates {name} by what is no selected column of it: "
            f"{', '.join('.'.join(path) or 'an empty path' for path in absent)}.",
            remedy=f"Select the columns of the key, or choose another key. {_REFRESH}",
        )
    return frozenset(path[0] for path in paths)


def _check_told(relation: Relation, key: frozenset[str]) -> None:
    """Refuse a key of the connection that a change of the table's own would leave standing downstream.

    Also where the log tells old rows in whole: an update is told as one row unless it changes the table's key. Without
    any key all of a row is one.
    """
    if relation.key and not key <= set(relation.key):
        raise ConfigurationError(
            f"The connection deduplicates {relation.name} by {', '.join(sorted(key))}, and its changes tell rows apart "
            f"by {', '.join(relation.key)}: rows that were deleted would stay.",
            remedy="Refresh the source schema in the connection, then the stream with its data cleared.",
        )


def _properties(configured: ConfiguredAirbyteStream, present: Iterable[str]) -> frozenset[str]:
    """What the platform left selected in the schema; everything that is `present` where the schema lists nothing."""
    properties: dict[str, Any] | None = (configured.stream.json_schema or {}).get("properties")
    return frozenset(present if properties is None else properties)


def _selected_columns(configured: ConfiguredAirbyteStream, relation: Relation) -> frozenset[str]:
    """What is selected, all of which is there."""
    present = frozenset(column.name for column in relation.columns)
    selected = _properties(configured, present)
    missing = sorted(selected - present - {CHUNK_COLUMN, *_CDC_SCHEMAS})
    if missing:
        raise ConfigurationError(
            f"Stream {relation.name} no longer has these columns, or the role may not read them: "
            f"{', '.join(missing)}.",
            remedy=_REFRESH,
        )
    return selected


def _mode(configured: ConfiguredAirbyteStream, relation: Relation) -> tuple[Mode, str | None]:
    """How the stream is read; whole where there is no cursor: PyAirbyte asks for incremental of every stream."""
    if configured.sync_mode is SyncMode.full_refresh:
        return Mode.FULL_REFRESH, None
    path = configured.cursor_field or []
    cursor = path[0] if path else default_cursor(relation)
    if cursor is None:
        return Mode.EVERYTHING, None
    if len(path) > 1 or relation.column(cursor) is None:
        raise ConfigurationError(
            f"Stream {relation.name} cannot follow the cursor {'.'.join(path)}: it has no such column, or the role may "
            "not read it.",
            remedy=f"{_REFRESH} Then choose a column as the cursor that the stream has, or full refresh.",
        )
    if not _can_be_cursor(relation, cursor):
        raise ConfigurationError(
            f"Stream {relation.name} cannot follow the cursor {cursor}: values of its type have no order.",
            remedy="Choose a number, text, date, time or UUID column as the cursor, or full refresh.",
        )
    return Mode.CURSOR, cursor
