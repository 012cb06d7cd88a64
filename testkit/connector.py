"""Run the connector as Airbyte does: in a process of its own, told by files, heard by lines.

The process is forked from one that has imported the connector (`testkit.forked`), or, where a command is given, started
from nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from source_timescaledb.run import run
from testkit.forked import Entry, Forked
from testkit.protocol import Json
from testkit.run import TIMEOUT_SECONDS, At, Files, Plan, Result, Run

COMMAND = (sys.executable, "-m", "source_timescaledb.run")
REPOSITORY = Path(__file__).resolve().parents[1]


class Connector:
    """The connector with one configuration."""

    def __init__(
        self,
        config: Mapping[str, Any],
        workdir: Path,
        *,
        entry: Entry = run,
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Describe the connector.

        Args:
            config: its configuration; written to a file that only we can read.
            workdir: where configuration, catalogs, states and what was printed are kept.
            entry: what to run instead of this repository's connector, in a process that finds it imported.
            command: what to run instead of either, in a new interpreter or as another program.
            environment: more environment variables.
        """
        self.workdir = workdir.absolute()
        self._entry = entry
        self._command = command
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        self.environment = {**os.environ, "PYTHONPATH": path, **(environment or {})}
        self._runs = 0
        self.workdir.mkdir(parents=True, exist_ok=True)
        self._config = self._written("config", dict(config))

    def spec(self) -> Result:
        """Run `spec`."""
        return self.start("spec").wait()

    def check(self) -> Result:
        """Run `check`."""
        return self.start("check", "--config", self._config).wait()

    def discover(self) -> Result:
        """Run `discover`."""
        return self.start("discover", "--config", self._config).wait()

    def read(
        self, catalog: Json, state: list[Json] | None = None, *, timeout: float = TIMEOUT_SECONDS, **plan: Any
    ) -> Result:
        """Run `read` to its end; the arguments are those of `start_read`."""
        return self.start_read(catalog, state, **plan).wait(timeout)

    def start_read(
        self,
        catalog: Json,
        state: list[Json] | None = None,
        *,
        at: Sequence[At] = (),
        bytes_per_second: float | None = None,
        pipe_bytes: int | None = None,
        to_file: bool = False,
    ) -> Run:
        """Start `read`.

        Args:
            catalog: the configured catalog.
            state: the states to go on from, as `Output.state` gives them.
            at: what to do at which message.
            bytes_per_second: read its output no faster than this.
            pipe_bytes: how much it may print ahead of us; the system rounds up to 4096 times a power of two.
            to_file: let it print into a file, at full speed; messages are parsed when asked for, and `at` is
                not possible.
        """
        arguments = ["--config", self._config, "--catalog", self._written("catalog", catalog)]
        if state is not None:
            arguments += ["--state", self._written("state", state)]
        return self.start("read", *arguments, plan=Plan(at, bytes_per_second, pipe_bytes, to_file))

    def start(self, verb: str, *arguments: str, plan: Plan = Plan()) -> Run:  # noqa: B008 - it is frozen
        """Start any command."""
        self._runs += 1
        stem = f"{self._runs:03}-{verb}"
        files = Files(self.workdir / f"{stem}.stdout", self.workdir / f"{stem}.stderr")
        files.stderr.touch()
        files.stdout.touch()
        process = self._forked if self._command is None else self._started
        return Run(process([verb, *arguments], plan, files), plan, files)

    def _forked(self, arguments: list[str], plan: Plan, files: Files) -> Forked:
        return Forked(
            self._entry,
            arguments,
            stdout=files.stdout if plan.to_file else None,
            stderr=files.stderr,
            folder=self.workdir,
            environment=self.environment,
        )

    def _started(self, arguments: list[str], plan: Plan, files: Files) -> subprocess.Popen[bytes]:
        assert self._command is not None
        with files.stderr.open("wb") as stderr, files.stdout.open("wb") as stdout:
            return subprocess.Popen(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout if plan.to_file else subprocess.PIPE,
                stderr=stderr,
                cwd=self.workdir,
                env=self.environment,
                bufsize=0,
            )

    def _written(self, name: str, content: Any) -> str:
        """Write JSON for the connector to read and return the path."""
        path = self.workdir / f"{self._runs + 1:03}-{name}.json"
        path.touch(mode=0o600)
        path.write_bytes(orjson.dumps(content))
        return str(path)
