"""Syncs of one database, one after the other, each with the state that the one before has left.

How a sync may end is the seed's to choose. In this process it runs to its end, or no message is taken after a random
one, as if the platform had died there: whoever goes on finds what a kill leaves. In a process of its own it is killed by
SIGKILL at a random message: then the connector has really forgotten everything, and the server finds out by itself. Or it
is told to stop by SIGTERM: that is no fault, and nothing may be told twice.

A disturbed one is a process, too: on top of what befalls its network and its server it may be killed, told to stop,
suspended or read slowly, and a STATE of its may get lost. If it gives up with an error that may pass, the next one goes
on, as a platform would have it.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Final

from airbyte_cdk.utils.traced_exception import AirbyteTracedException

from integration_tests.inprocess import InProcess
from oracle.hurry import WITHOUT, Rule, hurried, run_hurried
from oracle.tables import PUBLICATION, Table
from testkit.connector import Connector
from testkit.database import Database
from testkit.errors import KitError
from testkit.protocol import Json, Output
from testkit.run import At, Result, Run, paused, signalled

NAP_EVERY: Final = 40
NAP_SECONDS: Final = 0.01
SAID: Final = 300
SYNC_SECONDS: Final = 900.0
"""A process that takes longer has lost its way, however large a transaction is."""
MOST_RECORDS: Final = (20, 400, 2000)
MOST_STATES: Final = 12
"""The last message of a sync that is broken off is at most this one of its kind."""
NAPS: Final = 60
"""The reader of a sync's output takes so many naps of so long, so that the snapshot lasts while writers write."""
DISTURBED_SECONDS: Final = 240.0
"""A disturbed process that takes longer hangs: it gives up after two minutes without progress."""
SLOW_BYTES: Final = (200_000, 500_000)
"""A slow destination reads so many bytes in a second."""
_ACTS: Final[Mapping[Callable[[Run], None], float]] = {
    signalled(signal.SIGKILL): 0.25,
    signalled(signal.SIGTERM): 0.2,
    paused(1.5): 0.1,
    lambda _run: None: 0.45,
}
"""What is done to a disturbed process itself, with its probability, in its first seconds."""
FIRST_SECONDS: Final = 3.0


class Manner(Enum):
    """How syncs end."""

    WHOLE = "run to their end"
    CUT = "cut at a random message"
    KILLED = "killed at a random message"
    STOPPED = "told to stop at a random message"
    DISTURBED = "disturbed by faults"

    @property
    def once(self) -> bool:
        """Whether every row version is told once."""
        return self in (Manner.WHOLE, Manner.STOPPED)


@dataclass(frozen=True, slots=True)
class Sync:
    """A sync that has ended: what was heard of it, whether it ended by itself, with which error, and what it said."""

    output: Output
    whole: bool
    error: str | None
    logged: Sequence[str]
    gave_up: str | None = None
    """The error that may pass, with which a disturbed one has ended."""
    kept: int | None = None
    """How many of its STATEs were kept; None where all were."""


