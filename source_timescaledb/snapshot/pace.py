"""How wide the next slice should be, learned from the slices before it.

A slice should be big enough that its fixed cost (one transaction, some two milliseconds) does not show, and small
enough that its transaction stays far below the limit and its rows fit in memory. Width has no natural unit: for a
chunk it is time, for a table it is rows. So this only scales: what a slice cost tells how much the next may take. One
step grows at most fourfold, because data is uneven, and shrinks as far as the measurement says; a slice that ran into
a limit is thrown away and the width cut to an eighth.

Where finding the rows takes long, for example in a chunk without an index on its time, a slice of no width at all
takes its time too. Aiming below that would narrow them again and again and never reach the end (seen with a scan of
0.4 of the limit). So the fixed part is estimated from the narrowest and the widest of the last slices, and the aim is
twice that, up to `_MOST_SHARE` of the limit. Where even that is too little, narrowing is useless, and the limit is
raised for this relation: a finished sync with a warning is worth more than one that never ends.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

GROW_AT_MOST: Final = 4.0
CUT_TO: Final = 1 / 8
PATIENCE: Final = 6
"""So many overruns in a row (an eighth each time: a 262,144th of the first width) mean that width is not the cause."""

TARGET_BYTES: Final = 8 * 1024 * 1024
"""Between two slices a reader's server waits for some milliseconds; at four megabytes that still shows (measured with two
readers and ten columns: 6.6 s for two million rows, against 5.2)."""
MOST_BYTES: Final = 16 * 1024 * 1024
"""A slice that holds more than this is given up and cut, while it can be cut."""

_TARGET_SHARE: Final = 0.35
_MOST_SHARE: Final = 0.7
_DEADLINE_SHARE: Final = 0.85
_HOPELESS_SHARE: Final = 0.6
"""A fixed cost of so much of the limit leaves too little room below it."""
_REMEMBERED: Final = 8
_TOLD_APART: Final = 1.2
"""Two slices tell the fixed cost from the rest if one is so many times as wide as the other."""
_TRY: Final = 1.5
"""After a row of slices that were all alike one is so much wider, to tell."""


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
        self._recent: deque[SliceCost] = deque(maxlen=_REMEMBERED)
        self._fixed = 0.0

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
        self._recent.append(cost)
        self._fixed = self._fixed_seconds()
        if self._fixed >= self._limit * self._raised * _HOPELESS_SHARE:
            self._raised *= 2
        limit = self._limit * self._raised
        aim = min(max(limit * _TARGET_SHARE, 2 * self._fixed), limit * _MOST_SHARE)
        in_time = (aim - self._fixed) / max(cost.seconds - self._fixed, 1e-6)
        if len(self._recent) == _REMEMBERED and self._alike:
            in_time = max(in_time, _TRY)
        self._width = cost.width * min(TARGET_BYTES / max(cost.size, 1), in_time, GROW_AT_MOST)

    def overran(self, width: float, *, by_time: bool) -> None:
        """Learn from a slice that ran into a limit and was thrown away."""
        narrowed = width * CUT_TO
        self._width = narrowed if self._width is None else min(self._width, narrowed)
        self._overruns += by_time
        if self._overruns >= PATIENCE:
            self._raised *= 4
            self._overruns = 0
            self._width = width

    @property
    def _narrowest(self) -> SliceCost:
        return min(self._recent, key=lambda cost: cost.width)

    @property
    def _widest(self) -> SliceCost:
        return max(self._recent, key=lambda cost: cost.width)

    @property
    def _alike(self) -> bool:
        return self._widest.width < self._narrowest.width * _TOLD_APART

    def _fixed_seconds(self) -> float:
        """What a slice takes whatever its width; as last estimated, where all the slices remembered are alike."""
        estimate = self._fixed
        if not self._alike:
            narrow, wide = self._narrowest, self._widest
            slope = max(0.0, (wide.seconds - narrow.seconds) / (wide.width - narrow.width))
            estimate = max(0.0, narrow.seconds - slope * narrow.width)
        return min(estimate, *(cost.seconds for cost in self._recent))
