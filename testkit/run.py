"""A run of a connector under way, read by a thread line by line, so that a test can act at a line.

An `At` acts when the n-th message of a kind has been seen: kill, pause, crash the server, drop a chunk. The
process may have printed more by then, as much as the pipe holds; a small pipe (`pipe_bytes`) is for tests
that must hit a line.

What a killed process printed last may be half a line. Airbyte never sees it, so it is no message: it is kept
apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import psutil

from testkit.errors import KitError
from testkit.forked import Forked
from testkit.protocol import SHOWN, NotProtocolError, Output, parse

Process = subprocess.Popen[bytes] | Forked

F_SETPIPE_SZ = 1031
READ_BYTES = 65536
SLICES_PER_SECOND = 20
RSS_INTERVAL_SECONDS = 0.05
TIMEOUT_SECONDS = 120.0
STDERR_SHOWN = 2000


@dataclass(frozen=True, slots=True)
class At:
    """What to do when the run has printed the n-th message (from 1) of a kind."""

    kind: Literal["RECORD", "STATE", "TRACE", "LOG"]
    number: int
    act: Callable[[Run], object]


def signalled(number: signal.Signals) -> Callable[[Run], None]:
    """An act: send the process a signal."""
    return lambda run: run.process.send_signal(number)


def paused(seconds: float, *, sleep: Callable[[float], None] = time.sleep) -> Callable[[Run], None]:
    """An act: stop the process for some seconds (SIGSTOP, SIGCONT), as a suspended container."""

    def act(run: Run) -> None:
        run.process.send_signal(signal.SIGSTOP)
        sleep(seconds)
        run.process.send_signal(signal.SIGCONT)

    return act


class Result(Output):
    """A run that has ended: its messages, and how it ended."""

    def __init__(
        self,
        source: Path | list[bytes],
        *,
        exit_code: int,
        stderr: str,
        partial_line: bytes,
        rss: list[Memory],
    ) -> None:
        super().__init__(source)
        self.exit_code = exit_code
        """Negative n when signal n ended it."""
        self.stderr = stderr
        self.partial_line = partial_line
        """What it printed after its last line end; only a killed process does."""
        self.rss = rss

    @property
    def peak_rss(self) -> int:
        """The most resident memory seen, in bytes."""
        return max((memory.bytes for memory in self.rss), default=0)


class Run:
    """A run under way: acts on its lines as they come, until `wait` gives the result."""

    def __init__(self, process: Process, plan: Plan, files: Files) -> None:
        self.process = process
        self._plan = plan
        self._files = files
        self._started = time.monotonic()
        self._lines: list[bytes] = []
        self._seen: Counter[str] = Counter()
        self._partial = b""
        self._rss: list[Memory] = []
        self._failure: Exception | None = None
        self._closing = False
        self._threads = [threading.Thread(target=self._sample_memory, daemon=True)]
        if process.stdout is not None:
            if plan.pipe_bytes is not None:
                fcntl.fcntl(process.stdout, F_SETPIPE_SZ, plan.pipe_bytes)
            self._threads.append(threading.Thread(target=self._read, args=(process.stdout,), daemon=True))
        for thread in self._threads:
            thread.start()

    def seen(self, kind: str) -> int:
        """How many messages of a kind were printed so far."""
        return self._seen[kind]

    def close_stdout(self) -> None:
        """Stop reading for good, as a destination that died: the connector's next write fails."""
        self._closing = True

    def wait(self, seconds: float = TIMEOUT_SECONDS) -> Result:
        """Wait for the end.

        Raises:
            NotProtocolError: it printed something that is no message; it was killed for that.
            KitError: it did not end in so many seconds; it was killed.
        """
        try:
            exit_code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise KitError(f"the connector did not end in {seconds:g} s: {self._files.said()}") from None
        finally:
            for thread in self._threads:
                thread.join()
        if self._failure is not None:
            raise self._failure
        result = Result(
            self._files.stdout if self.process.stdout is None else self._lines,
            exit_code=exit_code,
            stderr=self._files.stderr.read_text(errors="replace"),
            partial_line=self._partial,
            rss=self._rss,
        )
        if exit_code >= 0 and self._partial:
            raise NotProtocolError(f"the last line has no end: {self._partial[:SHOWN]!r}")
        return result

    def _read(self, stdout: IO[bytes]) -> None:
        rate = self._plan.bytes_per_second
        size = READ_BYTES if rate is None else max(1, int(rate / SLICES_PER_SECOND))
        try:
            while not self._closing and (data := os.read(stdout.fileno(), size)):
                *lines, self._partial = (self._partial + data).split(b"\n")
                for line in lines:
                    self._see(line)
                if rate is not None:
                    time.sleep(len(data) / rate)
        except Exception as failure:  # noqa: BLE001 - it is raised where the test waits
            self._failure = failure
            self.process.kill()
        finally:
            stdout.close()
            if self._closing:
                self._partial = b""

    def _see(self, line: bytes) -> None:
        message = parse(line)
        self._lines.append(line)
        kind = message["type"]
        self._seen[kind] += 1
        for at in self._plan.at:
            if (at.kind, at.number) == (kind, self._seen[kind]):
                at.act(self)

    def _sample_memory(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            watched = psutil.Process(self.process.pid)
            while self.process.poll() is None:
                self._rss.append(Memory(time.monotonic() - self._started, watched.memory_info().rss))
                time.sleep(RSS_INTERVAL_SECONDS)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory at a moment since the start."""

    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run is treated."""

    at: Sequence[At] = ()
    bytes_per_second: float | None = None
    pipe_bytes: int | None = None
    to_file: bool = False


@dataclass(frozen=True, slots=True)
class Files:
    """Where a run's output goes."""

    stdout: Path
    stderr: Path

    def said(self) -> str:
        """The end of what it said on standard error."""
        return self.stderr.read_text(errors="replace")[-STDERR_SHOWN:]
