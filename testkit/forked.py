"""Processes that need not import what they run: forked from one that has imported it already.

Starting the connector takes one to three seconds, nearly all of it the import of airbyte-cdk, and the tests start it
some five hundred times. A forked one starts in a few hundredths of a second and is as real: a process of its own
with its own memory, pipes, environment and working directory, ended by real signals. The fork server of the standard
library does the forking, in a process without threads, which a test's own process is not.

What importing itself does, in a new interpreter, `Connector(command=...)` shows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from multiprocessing import connection, get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO

Entry = Callable[[], None]
"""What to run: a function of a module, as a console script names it."""

IMPORTED = ("source_timescaledb.command", "oracle.hurry")
"""What the server imports; each child finds it there."""


class Forked:
    """A process that runs an entry point, with the part of `subprocess.Popen` that a run needs."""

    def __init__(
        self,
        entry: Entry,
        arguments: list[str],
        *,
        stderr: Path,
        folder: Path,
        environment: Mapping[str, str],
        stdout: Path | None = None,
    ) -> None:
        """Start it.

        Args:
            entry: what it runs; a child finds it by its module and name.
            arguments: `sys.argv[1:]`.
            stderr: the file that its standard error goes to.
            folder: its working directory.
            environment: all its environment variables.
            stdout: the file that it prints to, instead of the pipe `stdout`.
        """
        receiver, sender = _context().Pipe(duplex=False)
        self._process: BaseProcess = _context().Process(
            target=_run,
            args=(entry, arguments, stdout or sender, stderr, folder, dict(environment)),
            daemon=True,  # whoever forgets it takes it along
        )
        self._ended = threading.Lock()
        self._process.start()
        sender.close()
        self.args = [entry.__module__, *arguments]
        self.stdout: IO[bytes] | None = None
        if stdout is None:
            self.stdout = os.fdopen(os.dup(receiver.fileno()), "rb", buffering=0)
        receiver.close()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative n when signal n ended it, None while it runs."""
        return self.poll()

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        with self._ended:  # the status comes once through a pipe: two threads that read it would part it
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it did not end in so many seconds.
        """
        connection.wait([self._process.sentinel], timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it may have ended just now
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)


@lru_cache(maxsize=1)
def _context() -> ForkServerContext:
    context = get_context("forkserver")
    spec = sys.modules["__main__"].__spec__
    main = (spec.name,) if spec is not None else ()  # a child imports it too, as multiprocessing does
    context.set_forkserver_preload([*IMPORTED, __name__, *main])
    return context


def _run(
    entry: Entry,
    arguments: list[str],
    stdout: connection.Connection | Path,
    stderr: Path,
    folder: Path,
    environment: dict[str, str],
) -> None:
    """What a child does: take its place, and run."""
    output = os.open(stdout, os.O_WRONLY) if isinstance(stdout, Path) else stdout.fileno()
    os.dup2(output, sys.__stdout__.fileno() if sys.__stdout__ else 1)
    os.dup2(os.open(stderr, os.O_WRONLY), sys.__stderr__.fileno() if sys.__stderr__ else 2)
    if isinstance(stdout, Path):
        os.close(output)
    else:
        stdout.close()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = [entry.__module__, *arguments]
    entry()
