"""Reads the state a platform hands us and writes the one we hand back.

Platforms hand the same state over in several dresses: a list of state messages, one bare message, PyAirbyte's dump
with `global_` and explicit nulls. All are undressed here. What is inside must be ours, of a version we know and of
the database we are connected to: anything else is a configuration error that says what to do, because taking it as
empty would read everything again, and taking it as ours could skip rows.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from source_timescaledb.errors import ConfigurationError
from source_timescaledb.hypertables.chunk_memory import ChunkMemory, pack, unpack
from source_timescaledb.hypertables.model import QualifiedName, ServerFacts
from source_timescaledb.lsn import Lsn
from source_timescaledb.state.model import (
    VERSION,
    ChunkEventsState,
    DatabaseIdentity,
    FollowedState,
    LogPosition,
    StreamState,
)

_LSN: Final = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")
_RESET: Final = "Clear the stream's state (refresh it in Airbyte) to read it again from the start."


DEFAULT_NAMESPACE: Final = "public"
"""The schema of a stream whose descriptor names none."""


def database_identity(server: ServerFacts) -> DatabaseIdentity:
    """The identity that states of this database carry."""
    return DatabaseIdentity(system=server.system_identifier, oid=server.database_oid, name=server.database)


def undress(raw: object) -> list[Mapping[str, Any]]:
    """The state messages in any of the shapes platforms hand over.

    Raises ConfigurationError for anything that is not a JSON list or object of states.
    """
    if not raw:
        return []
    return [_unwrap(message) for message in (raw if isinstance(raw, list) else [raw])]


def _unwrap(message: object) -> Mapping[str, Any]:
    if not isinstance(message, Mapping):
        raise ConfigurationError(
            "The state file holds something that is not a state message.",
            remedy="Pass the state exactly as a previous sync emitted it, or none.",
        )
    inner = message.get("state") if message.get("type") == "STATE" else message
    return inner if isinstance(inner, Mapping) else message


def stream_states(messages: list[Mapping[str, Any]]) -> dict[QualifiedName, Mapping[str, Any]]:
    """The raw stream states by (namespace, name); streams with a null or empty state are left out.

    Raises ConfigurationError for a state of another type than STREAM.
    """
    states: dict[QualifiedName, Mapping[str, Any]] = {}
    for message in messages:
        stream = message.get("stream")
        if message.get("type", "STREAM") != "STREAM" or not isinstance(stream, Mapping):
            raise ConfigurationError(
                f"The state is of type {message.get('type', 'LEGACY')}, and this configuration keeps one per stream.",
                remedy="Clear the connection's state: it was written by another connector or replication method.",
            )
        if blob := stream.get("stream_state"):
            states[_name(stream)] = blob
    return states


def decode(name: QualifiedName, blob: Mapping[str, Any], database: DatabaseIdentity) -> StreamState:
    """A stream's state, proved to be ours.

    Raises ConfigurationError if its version, its shape or its database is not ours.
    """
    version = blob.get("version")
    if version != VERSION:
        raise ConfigurationError(
            f"The state of stream {name} has version {version!r}, and this connector reads version {VERSION}.",
            remedy=f"Use the connector that wrote it. {_RESET}",
        )
    try:
        state = StreamState.model_validate(dict(blob))
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, part["loc"])) for part in error.errors()}))
        raise ConfigurationError(
            f"The state of stream {name} is damaged at: {where}.", remedy=_RESET
        ) from None
    if not same_database(state.database, database):
        raise ConfigurationError(
            f"The state of stream {name} was written for another database "
            f"(database {state.database.name} of cluster {state.database.system or 'unknown'}).",
            remedy=f"Connect to the database the state belongs to. {_RESET}",
        )
    return state


def decode_chunk_events(
    name: QualifiedName, blob: Mapping[str, Any], database: DatabaseIdentity
) -> tuple[ChunkMemory, int | None]:
    """All chunks as the stream of chunk events last knew them, and the position of the log by which they were so.

    Raises ConfigurationError if the state's version, shape or database is not ours.
    """
    state = _validated(ChunkEventsState, blob, f"The state of stream {name}", database)
    if not same_database(state.database, database):
        raise ConfigurationError(
            f"The state of stream {name} was written for another database (database {state.database.name} of cluster "
            f"{state.database.system or 'unknown'}).",
            remedy=f"Connect to the database the state belongs to. {_RESET}",
        )
    try:
        return unpack(base64.b64decode(state.memory, validate=True)), state.lsn
    except ValueError:
        raise ConfigurationError(
            f"The state of stream {name} is damaged at: memory.", remedy=_RESET
        ) from None


def encode_chunk_events(
    memory: ChunkMemory, lsn: int | None, database: DatabaseIdentity
) -> tuple[dict[str, Any], bool]:
    """The JSON object that remembers all chunks, or as many as fit; whether that is those of all hypertables."""
    packed = pack(memory)
    text = base64.b64encode(packed.content).decode()
    state = ChunkEventsState(database=database, memory=text, lsn=lsn)
    return state.model_dump(mode="json", exclude_none=True), packed.complete


def same_database(one: DatabaseIdentity, other: DatabaseIdentity) -> bool:
    """Whether two identities name one database; an unknown cluster identity is not held against it."""
    clusters_differ = bool(one.system and other.system) and one.system != other.system
    return not clusters_differ and (one.oid, one.name) == (other.oid, other.name)


def encode(state: StreamState) -> dict[str, Any]:
    """The JSON object of a stream's state, without the parts that say nothing."""
    return state.model_dump(mode="json", exclude_none=True)


