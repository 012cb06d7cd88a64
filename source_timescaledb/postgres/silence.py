"""Noticing that a server has fallen silent where TCP does not.

TCP's keepalives end a connection whose other machine is gone. But they are answered by whatever stands between, a
proxy, a tunnel or a load balancer, and that may have lost the server and not say so. There are two ways to know more.
Where the server itself has to end a statement by a certain time (`statement_timeout`), nobody will answer long after
that. And where it may take as long as it likes, it is asked on another connection, the way everybody else would ask it:
a server that answers there is busy, one that does not is gone, or as good as gone.

Time alone would not do. Over a slow network an answer may take minutes, but something of it arrives all the time; the
kernel remembers when the last byte came (Linux, TCP_INFO). Only a connection that is silent is given up, and only while
somebody waits on it: some ten seconds after its last byte, five of them for the server to answer elsewhere.

Whoever waits does so inside libpq; shutting the socket down ends that wait as a lost connection would, and it is tried
again like one. The socket is held by a descriptor of our own meanwhile, so that it cannot be another's by then.
"""

from __future__ import annotations

import math
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


@dataclass(slots=True, eq=False)
class Line:
    """A connection somebody waits on."""

    socket: socket.socket
    since: float
    due: float
    """When the server must have ended what it does; infinite where it need not."""
    given_up: bool = False

    def silent_seconds(self, now: float) -> float:
        """How long nothing has come of what is waited for; nothing at all where the kernel does not tell."""
        if _TCP_INFO is None:
            return 0.0
        try:
            info = self.socket.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _LAST_DATA_RECEIVED.size)
            (milliseconds,) = _LAST_DATA_RECEIVED.unpack(info)
        except (OSError, struct.error):
            return 0.0
        return min(float(milliseconds) / 1000, now - self.since)

    def hang_up(self) -> None:
        """End the connection for both sides."""
        self.given_up = True
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class SilenceWatch:
    """Hangs up on connections whose server is gone; one thread, from the first one watched until `close`.

    All of them lead to one server, and `answers` asks that on a connection of its own, some seconds at most.
    """

    def __init__(self, answers: Callable[[], bool], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._answers = answers
        self._clock = clock
        self._lines: set[Line] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._answered = -math.inf

    @contextmanager
    def over(self, connection: Connection, seconds: float | None = None) -> Iterator[Line | None]:
        """Watch a connection, unless it is closed, while its server is waited for in this block.

        With `seconds` the server by itself ends by then what it does; without, it may take its time.
        """
        if connection.closed:
            yield None
            return
        now = self._clock()
        due = math.inf if seconds is None else now + seconds + LONGEST_SILENCE_SECONDS
        line = Line(socket.socket(fileno=os.dup(connection.pgconn.socket)), now, due)
        with self._lock:
            self._lines.add(line)
            self._start()
        try:
            yield line
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
            silent = self._silent()
            self._hang_up(late := self._late(silent))
            if silent - late and self._is_gone():
                self._hang_up(silent - late)

    def _silent(self) -> set[Line]:
        with self._lock:
            now = self._clock()
            return {line for line in self._lines if line.silent_seconds(now) >= LONGEST_SILENCE_SECONDS}

    def _late(self, silent: set[Line]) -> set[Line]:
        now = self._clock()
        return {line for line in silent if now >= line.due}

    def _is_gone(self) -> bool:
        """Whether the server answers nobody; an answer is good for as long as a silence may last."""
        if self._clock() - self._answered < LONGEST_SILENCE_SECONDS:
            return False
        answered = self._answers()
        if answered:
            self._answered = self._clock()
        return not answered

    def _hang_up(self, lines: set[Line]) -> None:
        """Hang up on those that are still waited on and still silent."""
        with self._lock:
            now = self._clock()
            for line in lines & self._lines:
                if line.silent_seconds(now) >= LONGEST_SILENCE_SECONDS:
                    line.hang_up()
