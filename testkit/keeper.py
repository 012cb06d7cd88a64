"""Processes inside a server root, from the outside: started through `jail`, signalled and waited for here."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import psutil

from testkit import jail
from testkit.errors import KitError
from testkit.places import MOUNT_POINT, Enterable, Place
from testkit.roots import Root

ACCOUNT = 54321
"""The user id of `postgres` in a root; outside the usual ranges, so that it is nobody on the machine."""

COMMAND_SECONDS = 300.0
LOG_SHOWN = 2000


def inside(root: Enterable, command: list[str], place: Place | None = None) -> list[str]:
    """The command line that runs a command in a root; the command is killed when its standard input ends.

    Args:
        root: what it sees as `/`.
        command: a program of the root and its arguments.
        place: a folder that it has to find as well.
    """
    mounted = str(place.mounted) if place is not None and place.mounted is not None else ""
    return [sys.executable, "-I", jail.__file__, str(root.path), str(ACCOUNT), mounted, *command]


class Keeper:
    """One command in a root; killed by `close`, when this process ends, or with its keeper."""

    def __init__(
        self,
        root: Enterable,
        command: list[str],
        log: IO[bytes],
        environment: Mapping[str, str] | None = None,
        *,
        place: Place | None = None,
    ) -> None:
        for name in ("dev", "srv", MOUNT_POINT[1:]):  # a root put there by hand may lack them
            (root.path / name).mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            inside(root, command, place),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # a Ctrl-C in the terminal is for the test, not for its server
        )

    @property
    def running(self) -> bool:
        """Whether the command still runs."""
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send the command a signal; nothing happens when it has ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{number.name}\n".encode())
            self._process.stdin.flush()

    def wait(self, seconds: float) -> int:
        """Wait for the command's end and return its exit code (128 + n after signal n).

        Raises:
            TimeoutError: it still runs after so many seconds.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"still running after {seconds:g} s") from None

    def close(self) -> None:
        """End the command at once, if it still runs."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    @property
    def command(self) -> psutil.Process:
        """The command's own process, seen from outside."""
        (child,) = psutil.Process(self._process.pid).children()
        return child

    def process(self, pid: int) -> psutil.Process:
        """The process that calls itself `pid` inside (as `pg_stat_activity` shows it), seen from outside.

        Raises:
            KitError: there is none.
        """
        for process in psutil.Process(self._process.pid).children(recursive=True):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                names = next(line for line in status.splitlines() if line.startswith("NSpid:"))
                if int(names.split()[-1]) == pid:
                    return process
        raise KitError(f"the server has no process {pid}")


def run(
    root: Root,
    program: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    place: Place | None = None,
) -> None:
    """Run one of PostgreSQL's programs in a root and wait for it; `place` is a folder that it has to find.

    Raises:
        KitError: it failed; the message ends with what it said.
    """
    read, write = os.pipe()
    with os.fdopen(read, "rb") as output, os.fdopen(write, "wb") as log:
        keeper = Keeper(root, [f"{root.programs}/{program}", *arguments], log, environment, place=place)
        log.close()
        said = output.read().decode(errors="replace").strip()
        code = keeper.wait(COMMAND_SECONDS)
        keeper.close()
    if code != 0:
        raise KitError(f"{program} of {root.label} failed with code {code}: {said[-LOG_SHOWN:]}")
