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
from typing import Any, Final, TypeGuard, TypeVar

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
_AS_EMITTED: Final = "Pass the state as a sync emitted it, or clear the connection's state to read all again."
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

    Raises ConfigurationError for a state of another type than STREAM, and for one that is no state.
    """
    states: dict[QualifiedName, Mapping[str, Any]] = {}
    for message in messages:
        stream = _stream(message)
        if stream is not None and _says_something(stream):
            name = _name(stream)
            states[name] = _object(stream["stream_state"], f"The state of stream {name}")
    return states


def _stream(message: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a state says of its one stream; None for a GLOBAL state that says nothing."""
    kind, stream = message.get("type", "STREAM"), message.get("stream")
    if kind == "STREAM" and isinstance(stream, Mapping):
        return stream
    if kind == "GLOBAL":
        shared, entries = _global(message)
        if shared is None and not any(map(_says_something, entries)):
            return None
    if kind == "STREAM" and "type" in message:
        raise ConfigurationError("A state of type STREAM holds no stream.", remedy=_AS_EMITTED)
    raise ConfigurationError(
        f"The state is of type {message.get('type', 'LEGACY')}, and this configuration keeps one per stream.",
        remedy="Clear the connection's state: it was written by another connector or replication method.",
    )


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
    state = _validated(ChunkEventsState, blob, f"The state of stream {name}")
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


@dataclass(frozen=True, slots=True)
class KeptStates:
    """What was kept of the last sync: of the streams whose changes were followed, and, as it came, of each other one."""

    followed: FollowedStates | None
    plain: Mapping[QualifiedName, Mapping[str, Any]]

    @property
    def streams(self) -> Mapping[QualifiedName, FollowedState]:
        """The streams that were followed."""
        return self.followed.streams if self.followed is not None else {}


def kept_states(
    messages: list[Mapping[str, Any]], database: DatabaseIdentity, *, following: bool
) -> KeptStates:
    """All that the states say; `following` where changes are followed, so that there may be a GLOBAL one.

    Raises ConfigurationError if anything in them is not ours.
    """
    if not following:
        return KeptStates(None, stream_states(messages))
    return KeptStates(followed_states(messages, database), stream_states(other_states(messages)))


def followed_states(messages: list[Mapping[str, Any]], database: DatabaseIdentity) -> FollowedStates | None:
    """The state of followed streams, from one GLOBAL state or, under `state_mode: stream`, from one for each stream.

    Where those differ, because a platform kept only some of the last, the lowest position counts, and the state is open.

    Raises ConfigurationError if anything in it is not ours.
    """
    positions: list[LogPosition] = []
    streams: dict[QualifiedName, FollowedState] = {}
    for message in messages:
        if message.get("type") == "GLOBAL":
            shared, entries = _global(message)
            followed = [entry for entry in entries if _is_followed(entry)]
            for one in followed:
                _add(streams, one)
            if shared is not None or followed:
                positions.append(_position(shared, "The shared state", database))
        elif _is_followed(entry := message.get("stream")):
            blob = dict(entry["stream_state"])
            position = blob.pop("shared", None)
            _add(streams, {**entry, "stream_state": blob})
            positions.append(_position(position, f"The state of stream {_name(entry)}", database))
    return _united(positions, streams)


def other_states(messages: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The states of streams that are not followed, each as one of type STREAM.

    Those in a GLOBAL state come last, so that they count: the first versions wrote the others beside it.
    """
    single = [
        message
        for message in messages
        if message.get("type") != "GLOBAL" and not _is_followed(message.get("stream"))
    ]
    return single + [
        {"type": "STREAM", "stream": entry}
        for message in messages
        if message.get("type") == "GLOBAL"
        for entry in _global(message)[1]
        if not _is_followed(entry)
    ]


def encode_followed(states: FollowedStates) -> tuple[dict[str, Any], dict[QualifiedName, dict[str, Any]]]:
    """The shared object, and the object of each stream."""
    shared = states.position.model_dump(mode="json", exclude_none=True)
    return shared, {
        name: state.model_dump(mode="json", exclude_none=True) for name, state in states.streams.items()
    }


def _global(message: Mapping[str, Any]) -> tuple[object, list[Mapping[str, Any]]]:
    """What is shared, and the states of streams, in a GLOBAL state. Raises ConfigurationError if it is damaged."""
    bodies = [message.get(key) for key in ("global", "global_")]
    body = next((body for body in bodies if isinstance(body, Mapping)), None)
    if body is None:
        raise ConfigurationError("A state of type GLOBAL holds no JSON object.", remedy=_AS_EMITTED)
    entries = body.get("stream_states")
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ConfigurationError(
            "The states of streams in the GLOBAL state are damaged or missing.", remedy=_AS_EMITTED
        )
    for entry in entries:
        _name(entry)
    return body.get("shared_state"), entries


def _says_something(entry: Mapping[str, Any]) -> bool:
    """Whether there is a state in an entry: null and an empty object are none."""
    return entry.get("stream_state") not in (None, {})


def _is_followed(entry: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a state says that it is of a stream whose changes were followed."""
    blob = entry.get("stream_state") if isinstance(entry, Mapping) else None
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


def _add(streams: dict[QualifiedName, FollowedState], entry: Mapping[str, Any]) -> None:
    name = _name(entry)
    streams[name] = _validated(FollowedState, entry["stream_state"], f"The state of stream {name}")


def _object(blob: object, what: str) -> Mapping[str, Any]:
    if not isinstance(blob, Mapping):
        raise ConfigurationError(f"{what} is missing or no JSON object.", remedy=_RESET)
    return blob


Known = TypeVar("Known", LogPosition, FollowedState, ChunkEventsState)


def _validated(model: type[Known], blob: object, what: str) -> Known:
    known = _object(blob, what)
    if known.get("version") != VERSION:
        raise ConfigurationError(
            f"{what} has version {known.get('version')!r}, and this connector reads version {VERSION}.",
            remedy=f"Use the connector that wrote it. {_RESET}",
        )
    try:
        return model.model_validate(dict(known))
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, part["loc"])) for part in error.errors()}))
        raise ConfigurationError(f"{what} is damaged at: {where}.", remedy=_RESET) from None


def _position(blob: object, what: str, database: DatabaseIdentity) -> LogPosition:
    state = _validated(LogPosition, blob, what)
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
