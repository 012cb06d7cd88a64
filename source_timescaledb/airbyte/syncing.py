"""The streams of one sync: those whose changes are followed, all together, then the others, one after the other.

The followed ones share one position in the log, so they come first and stand or fall together. Each of the others fails
by itself: it has told its error and its status when the next one begins.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

from airbyte_cdk.models import AirbyteMessage, AirbyteStreamStatus, ConfiguredAirbyteCatalog, SyncMode

from source_timescaledb.airbyte.catalog import (
    CHUNK_EVENTS,
    Mode,
    StreamRequest,
    offered,
    request,
    stream_name,
)
from source_timescaledb.airbyte.chunk_events import read_chunk_events
from source_timescaledb.airbyte.following import Following
from source_timescaledb.airbyte.messages import SyncIncomplete, error_trace, stream_status
from source_timescaledb.airbyte.reading import StreamReading
from source_timescaledb.airbyte.session import Session
from source_timescaledb.errors import ConnectorError
from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.postgres.connection import ConnectionSettings
from source_timescaledb.state.codec import FollowedStates, KeptStates, decode, kept_states


def read_all(
    session: Session, catalog: ConfiguredAirbyteCatalog, states: list[Mapping[str, Any]]
) -> Iterator[AirbyteMessage]:
    """Everything that the configured streams emit.

    Raises SyncIncomplete at the end when a stream failed, and ConnectorError where the sync as a whole cannot run.
    """
    following = session.configuration.cdc is not None
    kept = kept_states(states, session.identity, following=following)
    known, plain = kept.streams, kept.plain
    names = {stream_name(configured) for configured in catalog.streams}
    session.lookout.recall({**plain, **{name: state.model_dump() for name, state in known.items()}})
    for name in sorted((set(plain) | set(known)) - names):
        session.logger.info("The state of %s is dropped: the stream is not configured any more.", name)
    requests, failed = yield from _requests(session, catalog, kept, following=following)
    followed = [one for one in requests if one.mode is Mode.CHANGES]
    lost = [name for name in failed if name in known]
    session.states.recall(kept, names, known if lost else {one.name for one in followed})
    if lost:
        failed += yield from _stay(session, followed, lost)
    elif followed:
        failed += yield from _follow(session, followed, kept.followed)
    for wanted in requests:
        if wanted.mode is not Mode.CHANGES and (yield from _read_stream(session, wanted, plain)):
            failed.append(wanted.name)
            if not session.reachable():
                session.stop.set()
    failed += yield from read_chunk_events(session, catalog, plain)
    if failed:
        raise SyncIncomplete(failed)


def _requests(
    session: Session,
    catalog: ConfiguredAirbyteCatalog,
    kept: KeptStates,
    *,
    following: bool,
) -> Generator[AirbyteMessage, None, tuple[list[StreamRequest], list[QualifiedName]]]:
    """What is asked for, and the streams for which that cannot be done: each has emitted its error."""
    relations = offered(session.registry, session.configuration)
    before = kept.streams
    requests: list[StreamRequest] = []
    failed: list[QualifiedName] = []
    for configured in catalog.streams:
        name = stream_name(configured)
        if name == CHUNK_EVENTS:
            continue
        try:
            wanted = request(configured, relations, session.registry, following=following, before=before)
            if wanted.mode is Mode.CHANGES and name in kept.plain and name not in before:
                _pass_over(session, name, kept.plain[name])
            requests.append(wanted)
            if following and configured.sync_mode is SyncMode.incremental:
                _tell_unfollowed(session, wanted)
        except ConnectorError as error:
            failed.append(name)
            yield error_trace(error, name)
            yield stream_status(name, AirbyteStreamStatus.INCOMPLETE)
    return requests, failed


def _pass_over(session: Session, name: QualifiedName, state: Mapping[str, Any]) -> None:
    """Say that a stream was not followed before. Raises ConfigurationError if its state is not ours."""
    decode(name, state, session.identity)
    session.logger.warning("%s was synced in another mode before: it is read from the start.", name)


def _tell_unfollowed(session: Session, wanted: StreamRequest) -> None:
    """Say what it takes to follow an aggregate of which the changes could be followed."""
    aggregate = wanted.relation.aggregate
    if aggregate is not None and aggregate.obstacle is not None:
        session.logger.warning(
            "The changes of %s are not followed: %s To follow them: %s",
            wanted.name,
            aggregate.obstacle.reason,
            aggregate.obstacle.mend,
        )


def _stay(
    session: Session, requests: list[StreamRequest], lost: list[QualifiedName]
) -> Generator[AirbyteMessage, None, list[QualifiedName]]:
    """Follow nothing: the position is shared, and moving it would lose the changes of those that cannot be told."""
    for wanted in requests:
        session.logger.warning(
            "The changes of %s wait until those of %s can be told again, or are not asked for any more.",
            wanted.name,
            ", ".join(map(str, lost)),
        )
        yield stream_status(wanted.name, AirbyteStreamStatus.INCOMPLETE)
    return [wanted.name for wanted in requests]


def _follow(
    session: Session, requests: list[StreamRequest], before: FollowedStates | None
) -> Generator[AirbyteMessage, None, list[QualifiedName]]:
    settings = ConnectionSettings.from_configuration(session.configuration)
    following = Following(session, settings, requests, before)
    yield from following.messages()
    return following.failed


def _read_stream(
    session: Session,
    wanted: StreamRequest,
    states: Mapping[QualifiedName, Mapping[str, Any]],
) -> Generator[AirbyteMessage, None, bool]:
    """Read one stream; whether it failed."""
    name = wanted.name
    if session.stop.is_set():
        yield stream_status(name, AirbyteStreamStatus.INCOMPLETE)
        return False
    try:
        before = decode(name, states[name], session.identity) if name in states else None
    except ConnectorError as error:
        yield error_trace(error, name)
        yield stream_status(name, AirbyteStreamStatus.INCOMPLETE)
        return True
    reading = StreamReading(session, wanted, before)
    yield from reading.messages()
    return reading.failed
