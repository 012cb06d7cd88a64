"""How wide the next slice should be, learned from the slices before it.

A slice should be big enough that its fixed cost (one transaction, some two milliseconds) does not show, and small
enough that its transaction stays far below the limit and its rows fit in memory. Width has no natural unit: for a
chunk it is time, for a table it is rows. So this only scales: what a slice cost tells how much the next may take. One
step grows at most fourfold, because data is uneven, and shrinks as far as the measurement says; a slice that ran into
a limit is thrown away and the width cut to an eighth.

Where even the narrowest slices run into the time limit, what takes the time is not the rows but finding them, for
example in a chunk without an index on its time. Then narrowing is useless, and the limit is raised for this relation:
a finished sync with a warning is worth more than one that never ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GROW_AT_MOST: Final = 4.0
CUT_TO: Final = 1 / 8
PATIENCE: Final = 6
"""So many overruns in a row (an eighth each time: a 262,144th of the first width) mean that width is not the cause."""

TARGET_BYTES: Final = 4 * 1024 * 1024
MOST_BYTES: Final = 16 * 1024 * 1024
"""A slice that holds more than this is given up and cut, while it can be cut."""

_TARGET_SHARE: Final = 0.35
_DEADLINE_SHARE: Final = 0.85


@dataclass(frozen=True, slots=True)
class SliceCost:
    """What one slice took: its width in the plan's own unit, rendered bytes, seconds in its transaction."""

    width: float
    size: int
    seconds: float


class Pace:
    """The width of the next slice, and how long its transaction may last.

    `first` is the width to begin with, None for "as wide as it comes"; `limit` is `max_transaction_seconds`.
    """

    def __init__(self, *, limit: float, first: float | None = None) -> None:
        self._width = first
        self._limit = limit
        self._overruns = 0
        self._raised = 1.0

    @property
    def width(self) -> float | None:
        """The width of the next slice in the plan's unit; None while nothing limits it."""
        return self._width

    @property
    def deadline(self) -> float:
        """Seconds after which a slice's transaction is given up."""
        return self._limit * _DEADLINE_SHARE * self._raised

    @property
    def raised(self) -> bool:
        """Whether the time limit had to be raised because narrower slices did not help."""
        return self._raised > 1

    def finished(self, cost: SliceCost) -> None:
        """Learn from a slice that was read within its limits."""
        self._overruns = 0
        room = min(
            TARGET_BYTES / max(cost.size, 1),
            self._limit * self._raised * _TARGET_SHARE / max(cost.seconds, 1e-6),
        )
        self._width = cost.width * min(room, GROW_AT_MOST)

    def overran(self, width: float, *, by_time: bool) -> None:
        """Learn from a slice that ran into a limit and was thrown away."""
        narrowed = width * CUT_TO
        self._width = narrowed if self._width is None else min(self._width, narrowed)
        self._overruns += by_time
        if self._overruns >= PATIENCE:
            self._raised *= 4
            self._overruns = 0
            self._width = width
