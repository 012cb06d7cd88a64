"""Noticing that a server has fallen silent where TCP does not.

TCP's keepalives end a connection whose other machine is gone. But they are answered by whatever stands between, a
proxy, a tunnel or a load balancer, and that may have lost the server and not say so. Where the server itself has to
end a statement by a certain time (`statement_timeout`), we know more: long after that time nobody will answer.

Time alone would not do. Over a slow network an answer may take minutes, but something of it arrives all the time; the
kernel remembers when the last byte came (Linux, TCP_INFO). Only a connection that is both late and silent is given up.
Whoever waits on it does so inside libpq; shutting the socket down ends that wait as a lost connection would, and it is
tried again like one. The socket is held by a descriptor of our own meanwhile, so that it cannot be another's by then.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from source_timescaledb.postgres.connection import Connection

LONGEST_SILENCE_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.5

_TCP_INFO: Final[int | None] = getattr(socket, "TCP_INFO", None)
_LAST_DATA_RECEIVED: Final = struct.Struct("=52xI")
"""Where `tcpi_last_data_recv`, in milliseconds, lies in the kernel's `struct tcp_info` (linux/tcp.h)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """A connection somebody waits on, and when its answer must have come."""

    socket: socket.socket
    due: float

    def silent_seconds(self) -> float:
        """How long nothing has come; nothing at all where the kernel does not tell."""
        if _TCP_INFO is None:
            return 0.0
        try:
            info = self.socket.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _LAST_DATA_RECEIVED.size)
            (milliseconds,) = _LAST_DATA_RECEIVED.unpack(info)
        except (OSError, struct.error):
            return 0.0
        return float(milliseconds) / 1000

    def hang_up(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class SilenceWatch:
    """Hangs up on connections that are late and silent; one thread, from the first one watched until `close`."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lines: set[_Line] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, connection: Connection, seconds: float | None) -> Iterator[None]:
        """Watch a connection whose server ends by itself, in so many seconds, what it does in this block; None: never."""
        if seconds is None or connection.closed:
            yield
            return
        due = self._clock() + seconds + LONGEST_SILENCE_SECONDS
        line = _Line(socket.socket(fileno=os.dup(connection.pgconn.socket)), due)
        with self._lock:
            self._lines.add(line)
            self._start()
        try:
            yield
        finally:
            with self._lock:
                self._lines.discard(line)
                line.socket.close()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _start(self) -> None:
        if self._thread is None and not self._closed.is_set():
            self._thread = threading.Thread(target=self._watch, name="silence", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            with self._lock:
                for line in self._lines:
                    if self._clock() >= line.due and line.silent_seconds() >= LONGEST_SILENCE_SECONDS:
                        line.hang_up()
