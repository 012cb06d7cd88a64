from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from source_timescaledb.airbyte.goal import FEW, MOST_PASSES, Goal


@dataclass
class Table:
    """A stream without chunks, of which so many slices are left."""

    left: int

    @property
    def readable(self) -> bool:
        return self.left > 0

    @property
    def owes(self) -> bool:
        return self.readable

    def set_goal(self) -> int:
        return 0

    def round(self) -> None:
        self.left -= 1


@dataclass
class Load:
    """A stream of which each round reads a chunk, while so many others are born."""

    left: float
    born: float = 0.0
    read: int = 0
    goal: int = 0

    @property
    def readable(self) -> bool:
        return self.left >= 1

    @property
    def owes(self) -> bool:
        return self.readable and self.read < self.goal

    def set_goal(self) -> int:
        self.goal = self.read + int(self.left)
        return int(self.left)

    def round(self) -> None:
        if self.readable:
            self.left -= 1
            self.read += 1
        self.left += self.born


def read(loads: Iterable[Load | Table], most_rounds: int = 100_000) -> int:
    """Play a sync, and say how many chunks it leaves to the next one."""
    loads = list(loads)
    goal = Goal(loads)
    for _ in range(most_rounds):
        if goal.reached():
            return goal.left
        for load in loads:
            load.round()
    raise AssertionError("The sync goes on and on.")


def test_everything_is_read_where_nothing_is_born() -> None:
    loads = [Load(100), Load(0), Load(7)]
    assert read(loads) == 0
    assert [load.read for load in loads] == [100, 0, 7]


def test_what_is_born_during_a_load_is_read_when_it_is_less_than_is_read_meanwhile() -> None:
    load = Load(1000, born=0.1)
    assert read([load]) == 0
    assert load.left < 1
    assert load.read > 1000


@pytest.mark.parametrize("born", [1, 1.5, 3, 100])
@pytest.mark.parametrize("chunks", [1, FEW, 1000])
def test_a_sync_ends_however_fast_chunks_are_born(chunks: int, born: float) -> None:
    load = Load(chunks, born)
    left = read([load])
    assert left == int(load.left) > 0
    assert chunks <= load.read <= MOST_PASSES * max(chunks, FEW)


def test_a_load_is_not_kept_from_its_end_by_one_that_has_none() -> None:
    small, endless = Load(500), Load(1, born=2)
    assert read([small, endless]) > 0
    assert small.left == 0
    assert endless.read >= 1


def test_chunks_are_owed_from_the_start_beside_a_table() -> None:
    load, table = Load(3), Table(5)
    goal = Goal([load, table])
    assert not goal.reached()
    assert load.owes
    assert table.owes
    assert read([load, table]) == 0
    assert not load.readable
    assert not table.readable
