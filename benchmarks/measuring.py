"""Runs a command as Airbyte would, with a pipe for its output, and learns what client and server spent on it.

Everybody prints into a pipe of the system's usual size, drained by the same loop, which only counts: bytes, so that a run
that ended early is noticed, and lines.

The server's processor time is that of its processes before and after: those alive, and those that the postmaster has
waited for, whose time Linux has added to the postmaster's account. So nothing is sampled and no short backend is missed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import orjson
import psutil

from benchmarks import stopwatch
from benchmarks.costs import Cost, typical
from testkit.errors import KitError

PIPE_BYTES: Final = 64 * 1024
SETTLE_SECONDS: Final = 0.05
SHOWN: Final = 2000

Tell = Callable[[str], None]
"""Where a line of progress goes."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments, and what its environment has besides ours."""

    words: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Measured:
    """A command that has ended well."""

    cost: Cost
    output: int
    lines: int
    kept: bytes


class ServerClock:
    """The processor time of a server: all its processes, past and present."""

    def __init__(self, postmaster: psutil.Process) -> None:
        self._postmaster = postmaster

    def seconds(self) -> float:
        """User and system time so far; a process that ends during the count makes it start again."""
        while True:
            children = self._postmaster.children(recursive=True)
            with suppress(psutil.NoSuchProcess):
                alive = sum(_own(process) for process in [self._postmaster, *children])
                ended = self._postmaster.cpu_times()
                if self._postmaster.children(recursive=True) == children:
                    return alive + ended.children_user + ended.children_system


def _own(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return float(spent.user + spent.system)


class Bench:
    """Where commands are measured; `server_seconds` is a clock of the server's processor time."""

    def __init__(self, workdir: Path, server_seconds: Callable[[], float], *, idle_runs: int) -> None:
        self.workdir = workdir
        self._server_seconds = server_seconds
        self._idle_runs = idle_runs
        self._idle: dict[tuple[str, ...], Cost] = {}

    def idle(self, command: Command) -> Cost:
        """What a command costs that does nothing: measured when it is first asked for, then remembered."""
        if command.words not in self._idle:
            runs = [self.measure(command).cost for _ in range(self._idle_runs)]
            self._idle[command.words] = typical(runs)
        return self._idle[command.words]

    def measure(
        self, command: Command, *, keep: bool = False, bytes_per_second: float | None = None
    ) -> Measured:
        """Run a command to its end.

        Args:
            command: what to run.
            keep: whether its whole output is part of the answer.
            bytes_per_second: take its output no faster than this.

        Raises:
            KitError: it failed; the message ends with what it said.
        """
        report, errors = self.workdir / "stopwatch.json", self.workdir / "stderr"
        before = self._server_seconds()
        with (
            errors.open("wb") as stderr,
            subprocess.Popen(
                [sys.executable, "-I", "-S", stopwatch.__file__, str(report), *command.words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **command.environment},
                cwd=self.workdir,
                bufsize=0,
            ) as process,
        ):
            assert process.stdout is not None
            drained = _Drain(keep=keep, bytes_per_second=bytes_per_second)
            drained.drain(process.stdout)
            code = process.wait()
        time.sleep(SETTLE_SECONDS)  # its backends may still be on their way out
        after = self._server_seconds()
        if code != 0:
            said = errors.read_text(errors="replace") + drained.last_words
            raise KitError(f"{' '.join(command.words[-4:])} failed with code {code}: {said[-SHOWN:]}")
        facts = orjson.loads(report.read_bytes())
        cost = Cost(facts["wall"], facts["client_cpu"], after - before, facts["peak_memory"])
        return Measured(cost, drained.bytes, drained.lines, bytes(drained.kept))


class _Drain:
    """The other end of the pipe."""

    def __init__(self, *, keep: bool, bytes_per_second: float | None) -> None:
        self.bytes = 0
        self.lines = 0
        self.kept = bytearray()
        self._keep = keep
        self._bytes_per_second = bytes_per_second
        self._buffer = bytearray(PIPE_BYTES)
        self._last = 0

    def drain(self, pipe: IO[bytes]) -> None:
        """Read to the end."""
        file, buffer = pipe.fileno(), self._buffer
        while count := os.readv(file, [buffer]):
            self.bytes += count
            self.lines += buffer.count(b"\n", 0, count)
            self._last = count
            if self._keep:
                self.kept += buffer[:count]
            if self._bytes_per_second is not None:
                time.sleep(count / self._bytes_per_second)

    @property
    def last_words(self) -> str:
        """The end of what was printed."""
        return self._buffer[: self._last].decode(errors="replace")
