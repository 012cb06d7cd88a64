"""The command line: airbyte-cdk's, with three differences.

- Records go to stdout as bytes, so the counts in STATE are ours; the stock entrypoint counts messages it never sees.
- A failure is one TRACE ERROR and a non-zero exit; the stock hook prints the exception's text too, which may hold
  values.
- SIGTERM and SIGINT end a read in order: the slice being written is finished, the STATE follows, then INCOMPLETE, and
  the process ends by that same signal. A second signal ends it at once.

Nothing but protocol lines may reach stdout: whatever else prints there is sent to stderr.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from types import FrameType
from typing import Any, Final

import orjson
from airbyte_cdk.entrypoint import AirbyteEntrypoint
from airbyte_cdk.models import AirbyteMessage, AirbyteMessageSerializer, ConnectorSpecification
from airbyte_cdk.sources.connector_state_manager import HashableStreamDescriptor
from airbyte_cdk.sources.source import Source

from source_timescaledb.airbyte.data_channel import Channel
from source_timescaledb.airbyte.logs import tell_events_singly
from source_timescaledb.airbyte.messages import SyncIncomplete, error_trace
from source_timescaledb.airbyte.sink import write_out

FAILED: Final = 1
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class TimescaledbEntrypoint(AirbyteEntrypoint):
    """airbyte-cdk's entrypoint, which leaves counts and configuration to the source."""

    @staticmethod
    def handle_record_counts(
        message: AirbyteMessage,
        stream_message_count: defaultdict[HashableStreamDescriptor, float],  # noqa: ARG004 - the CDK's signature
    ) -> AirbyteMessage:
        """Every STATE already carries the exact count."""
        return message

    @staticmethod
    def validate_connection(source_spec: ConnectorSpecification, config: Mapping[str, Any]) -> None:
        """`config.reading` says what is wrong, better than a schema validator."""


def launch(source: Source, arguments: list[str], stop: threading.Event, channel: Channel) -> int:
    """Run one command; the exit status. Ends the process by the signal that stopped it, if one did."""
    entrypoint = TimescaledbEntrypoint(source)
    parsed = entrypoint.parse_args(arguments)
    tell_events_singly()
    logging.raiseExceptions = False  # a line that nobody reads any more is no reason for a traceback
    reads = parsed.command == "read"
    with redirect_stdout(sys.stderr), _orderly_end(stop, when=reads):
        try:
            with channel.opened(stop.is_set) if reads else nullcontext():
                for line in entrypoint.run(parsed):
                    channel.tell(line)
        except SyncIncomplete:
            return FAILED
        except BrokenPipeError:
            return _nobody_reads()
        except Exception as error:  # noqa: BLE001 - the last place where a failure can be told
            return _tell(error)
    return 0


def _tell(error: Exception) -> int:
    try:
        write_out([orjson.dumps(AirbyteMessageSerializer.dump(error_trace(error))) + b"\n"])
    except BrokenPipeError:
        return _nobody_reads()
    return FAILED


def _nobody_reads() -> int:
    """Whoever read our output is gone; keep the interpreter from failing on it once more at exit."""
    assert sys.__stdout__ is not None
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
    sys.stderr.write("The reader of our output is gone: the sync ends here, with the last STATE it took.\n")
    return FAILED


@contextmanager
def _orderly_end(stop: threading.Event, *, when: bool) -> Iterator[None]:
    """Turn the first signal into an order to stop, and die of it when everything is said."""
    if not when:
        yield
        return
    received: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            # A process that dies of a signal has no end at which its private files would be removed.
            atexit._run_exitfuncs()  # noqa: SLF001 - the only way to have them run before
            signal.signal(received[0], signal.SIG_DFL)
            signal.raise_signal(received[0])
