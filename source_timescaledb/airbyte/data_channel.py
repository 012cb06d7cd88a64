"""Airbyte's data channel: where records go, and what else the destination is told directly.

    STDIO   everything is a line on stdout, and Airbyte's orchestrator passes it on
    SOCKET  records go to the destination itself, over several Unix sockets at once; STATEs and stream statuses, too, and
            to stdout besides; logs, errors and estimates only to stdout

The platform says which by environment variables, once both sides have declared what they can (`connectorIPCOptions` in
metadata.yaml). Only the serialization as JSON lines is spoken here. What destinations rely on: `airbyte.partitions`.

Over the sockets a STATE follows when all records that it counts are with the system: the process may die right after.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

import orjson
from airbyte_cdk.models import AirbyteMessage

from source_timescaledb.airbyte.partitions import Partitions
from source_timescaledb.airbyte.sink import ByteSink, RecordSink, write_out
from source_timescaledb.airbyte.sockets import Lanes
from source_timescaledb.config.environment import Environment, text_of
from source_timescaledb.errors import ConfigurationError
from source_timescaledb.hypertables.model import QualifiedName

MEDIUM: Final = "DATA_CHANNEL_MEDIUM"
FORMAT: Final = "DATA_CHANNEL_FORMAT"
PATHS: Final = "DATA_CHANNEL_SOCKET_PATHS"
JSONL: Final = "JSONL"


class Medium(str, Enum):
    """The media of the data channel."""

    STDIO = "STDIO"
    SOCKET = "SOCKET"


class Channel(RecordSink, Protocol):
    """Takes records, and every other line that is printed."""

    def opened(self, stopped: Callable[[], bool]) -> AbstractContextManager[None]:
        """Be ready for the records of a sync until it has ended. Raises ConnectorError."""

    def tell(self, line: str) -> None:
        """Emit a message other than a RECORD, as one line. Raises BrokenPipeError or ReceiverGone."""


class StdioChannel(ByteSink):
    """Everything to stdout."""

    def opened(self, stopped: Callable[[], bool]) -> AbstractContextManager[None]:  # noqa: ARG002 - the protocol's
        """It always is."""
        return nullcontext()

    def tell(self, line: str) -> None:
        """Print it. Raises BrokenPipeError when nobody reads stdout any more."""
        write_out([f"{line}\n".encode()])


class SocketChannel:
    """Records to the sockets that the environment names; before it is opened, and for other commands, only stdout."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._partitions = Partitions(secrets.token_hex(3))
        self._lanes: Lanes | None = None

    @property
    def lanes(self) -> int:
        """How many sockets there are."""
        return len(self._lanes) if self._lanes is not None else 1

    @contextmanager
    def opened(self, stopped: Callable[[], bool]) -> Iterator[None]:
        """Listen until the sync has ended.

        A sync that ends by itself waits until every reader has seen the end. Raises ConfigurationError for an environment
        that cannot be, ReceiverGone.
        """
        paths = socket_paths(self._environment)
        try:
            lanes = self._lanes = Lanes(paths, stopped, time.monotonic)
        except OSError as error:
            raise ConfigurationError(
                f"There can be no socket at {', '.join(map(str, paths))}: {error.strerror or error}.",
                remedy=f"{PATHS} must name files in a folder that the connector may write to.",
            ) from None
        try:
            yield
        except BaseException:
            lanes.close(patiently=False)
            raise
        lanes.close(patiently=True)

    def write(
        self, pieces: Iterable[bytes], counted_by: Sequence[QualifiedName] = ()
    ) -> Iterator[AirbyteMessage]:
        """Emit whole lines, over all sockets."""
        lanes = self._connected
        for piece in pieces:
            lanes.give(self._partitions.label(piece, counted_by))
        return iter(())

    def write_in_order(
        self, lines: bytes, counted_by: Sequence[QualifiedName] = ()
    ) -> Iterator[AirbyteMessage]:
        """Emit whole lines over the one socket that keeps their order."""
        self._connected.give_in_order(self._partitions.label(lines, counted_by))
        return iter(())

    def tell(self, line: str) -> None:
        """Print it, and pass on what the destination needs. Raises BrokenPipeError or ReceiverGone."""
        told = f"{line}\n".encode()
        message = orjson.loads(told)
        match message:
            case {"type": "STATE", "state": state} if self._lanes is not None:
                self._lanes.flush()
                self._partitions.close(state)
                told = orjson.dumps(message) + b"\n"
            case {"type": "TRACE", "trace": {"type": "STREAM_STATUS"}} if self._lanes is not None:
                pass
            case _:
                write_out([told])
                return
        write_out([told])
        self._lanes.give_in_order(told)

    @property
    def _connected(self) -> Lanes:
        assert self._lanes is not None, "records before the channel is open"
        return self._lanes


def data_channel(environment: Environment) -> Channel:
    """The channel that the platform asks for; what is wrong with its wish is said when it is opened."""
    asked = text_of(environment, MEDIUM) or Medium.STDIO.value
    return StdioChannel() if asked == Medium.STDIO.value else SocketChannel(environment)


def socket_paths(environment: Environment) -> list[Path]:
    """Where to listen. Raises ConfigurationError for a medium or format that is not spoken here, and without paths."""
    medium, serialization = text_of(environment, MEDIUM), text_of(environment, FORMAT) or JSONL
    if medium != Medium.SOCKET.value or serialization != JSONL:
        raise ConfigurationError(
            f"The data channel {medium} with the format {serialization} is not spoken by this connector.",
            remedy=f"Set {MEDIUM} to STDIO, or to SOCKET with {FORMAT}={JSONL}, as its metadata.yaml declares.",
        )
    paths = [Path(path.strip()) for path in text_of(environment, PATHS).split(",") if path.strip()]
    if not paths:
        raise ConfigurationError(
            "The data channel is to be sockets, and none is named.",
            remedy=f"Set {PATHS} to the paths of the sockets, with commas between them.",
        )
    return paths
