"""Where RECORD lines leave the process.

A record never becomes an object on its way out: the server rendered its JSON, the reader joined it with its envelope,
and here the bytes go to stdout as they are. airbyte-cdk prints everything else (logs, states, traces) through
`PRINT_BUFFER`, which buffers for a tenth of a second; both meet under its lock, so lines never interleave, and a
STATE, which is printed after the records it counts, also arrives after them.

Run inside a test harness that reads messages from `Source.read` instead of stdout (airbyte-cdk's `EntrypointWrapper`,
PyAirbyte's in-process mode), there is no sink: `ObjectSink` then turns the same bytes into messages.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any, Protocol

import orjson
from airbyte_cdk.logger import PRINT_BUFFER
from airbyte_cdk.models import AirbyteMessage, AirbyteRecordMessage, Type
from airbyte_protocol_dataclasses.models import (
    AirbyteRecordMessageMeta,
    AirbyteRecordMessageMetaChange,
    Change,
    Reason,
)


class RecordSink(Protocol):
    """Takes record lines; what it returns is to be yielded from `Source.read`."""

    def write(self, pieces: Iterable[bytes]) -> Iterator[AirbyteMessage]:
        """Emit whole lines."""


class ByteSink:
    """Writes lines to the real stdout. Raises BrokenPipeError when nobody reads it any more."""

    def __init__(self, stdout: IO[bytes] | None = None) -> None:
        assert sys.__stdout__ is not None
        self._stdout = stdout or sys.__stdout__.buffer

    def write(self, pieces: Iterable[bytes]) -> Iterator[AirbyteMessage]:
        """Emit whole lines after everything that was printed before."""
        with PRINT_BUFFER.lock:
            PRINT_BUFFER.flush()
            for piece in pieces:
                self._stdout.write(piece)
            self._stdout.flush()
        return iter(())


class ObjectSink:
    """Yields a message for each line."""

    def write(self, pieces: Iterable[bytes]) -> Iterator[AirbyteMessage]:
        """Parse the lines back."""
        for piece in pieces:
            for line in piece.splitlines():
                yield _message(orjson.loads(line)["record"])


def _message(record: dict[str, Any]) -> AirbyteMessage:
    meta = record.pop("meta", None)
    changes = [_change(change) for change in meta["changes"]] if meta else None
    return AirbyteMessage(
        type=Type.RECORD,
        record=AirbyteRecordMessage(
            **record, meta=AirbyteRecordMessageMeta(changes=changes) if changes else None
        ),
    )


def _change(change: dict[str, str]) -> AirbyteRecordMessageMetaChange:
    return AirbyteRecordMessageMetaChange(
        field=change["field"], change=Change(change["change"]), reason=Reason(change["reason"])
    )
