"""Reads the state a platform hands us and writes the one we hand back.

Platforms hand the same state over in several dresses: a list of state messages, one bare message, PyAirbyte's dump
with `global_` and explicit nulls. All are undressed here. What is inside must be ours, of a version we know and of
the database we are connected to: anything else is a configuration error that says what to do, because taking it as
empty would read everything again, and taking it as ours could skip rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from source_timescaledb.errors import ConfigurationError
from source_timescaledb.hypertables.model import QualifiedName, ServerFacts
from source_timescaledb.state.model import VERSION, DatabaseIdentity, StreamState

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
        descriptor = stream.get("stream_descriptor") or {}
        blob = stream.get("stream_state")
        if blob:
            states[
                QualifiedName(descriptor.get("namespace") or DEFAULT_NAMESPACE, descriptor.get("name") or "")
            ] = blob
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


def same_database(one: DatabaseIdentity, other: DatabaseIdentity) -> bool:
    """Whether two identities name one database; an unknown cluster identity is not held against it."""
    clusters_differ = bool(one.system and other.system) and one.system != other.system
    return not clusters_differ and (one.oid, one.name) == (other.oid, other.name)


def encode(state: StreamState) -> dict[str, Any]:
    """The JSON object of a stream's state, without the parts that say nothing."""
    return state.model_dump(mode="json", exclude_none=True)
