"""How far a sync reads: all that there is, but not after chunks that are born faster than it reads.

A sync that read until nothing is left would never end where chunks are born, split or merged faster than they are read.
So it reads in passes. The goal of a pass is as many chunks as are left when it begins; those born meanwhile are not
owed. When all streams have reached theirs, what is left by then makes another pass: a few of them, so that what was
born during a long first load is nearly always read, and none that is longer than the first, which is the sign of a race
that is lost.

What remains is in the state, and read by the next sync.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

MOST_PASSES: Final = 4
FEW: Final = 32
"""So many chunks are never too many for another pass: a sync with nothing to load still reads what is born during it."""


class Reader(Protocol):
    """A stream of which something may be left to read."""

    @property
    def readable(self) -> bool:
        """Whether something is left to read, and can be."""

    @property
    def owes(self) -> bool:
        """Whether it is readable, and has yet to reach its goal; what has no chunks has until all of it is read."""

    def set_goal(self) -> int:
        """Make all that is left its goal; how many chunks that is."""


class Goal:
    """What the streams of one sync are to read before it may end.

    `left` is how many chunks are left to the next sync, once the goal has been `reached`.
    """

    def __init__(self, streams: Iterable[Reader]) -> None:
        self._streams = list(streams)
        self._passes = 0
        self._most = FEW
        self.left = 0

    def reached(self) -> bool:
        """Whether the sync may end; else there is more to read, and streams owe it."""
        if self._passes and any(stream.owes for stream in self._streams):
            return False
        if not any(stream.readable for stream in self._streams):
            return True
        left = sum(stream.set_goal() for stream in self._streams)
        if self._passes == 0:
            self._most = max(left, FEW)
        elif self._passes == MOST_PASSES or left > self._most:
            self.left = left
            return True
        self._passes += 1
        return False
