"""The connector in a hurry: slices of some dozen rows, rounds of a few hundredths of a second, batches of a few lines.

Small tables then behave as huge ones: snapshot and stream take turns all the time, and a kill finds every condition that
there is. `run_hurried` is the connector's command line with these knobs.

The same way a rule of the connector can be switched off (`Rule`), to prove that the oracle would notice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import Any, Final
from unittest.mock import patch

from source_timescaledb.airbyte import following
from source_timescaledb.airbyte.ground import Ground
from source_timescaledb.cdc import lines
from source_timescaledb.cdc.clock import OrderClock
from source_timescaledb.cdc.coverage import ChunkJudge, Coverage
from source_timescaledb.run import run
from source_timescaledb.snapshot import chunk_task, key_plan, pace

KNOBS: Final[tuple[tuple[Any, Mapping[str, Any]], ...]] = (
    (following, {"ROUND_SECONDS": 0.08, "STATE_SECONDS": 0.1}),
    (lines, {"LINES_AT_ONCE": 20, "MOST_LOOKUPS": 3}),
    (chunk_task, {"TARGET_BYTES": 1}),
    (pace, {"TARGET_BYTES": 40_000}),
    (key_plan, {"FIRST_ROWS": 30}),
)
WITHOUT: Final = "ORACLE_WITHOUT"
"""The environment variable that names a rule to switch off, for a process of its own."""


class Rule(Enum):
    """A rule of the connector that can be switched off."""

    FILTER = "what a slice's snapshot has seen is not told again"
    SIGHT = "what a slice's snapshot has not seen is told"
    CLOCK = "records are numbered in the order of commits"
    BARRIER = "no slice is read before all that was being written when its chunk was first seen has ended"


@contextmanager
def hurried(without: Rule | None = None) -> Iterator[None]:
    """Turn the knobs, in this process, and switch a rule off."""
    with ExitStack() as stack:
        for module, knobs in KNOBS:
            stack.enter_context(patch.multiple(module, **knobs))
        if without is not None:
            owner, name, instead = _BROKEN[without]
            stack.enter_context(patch.object(owner, name, instead))
        yield


def _forgets(_coverage: Coverage, _slice: object, _snapshot: str) -> None:
    """Instead of `Coverage.add`: slices leave no snapshot behind."""


_judged: Final = ChunkJudge.is_news


def _blind(judge: ChunkJudge, xid: int, time: int) -> bool:
    """Instead of `ChunkJudge.is_news`: a slice is taken to have seen everything."""
    pieces = zip(judge.spans, judge.snapshots, strict=True)
    if any(span.lower <= time < span.upper for span, snapshot in pieces if snapshot is not None):
        return False
    return _judged(judge, xid, time)


def _by_position(clock: OrderClock, position: int = 0) -> int:
    """Instead of `OrderClock.tick`: where a change stands in the log, as if that were its place in time."""
    clock.value = max(clock.value, position)
    return position or clock.value


def _no_barrier(_ground: Ground) -> None:
    """Instead of `Ground.barrier`."""


_BROKEN: Final[Mapping[Rule, tuple[type, str, Callable[..., object]]]] = {
    Rule.FILTER: (Coverage, "add", _forgets),
    Rule.SIGHT: (ChunkJudge, "is_news", _blind),
    Rule.CLOCK: (OrderClock, "tick", _by_position),
    Rule.BARRIER: (Ground, "barrier", _no_barrier),
}


def run_hurried() -> None:
    """The connector's command line, in a hurry; `ORACLE_WITHOUT` may name a rule to switch off."""
    named = os.environ.get(WITHOUT)
    with hurried(Rule[named] if named else None):
        run()
