"""Builders for every protocol message but RECORD, whose lines are made where the rows are (`snapshot.held`).

Shapes: airbyte_protocol.yaml at protocol version 0.17. Times are milliseconds since 1970.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from typing import Any

from airbyte_cdk.models import (
    AirbyteErrorTraceMessage,
    AirbyteEstimateTraceMessage,
    AirbyteGlobalState,
    AirbyteMessage,
    AirbyteStateBlob,
    AirbyteStateMessage,
    AirbyteStateStats,
    AirbyteStateType,
    AirbyteStreamState,
    AirbyteStreamStatus,
    AirbyteStreamStatusTraceMessage,
    AirbyteTraceMessage,
    EstimateType,
    FailureType,
    StreamDescriptor,
    TraceType,
    Type,
)
from airbyte_cdk.utils.traced_exception import AirbyteTracedException

from source_timescaledb.errors import ConnectorError
from source_timescaledb.hypertables.model import QualifiedName


class SyncIncomplete(AirbyteTracedException):
    """The sync is over and some streams failed; each has emitted its own ERROR."""

    def __init__(self, failed: list[QualifiedName]) -> None:
        super().__init__(
            message=f"These streams did not sync: {', '.join(map(str, failed))}.",
            internal_message="Each stream has its own ERROR above.",
            failure_type=FailureType.system_error,
        )


def now_milliseconds() -> int:
    """The wall clock as the protocol counts it."""
    return time.time_ns() // 1_000_000


def descriptor(name: QualifiedName) -> StreamDescriptor:
    """A stream's name and namespace."""
    return StreamDescriptor(name=name.name, namespace=name.schema)


def stream_state(name: QualifiedName, state: Mapping[str, Any], record_count: int) -> AirbyteMessage:
    """A STATE of one stream, with the records emitted since its last one."""
    return AirbyteMessage(
        type=Type.STATE,
        state=AirbyteStateMessage(
            type=AirbyteStateType.STREAM,
            stream=AirbyteStreamState(
                stream_descriptor=descriptor(name), stream_state=AirbyteStateBlob(**state)
            ),
            sourceStats=AirbyteStateStats(recordCount=float(record_count)),
        ),
    )


def global_state(
    shared: Mapping[str, Any] | None, streams: Mapping[QualifiedName, Mapping[str, Any]], record_count: int
) -> AirbyteMessage:
    """A STATE of all streams together, and of what they share, with the records emitted since the last one."""
    return AirbyteMessage(
        type=Type.STATE,
        state=AirbyteStateMessage(
            type=AirbyteStateType.GLOBAL,
            global_=AirbyteGlobalState(
                shared_state=AirbyteStateBlob(**shared) if shared is not None else None,
                stream_states=[
                    AirbyteStreamState(
                        stream_descriptor=descriptor(name), stream_state=AirbyteStateBlob(**state)
                    )
                    for name, state in streams.items()
                ],
            ),
            sourceStats=AirbyteStateStats(recordCount=float(record_count)),
        ),
    )


def stream_status(name: QualifiedName, status: AirbyteStreamStatus) -> AirbyteMessage:
    """STARTED, RUNNING, COMPLETE or INCOMPLETE."""
    return _trace(
        TraceType.STREAM_STATUS,
        stream_status=AirbyteStreamStatusTraceMessage(stream_descriptor=descriptor(name), status=status),
    )


def estimate(name: QualifiedName, rows: int, size: int) -> AirbyteMessage:
    """How much a stream will emit in this sync, as far as the server's statistics tell."""
    return _trace(
        TraceType.ESTIMATE,
        estimate=AirbyteEstimateTraceMessage(
            name=name.name,
            namespace=name.schema,
            type=EstimateType.STREAM,
            row_estimate=rows,
            byte_estimate=size,
        ),
    )


def error_trace(error: BaseException, stream: QualifiedName | None = None) -> AirbyteMessage:
    """The one ERROR of a failure: a sentence for the user, the technical part beside it.

    Texts of exceptions that are not ours may hold row values or settings, so only their class and the places in the
    code are passed on.
    """
    if isinstance(error, ConnectorError):
        message, internal, stack = error.sentence, error.detail or type(error).__name__, None
        failure = FailureType(error.failure_type.value)
    elif isinstance(error, AirbyteTracedException):
        message, internal, stack = error.message or "", error.internal_message or "", None
        failure = error.failure_type
    else:
        message = "The connector met an unexpected failure. Please report it with the log of this sync."
        internal = type(error).__qualname__
        stack = "".join(traceback.format_tb(error.__traceback__))
        failure = FailureType.system_error
    return _trace(
        TraceType.ERROR,
        error=AirbyteErrorTraceMessage(
            message=message,
            internal_message=internal,
            stack_trace=stack,
            failure_type=failure,
            stream_descriptor=descriptor(stream) if stream else None,
        ),
    )


def traced(error: ConnectorError) -> AirbyteTracedException:
    """The same failure as airbyte-cdk raises it, for its own entrypoint and test harness."""
    return AirbyteTracedException(
        message=error.sentence,
        internal_message=error.detail or type(error).__name__,
        failure_type=FailureType(error.failure_type.value),
    )


def _trace(kind: TraceType, **body: Any) -> AirbyteMessage:
    return AirbyteMessage(
        type=Type.TRACE, trace=AirbyteTraceMessage(type=kind, emitted_at=float(now_milliseconds()), **body)
    )
