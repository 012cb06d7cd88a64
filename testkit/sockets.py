"""The destination's side of the data channel over sockets: connects to every one, reads each to its end, and judges.

It judges as Airbyte's destinations do (airbyte-cdk/bulk, load: DestinationMessageFactory.kt, CheckpointManager.kt). Every
RECORD must name a partition. A STATE is committed when as many records of its partition came as it counts, whatever the
order and the socket, and the STATE before it (by `id`, from 1 on, in its stream's series or the GLOBAL one) is
committed. What is never committed is an error here.
"""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

from typing_extensions import Self

from testkit.errors import KitError
from testkit.protocol import Json, Output, StreamKey

PATIENCE_SECONDS = 60.0
RETRY_SECONDS = 0.02
READ_BYTES = 65536


class NotCommittedError(KitError, AssertionError):
    """What a destination would wait for without end."""


class Receiver:
    """A reader of so many sockets; a context manager that leaves no files."""

    def __init__(self, sockets: int, *, pause_after: int | None = None) -> None:
        """Name the sockets; a `with` block connects to them as soon as somebody listens.

        Args:
            sockets: how many.
            pause_after: read so many lines in all, more or less, and no more before `go_on`.
        """
        self._folder = tempfile.TemporaryDirectory(
            prefix="sockets-"
        )  # short: a socket's path has 107 bytes at most
        self.paths = [Path(self._folder.name) / f"airbyte_socket_{number}.sock" for number in range(sockets)]
        self.probes = 0
        """Empty lines that came."""
        self._heard: list[list[bytes]] = [[] for _ in self.paths]
        self._connections: list[socket.socket] = []
        self._leaving = threading.Event()
        self._pause_after = pause_after
        self._going_on = threading.Event()
        self._threads = [
            threading.Thread(target=self._read, args=(path, heard), daemon=True)
            for path, heard in zip(self.paths, self._heard, strict=True)
        ]

    @property
    def environment(self) -> dict[str, str]:
        """What the platform tells the source."""
        return {
            "DATA_CHANNEL_MEDIUM": "SOCKET",
            "DATA_CHANNEL_FORMAT": "JSONL",
            "DATA_CHANNEL_SOCKET_PATHS": ",".join(map(str, self.paths)),
        }

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        for thread in self._threads:
            thread.join()
        self._folder.cleanup()

    def leave(self) -> None:
        """Close all sockets at once, as a destination that died."""
        self._leaving.set()
        self._going_on.set()
        for connection in self._connections:
            with suppress(OSError):  # it may have come to its end
                connection.shutdown(socket.SHUT_RDWR)

    def go_on(self) -> None:
        """Read to the end."""
        self._going_on.set()

    def outputs(self) -> list[Output]:
        """What came over each socket, when all have come to their end."""
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            if thread.is_alive():
                raise KitError("a socket has not come to its end")
        return [Output([line for line in heard if line != b"\n"]) for heard in self._heard]

    @property
    def lines(self) -> int:
        """How many lines have come so far, of all sockets."""
        return sum(map(len, self._heard))

    def together(self) -> Output:
        """What came, one socket after the other."""
        return Output([line for output in self.outputs() for line in output.lines()])

    def _read(self, path: Path, heard: list[bytes]) -> None:
        connection = self._connected(path)
        if connection is None:
            return
        self._connections.append(connection)
        if self._leaving.is_set():
            connection.shutdown(socket.SHUT_RDWR)
        with connection, connection.makefile("rb", READ_BYTES) as file:
            for line in file:
                heard.append(line)
                self.probes += line == b"\n"
                if self._pause_after is not None and self.lines > self._pause_after:
                    self._going_on.wait()

    def _connected(self, path: Path) -> socket.socket | None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._leaving.is_set():
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(str(path))
            except OSError:
                connection.close()
                if time.monotonic() > deadline:
                    return None
                time.sleep(RETRY_SECONDS)
            else:
                return connection
        return None


def committed(output: Output) -> list[Json]:
    """The states that a destination commits of what it was told, in the order of each series.

    Raises:
        NotCommittedError: a record has no partition, a series has a gap, or a STATE counts other records than came.
    """
    records = Counter(partition_of(record) for record in output.of_type("RECORD"))
    series: dict[StreamKey | None, list[Json]] = defaultdict(list)
    for state in output.of_type("STATE"):
        descriptor = state.get("stream", {}).get("stream_descriptor")
        series[(descriptor.get("namespace"), descriptor["name"]) if descriptor else None].append(state)
    for name, states in series.items():
        states.sort(key=lambda state: int(state["id"]))
        if [state["id"] for state in states] != list(range(1, len(states) + 1)):
            raise NotCommittedError(f"{name}: the states do not follow each other")
    for state in (state for states in series.values() for state in states):
        came, counted = records.pop(state["partition_id"], 0), state["sourceStats"]["recordCount"]
        if came != counted:
            raise NotCommittedError(f"partition {state['partition_id']}: {came} records, {counted} counted")
    if records:
        raise NotCommittedError(f"records that no STATE counts: {dict(records)}")
    return [state for states in series.values() for state in states]


def partition_of(record: Json) -> str:
    """The partition of a RECORD. Raises NotCommittedError if it names none."""
    partition = record.get("partition_id")
    if not isinstance(partition, str) or not partition:
        raise NotCommittedError(f"a record of {record['stream']} names no partition")
    return partition
