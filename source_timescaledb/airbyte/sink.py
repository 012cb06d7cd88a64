"""Where RECORD lines leave the process.

A record never becomes an object on its way out: the server rendered its JSON, the reader joined it with its envelope,
and here the bytes go to stdout as they are. airbyte-cdk prints everything else (logs, states, traces) through
`PRINT_BUFFER`, which buffers for a tenth of a second; both meet under its lock, so lines never interleave, and a
STATE, which is printed after the records it counts, also arrives after them.

The bytes go past Python's own buffer, straight to the descriptor: `io.BufferedWriter` loses what is left of a write to
a pipe that a signal has cut short (seen on 3.11.7: ten SIGTERMs with a handler cost 300 KB out of 24 MB, in nine runs
of ten), and a signal is how a sync is told to stop.

Records may go to the destination over sockets instead (`airbyte.data_channel`).

Run inside a test harness that reads messages from `Source.read` instead of stdout (airbyte-cdk's `EntrypointWrapper`,
PyAirbyte's in-process mode), there is no sink: `ObjectSink` then turns the same bytes into messages.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import orjson
from airbyte_cdk.logger import PRINT_BUFFER
from airbyte_cdk.models import AirbyteMessage, AirbyteRecordMessage, Type
from airbyte_protocol_dataclasses.models import (
    AirbyteRecordMessageMeta,
    AirbyteRecordMessageMetaChange,
    Change,
    Reason,
)

from source_timescaledb.hypertables.model import QualifiedName


class RecordSink(Protocol):
    """Takes record lines; what it returns is to be yielded from `Source.read`.

    `counted_by` names the streams that the lines are of; it is empty where the GLOBAL STATE counts them.
    """

    @property
    def lanes(self) -> int:
        """How many writers take records at the same time."""

    def write(
        self, pieces: Iterable[bytes], counted_by: Sequence[QualifiedName] = ()
    ) -> Iterator[AirbyteMessage]:
        """Emit whole lines, in any order with other lines since the last STATE."""

    def write_in_order(
        self, lines: bytes, counted_by: Sequence[QualifiedName] = ()
    ) -> Iterator[AirbyteMessage]:
        """Emit whole lines after all that were written in order before."""


class ByteSink:
    """Writes lines to the real stdout. Raises BrokenPipeError when nobody reads it any more."""

    lanes = 1

    def write(
        self,
        pieces: Iterable[bytes],
        counted_by: Sequence[QualifiedName] = (),  # noqa: ARG002 - the protocol's: a STATE counts what is before it
    ) -> Iterator[AirbyteMessage]:
        """Emit whole lines after everything that was printed before."""
        write_out(pieces)
        return iter(())

    def write_in_order(
        self, lines: bytes, counted_by: Sequence[QualifiedName] = ()
    ) -> Iterator[AirbyteMessage]:
        """The same: there is only one order."""
        return self.write([lines], counted_by)


def write_out(pieces: Iterable[bytes]) -> None:
    """Write whole lines to the real stdout, after everything that was printed before.

    Raises BrokenPipeError when nobody reads it any more.
    """
    assert sys.__stdout__ is not None
    with PRINT_BUFFER.lock:
        PRINT_BUFFER.flush()
        descriptor = sys.__stdout__.fileno()
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[os.write(descriptor, left) :]


class ObjectSink:
    """Yields a message for each line."""

    lanes = 1

    def write(
        self,
        pieces: Iterable[bytes],
        counted_by: Sequence[QualifiedName] = (),  # noqa: ARG002 - as above
    ) -> Iterator[AirbyteMessage]:
        """Parse the lines back."""
        for piece in pieces:
            for line in piece.splitlines():
                yield _message(orjson.loads(line)["record"])

    def write_in_order(
        self, lines: bytes, counted_by: Sequence[QualifiedName] = ()
    ) -> Iterator[AirbyteMessage]:
        """The same."""
        return self.write([lines], counted_by)


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