class Syncs:
    """A database's syncs. `state` is what a platform would hand to the next one.

    The catalog is that of the beginning, so columns that are added later are not selected.
    """

    def __init__(
        self,
        database: Database,
        slot: str,
        tables: Sequence[Table],
        manner: Manner,
        random: Random,
        folder: Path,
        without: Rule | None,
        address: Mapping[str, str | int] = MappingProxyType({}),
    ) -> None:
        """Prepare them; `address` is `host` and `port` where they are not the server's own."""
        self._config = database.config(
            **address,
            username=database.owner,
            password=database.passwords["owner"],
            replication_method={
                "method": "CDC",
                "replication_slot": slot,
                "publication": PUBLICATION,
                "initial_waiting_seconds": 120,
            },
        )
        self._manner = manner
        self._random = random
        self._without = without
        environment = {WITHOUT: without.name} if without else {}
        self._process = Connector(self._config, folder, entry=run_hurried, environment=environment)
        self._catalog = InProcess(self._config).catalog("incremental", [table.name for table in tables])
        self.state: list[Json] = []

    @property
    def keys(self) -> dict[str, tuple[str, ...]]:
        """The tables' keys, as the catalog has them."""
        return {
            stream["stream"]["name"]: tuple(
                column for (column,) in stream["stream"].get("source_defined_primary_key") or []
            )
            for stream in self._catalog["streams"]
        }

    def sync(self, *, to_the_end: bool = False) -> Sync:
        """Run one; `to_the_end` for the last one, which nothing disturbs."""
        match self._manner:
            case Manner.KILLED | Manner.STOPPED:
                sync = self._signalled(to_the_end=to_the_end)
            case Manner.DISTURBED:
                sync = self._disturbed(to_the_end=to_the_end)
            case Manner.CUT | Manner.WHOLE:
                sync = self._inside(cut=self._manner is Manner.CUT and not to_the_end)
        self.state = sync.output.state(sync.kept) or self.state
        return sync

    def _inside(self, *, cut: bool) -> Sync:
        naps: dict[tuple[str, int], Callable[[], object]] = {
            ("RECORD", number * NAP_EVERY): lambda: time.sleep(NAP_SECONDS) for number in range(1, NAPS)
        }
        last: tuple[str, int] = self._random.choice(
            (
                ("RECORD", self._random.randint(1, self._random.choice(MOST_RECORDS))),
                ("STATE", self._random.randint(1, MOST_STATES)),
            )
        )
        acts = {**naps, last: _break_off} if cut else naps
        with hurried(self._without):
            ended = InProcess(self._config).read(self._catalog, self.state, acts)
        if ended.failure is None or isinstance(ended.failure, _BrokenOff):
            return Sync(ended, whole=ended.failure is None, error=None, logged=ended.logged)
        return Sync(ended, whole=False, error=_reason(ended) or ended.failure.message, logged=ended.logged)

    def _signalled(self, *, to_the_end: bool) -> Sync:
        at: tuple[At, ...] = ()
        number = signal.SIGKILL if self._manner is Manner.KILLED else signal.SIGTERM
        if not to_the_end:
            at = self._at_random(_once(signalled(number)))
        result = self._process.start_read(self._catalog, self.state, at=at, pipe_bytes=1 << 14).wait(
            SYNC_SECONDS
        )
        if result.exit_code == -number:
            return Sync(result, whole=False, error=None, logged=result.logs)
        if result.exit_code == 0:
            return Sync(result, whole=True, error=None, logged=result.logs)
        return Sync(result, whole=False, error=_complaint(result), logged=result.logs)

    def _disturbed(self, *, to_the_end: bool) -> Sync:
        random = self._random
        (act,) = random.choices(list(_ACTS), list(_ACTS.values()))
        after = random.uniform(0.2, FIRST_SECONDS)
        rate = None if to_the_end or random.random() < 0.8 else random.choice(SLOW_BYTES)
        run = self._process.start_read(self._catalog, self.state, bytes_per_second=rate, pipe_bytes=1 << 14)
        acting = threading.Timer(after, act, [run])
        if not to_the_end:
            acting.start()
        try:
            result = run.wait(DISTURBED_SECONDS)
        except KitError as reason:
            return Sync(Output([]), whole=False, error=str(reason), logged=())
        finally:
            acting.cancel()
        states = len(result.states)
        kept = max(0, states - 1) if not to_the_end and random.random() < 0.2 else states
        sync = Sync(result, result.exit_code == 0, None, result.logs, kept=kept)
        if result.exit_code in (0, -signal.SIGKILL, -signal.SIGTERM):
            return sync
        said = _complaint(result)
        passing = bool(result.errors) and all(
            error["failure_type"] == "transient_error" for error in result.errors
        )
        return replace(sync, gave_up=said) if passing else replace(sync, error=said)

    def _at_random(self, act: Callable[[Run], None]) -> tuple[At, ...]:
        """An act at a random RECORD or a random STATE, whichever comes first."""
        record = self._random.randint(1, self._random.choice(MOST_RECORDS))
        return (At("RECORD", record, act), At("STATE", self._random.randint(1, MOST_STATES), act))


def _once(act: Callable[[Run], None]) -> Callable[[Run], None]:
    """The act, the first time only: a second SIGTERM would end a process that is about to end."""
    left = [act]
    return lambda run: left.pop()(run) if left else None


class _BrokenOff(AirbyteTracedException):
    """A sync in this process was told to go no further: `InProcess` ends a read with it."""


def _break_off() -> None:
    raise _BrokenOff


def _complaint(result: Result) -> str:
    """Why a process ended as it should not."""
    return _reason(result) or f"Status {result.exit_code}: {result.stderr[-SAID:]}"


def _reason(output: Output) -> str | None:
    """The first error that a sync has traced."""
    return next((f"{error['message']} ({error.get('internal_message')})" for error in output.errors), None)
