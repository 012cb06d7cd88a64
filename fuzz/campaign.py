"""Plays sessions in several processes until there were enough inputs; whatever one complains of is kept as a file.

Sessions are dealt out in lots, so what is tried does not depend on the number of processes. A process may hold no more
than a gigabyte of data: an allocation beyond it fails, and is complained of like everything else.
"""

from __future__ import annotations

import json
import resource
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

from fuzz.examination import Complaint, Tally, alone, examine, together
from fuzz.sessions import session

LOT: Final = 250
"""Sessions that a process plays at a time."""
MOST_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """A session that something was wrong with."""

    seed: int
    number: int
    what: str
    payload: bytes | None
    """The one message that shows it, where one does."""
    trace: str

    def write(self, folder: Path) -> Path:
        """Keep it for `--replay`."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.seed}-{self.number}.json"
        payload = None if self.payload is None else self.payload.hex()
        facts = {"seed": self.seed, "number": self.number, "what": self.what, "payload": payload}
        path.write_text(json.dumps({**facts, "trace": self.trace}, indent=1) + "\n")
        return path


@dataclass(slots=True)
class Lot:
    """What came of some sessions."""

    tally: Tally = field(default_factory=Tally)
    findings: list[Finding] = field(default_factory=list)


def play(seed: int, first: int, sessions: int = LOT) -> Lot:
    """Play so many sessions from this number on."""
    lot = Lot()
    for number in range(first, first + sessions):
        finding = _tried(seed, number, lot.tally)
        if finding is not None:
            lot.findings.append(finding)
    return lot


def _tried(seed: int, number: int, tally: Tally) -> Finding | None:
    try:
        examine(session(seed, number), seed, tally)
    except Complaint as complaint:
        trace = traceback.format_exc(limit=-8)
        return Finding(seed, number, str(complaint), complaint.payload, trace)
    return None


def played(seed: int, first: int, inputs: int, jobs: int) -> Iterator[Lot]:
    """Lot by lot, until there were so many inputs; the lots that were begun then are played to their end."""
    numbers = count(first, LOT)
    done = 0
    with ProcessPoolExecutor(jobs, initializer=_bounded) as processes:
        playing: set[Future[Lot]] = set()
        while playing or done < inputs:
            while done < inputs and len(playing) < jobs * 2:
                playing.add(processes.submit(play, seed, next(numbers)))
            ready, playing = wait(playing, return_when=FIRST_COMPLETED)
            for future in ready:
                lot = future.result()
                done += lot.tally.total
                yield lot


def replay(path: Path) -> str | None:
    """Play a finding again; what is wrong, None if nothing is any more."""
    facts = json.loads(path.read_text())
    made = session(facts["seed"], facts["number"])
    try:
        if facts["payload"] is not None:
            alone(bytes.fromhex(facts["payload"]), made.layout, weighed=True)
        else:
            together(made)
        examine(made, facts["seed"], Tally())
    except Complaint:
        return traceback.format_exc()
    return None


def _bounded() -> None:
    """Let this process have no more memory than that."""
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
