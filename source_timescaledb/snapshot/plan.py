"""What a plan is to those who carry it out: a source of slices that remembers which of them are finished.

Three things happen to a slice. A reader *takes* it, then it is either *confirmed*, when its rows have been written
out, or *given back*, when its transaction failed or ran into a limit; what is given back is taken again, perhaps cut
differently. Progress, and so every STATE, counts confirmed slices only: a kill at any moment loses nothing.

Plans hold no lock and do no I/O; their carrier guards them (`snapshot.crew`). Where a bound must be asked of the
server, the question is passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.snapshot.slices import Slice, WholeSlice
from source_timescaledb.state.model import Key, Progress

FindBoundary = Callable[["Key | None", "Key | None", int], "Key | None"]
"""(lower, upper, rows) -> the key `rows` rows past `lower`, or None if there are fewer below `upper`."""


class Plan(Protocol):
    """A relation's slices in the order they are read."""

    pace: Pace

    def take(self, boundary: FindBoundary) -> Slice | None:
        """The next slice to read, or None if there is none to hand out now."""

    def confirm(self, slice_: Slice) -> bool:
        """Count a slice as finished; True if that finished a chunk, or the relation."""

    def give_back(self, slice_: Slice) -> None:
        """Return a slice that was taken and not read."""

    @property
    def exhausted(self) -> bool:
        """Whether every slice has been taken and none is out."""

    @property
    def chunks_left(self) -> int:
        """How many chunks are not finished; what has none is one."""

    @property
    def progress(self) -> Progress | None:
        """What a later process needs to go on from here; None where there is nothing to go on from."""


class UncutPlan:
    """Slices one after the other, as they are given. There is no position among them: a killed read starts over."""

    progress: Progress | None = None

    def __init__(self, slices: Iterable[Slice], pace: Pace) -> None:
        self.pace = pace
        self._left = deque(slices)
        self._out = 0

    def take(self, _boundary: FindBoundary) -> Slice | None:
        """The next slice."""
        if not self._left:
            return None
        self._out += 1
        return self._left.popleft()

    def confirm(self, _slice: Slice) -> bool:
        """A slice is finished; True if it was the last."""
        self._out -= 1
        return self.exhausted

    def give_back(self, slice_: Slice) -> None:
        """Offer a slice again."""
        self._out -= 1
        self._left.appendleft(slice_)

    @property
    def exhausted(self) -> bool:
        """Whether every slice has been taken and confirmed."""
        return not self._left and not self._out

    @property
    def chunks_left(self) -> int:
        """One until everything is finished."""
        return int(not self.exhausted)


class WholePlan(UncutPlan):
    """One slice, everything; for views, foreign tables, tables without a key and the fallback."""

    def __init__(self, pace: Pace) -> None:
        super().__init__([WholeSlice()], pace)