@dataclass(frozen=True, slots=True)
class FollowedStates:
    """What was kept of a sync that followed changes."""

    position: LogPosition
    streams: Mapping[QualifiedName, FollowedState]


def followed_states(messages: list[Mapping[str, Any]], database: DatabaseIdentity) -> FollowedStates | None:
    """The state of followed streams, from one GLOBAL state or, under `state_mode: stream`, from one for each stream.

    Where those differ, because a platform kept only some of the last, the lowest position counts, and the state is open.

    Raises ConfigurationError if anything in it is not ours.
    """
    positions: list[LogPosition] = []
    streams: dict[QualifiedName, FollowedState] = {}
    for message in messages:
        match message:
            case {"type": "GLOBAL", "global": Mapping() as shared} | {
                "type": "GLOBAL",
                "global_": Mapping() as shared,
            }:
                positions.append(
                    _validated(LogPosition, shared.get("shared_state"), "The shared state", database)
                )
                for entry in _entries(shared.get("stream_states")):
                    _add(streams, entry, database)
            case {"stream": Mapping() as entry} if _is_followed(entry):
                blob = dict(entry["stream_state"])
                shared_blob = blob.pop("shared", None)
                name = _add(streams, {**entry, "stream_state": blob}, database)
                positions.append(
                    _validated(LogPosition, shared_blob, f"The state of stream {name}", database)
                )
            case _:
                continue
    return _united(positions, streams)


def other_states(messages: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The states of streams that are not followed."""
    return [
        message
        for message in messages
        if message.get("type") != "GLOBAL" and not _is_followed(message.get("stream") or {})
    ]


def encode_followed(states: FollowedStates) -> tuple[dict[str, Any], dict[QualifiedName, dict[str, Any]]]:
    """The shared object, and the object of each stream."""
    shared = states.position.model_dump(mode="json", exclude_none=True)
    return shared, {
        name: state.model_dump(mode="json", exclude_none=True) for name, state in states.streams.items()
    }


def _is_followed(entry: Mapping[str, Any]) -> bool:
    blob = entry.get("stream_state")
    return isinstance(blob, Mapping) and blob.get("state_type") == "cdc"


def _name(entry: Mapping[str, Any]) -> QualifiedName:
    """The stream that a state belongs to."""
    match entry.get("stream_descriptor"):
        case {"name": str(name), "namespace": str(namespace)} if name:
            return QualifiedName(namespace or DEFAULT_NAMESPACE, name)
        case {"name": str(name), **rest} if name and rest.get("namespace") is None:
            return QualifiedName(DEFAULT_NAMESPACE, name)
        case _:
            raise ConfigurationError("A stream's state does not name its stream.", remedy=_RESET)


def _entries(states: object) -> list[Mapping[str, Any]]:
    """The states of streams in a GLOBAL state."""
    if states is None:
        return []
    if not isinstance(states, list) or not all(isinstance(entry, Mapping) for entry in states):
        raise ConfigurationError("The states of streams in the GLOBAL state are damaged.", remedy=_RESET)
    return states


def _add(
    streams: dict[QualifiedName, FollowedState], entry: Mapping[str, Any], database: DatabaseIdentity
) -> QualifiedName:
    name = _name(entry)
    if entry.get("stream_state"):
        streams[name] = _validated(
            FollowedState, entry["stream_state"], f"The state of stream {name}", database
        )
    return name


Known = TypeVar("Known", LogPosition, FollowedState, ChunkEventsState)


def _validated(model: type[Known], blob: object, what: str, database: DatabaseIdentity) -> Known:
    if not isinstance(blob, Mapping):
        raise ConfigurationError(f"{what} is missing or no JSON object.", remedy=_RESET)
    if blob.get("version") != VERSION:
        raise ConfigurationError(
            f"{what} has version {blob.get('version')!r}, and this connector reads version {VERSION}.",
            remedy=f"Use the connector that wrote it. {_RESET}",
        )
    try:
        state = model.model_validate(dict(blob))
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, part["loc"])) for part in error.errors()}))
        raise ConfigurationError(f"{what} is damaged at: {where}.", remedy=_RESET) from None
    if isinstance(state, LogPosition):
        _check_position(state, what, database)
    return state


def _check_position(state: LogPosition, what: str, database: DatabaseIdentity) -> None:
    if not same_database(state.database, database):
        raise ConfigurationError(
            f"{what} was written for another database (database {state.database.name} of cluster "
            f"{state.database.system or 'unknown'}).",
            remedy=f"Connect to the database the state belongs to. {_RESET}",
        )
    for name, sound in (("lsn", _LSN.fullmatch(state.lsn)), ("clock", 0 <= state.clock < 2**63)):
        if not sound:
            raise ConfigurationError(f"{what} is damaged at: {name}.", remedy=_RESET)


def _united(
    positions: list[LogPosition], streams: dict[QualifiedName, FollowedState]
) -> FollowedStates | None:
    if not positions:
        return None
    lowest = min(positions, key=lambda position: Lsn.parse(position.lsn))
    uneven = any(position.lsn != lowest.lsn for position in positions)
    together = {
        "open": uneven or any(position.open for position in positions),
        "clock": max(position.clock for position in positions),
    }
    return FollowedStates(lowest.model_copy(update=together), streams)
