"""The connector's command line, as Airbyte would run it: told by files, heard by lines.

A reading is written to a file as it comes. Killed, it leaves half a line at most, which is no message and is dropped, as
Airbyte drops it. What a platform keeps of a broken sync is what came before the last STATE of each stream; the rest is
printed again by the next run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import orjson

from demo.errors import DemoError
from testkit.protocol import Json, Output

PROGRAM: Final = Path(sys.executable).parent / "source-timescaledb"
RECORD: Final = b'"type":"RECORD"'
"""How the line of a record begins to differ from others; inside a JSON string its quotes would be escaped."""

BLOCK_BYTES: Final = 1 << 16
LONGEST_LINE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """A run of `read` that has ended."""

    path: Path
    records: int
    seconds: float
    """From the first record to the end."""


class Pump:
    """Moves what a run prints into a file, block by block, and counts the records on the way."""

    def __init__(self, source: IO[bytes], target: IO[bytes]) -> None:
        self._source, self._target = source, target
        self._tail = b""
        self._started: float | None = None
        self.records = 0
        self.seconds = 0.0

    def step(self) -> bool:
        """Move one block; false at the end."""
        block = self._source.read(BLOCK_BYTES)
        self._target.write(block)
        self.records += (self._tail + block).count(RECORD)
        self._tail = block[1 - len(RECORD) :]
        now = time.monotonic()
        if self.records and self._started is None:
            self._started = now
        self.seconds = now - (self._started or now)
        return bool(block)


def cut_half_a_line(file: IO[bytes]) -> None:
    """Remove what stands after the last line end."""
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - LONGEST_LINE)
    file.seek(start)
    file.truncate(start + file.read().rfind(b"\n") + 1)


class Connector:
    """The command line of the connector, with all its files in one folder."""

    def __init__(self, folder: Path, program: Path = PROGRAM) -> None:
        self.folder = folder
        self.program = program

    def words(self, verb: str, **files: str) -> list[str]:
        """A command as a user would type it."""
        options = [word for name, file in files.items() for word in (f"--{name}", str(self._shown(file)))]
        return [str(_relative(self.program)), verb, *options]

    def answer(self, verb: str, output: str, **files: str) -> Output:
        """Run a command that answers with one message, and keep what it prints.

        Raises:
            DemoError: it failed.
        """
        path = self.folder / output
        with path.open("wb") as stdout:
            done = subprocess.run(
                self.words(verb, **files), check=False, stdin=subprocess.DEVNULL, stdout=stdout
            )
        if done.returncode != 0:
            raise DemoError(f"`{verb}` failed: {failure(path)}")
        return Output(path)

    def read(self, output: str, *, kill_after: int | None = None, **files: str) -> Reading:
        """Run `read`; with `kill_after`, send it SIGKILL when so many records have been seen.

        Raises:
            DemoError: it failed, or it ended before it could be killed.
        """
        path = self.folder / output
        process = subprocess.Popen(
            self.words("read", **files), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0
        )
        assert process.stdout is not None
        with process, path.open("w+b") as file:
            pump = Pump(process.stdout, file)
            while pump.step():
                if kill_after is not None and pump.records >= kill_after:
                    process.kill()
            cut_half_a_line(file)
        if process.returncode != (0 if kill_after is None else -signal.SIGKILL):
            raise DemoError(f"`read` ended after {pump.records} records: {failure(path)}")
        return Reading(path, pump.records, pump.seconds)

    def _shown(self, file: str) -> Path:
        return _relative(self.folder / file)


def _relative(path: Path) -> Path:
    """A path as short as it can be, seen from the working directory."""
    relative = Path(os.path.relpath(path))
    return path if relative.parts[:1] == ("..",) else relative


def failure(output: Path) -> str:
    """The sentence with which a run explained its failure."""
    errors = Output(output).errors
    return str(errors[-1]["message"]) if errors else "it gave no reason."


def messages(path: Path) -> Iterator[Json]:
    """The messages in a file."""
    with path.open("rb") as file:
        yield from map(orjson.loads, file)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a platform keeps of a run that broke."""

    states: list[Json]
    """The last of each stream."""
    records: Counter[str]
    """By stream, how many of its records are before its last state."""
    dropped: int
    """Records after it."""


def kept_of(path: Path) -> Kept:
    """Read a run as a platform does."""
    states: dict[str, Json] = {}
    seen: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for message in messages(path):
        match message:
            case {"type": "RECORD", "record": {"stream": stream}}:
                seen[stream] += 1
            case {"type": "STATE", "state": {"stream": {"stream_descriptor": {"name": stream}}} as state}:
                states[stream] = state
                kept[stream] = seen[stream]
    return Kept(list(states.values()), kept, seen.total() - kept.total())


def records(path: Path, limits: Mapping[str, int] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The stream and the data of each record; of each stream only the first so many, where limits are given."""
    left = Counter(limits or {})
    for message in messages(path):
        if message["type"] != "RECORD":
            continue
        stream = message["record"]["stream"]
        if limits is None or left[stream] > 0:
            left[stream] -= 1
            yield stream, message["record"]["data"]


def write_json(path: Path, content: Any, *, private: bool = False) -> None:
    """Write a file that a person may want to read; a private one only for its owner."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600 if private else 0o644)
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
