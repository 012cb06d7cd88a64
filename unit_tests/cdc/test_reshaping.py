"""Chunks that are born, merged, split and dropped at any moment, in a small world without a server.

The world is a hypertable with its log, the sync is made of the plan, the coverage and their rules, and hypothesis plays
both against each other: what is left at the end is told, whatever happened between which steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from source_timescaledb.cdc.coverage import ChunkJudge, Coverage, Skipped, Verdict
from source_timescaledb.hypertables.model import Span
from source_timescaledb.hypertables.spans import subtract_all
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.snapshot.slices import ChunkSlice
from source_timescaledb.state.model import ChunkProgress
from unit_tests.cdc.test_coverage import TABLE, chunk

T = TypeVar("T")

WIDTH = 10
TIMES = 8 * WIDTH


@dataclass(frozen=True)
class Row:
    """A version of a row; the destination keeps the last one that it hears of."""

    key: int
    time: int
    version: int


@dataclass(frozen=True)
class Change:
    """What the log tells."""

    xid: int
    chunk: int
    row: Row
    gone: bool = False


@dataclass
class World:
    """A hypertable. Where `publishes`, chunks are in the publication from their birth, else once a sync has seen them."""

    publishes: bool
    chunks: dict[int, Span] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    log: list[Change] = field(default_factory=list)
    published: set[int] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)
    listed: list[Span] = field(default_factory=list)
    decoded: int = 0
    """How much of the log a sync has read."""
    unseen: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Rows of chunks that no sync has listed yet, with the chunk, and the change's place in the log, -1 without one."""
    kept: set[int] = field(default_factory=set)
    """Rows that the destination may keep: they went without a word."""
    excused: set[int] = field(default_factory=set)
    """Rows that it may lack: of a chunk that took another's place and was merged before anybody saw it."""
    xid: int = 100
    last_chunk: int = 0
    last_row: int = 0

    def insert(self, time: int, _: int) -> None:
        home = self.chunk_of(time)
        if home is None:
            home = self.bear(time)
        self.last_row += 1
        self._write(home, Row(self.last_row, time, 1))

    def update(self, which: int, _: int) -> None:
        if self.rows:
            row = _pick(list(self.rows.values()), which)
            self._write(self._home(row), Row(row.key, row.time, row.version + 1))

    def delete(self, which: int, _: int) -> None:
        if self.rows:
            row = self.rows.pop(_pick(list(self.rows), which))
            self._log(self._home(row), row, gone=True)

    def merge(self, which: int, _: int) -> None:
        ordered = sorted(self.chunks, key=lambda one: self.chunks[one])
        pairs = [
            (left, right)
            for left, right in itertools.pairwise(ordered)
            if self.chunks[left].upper == self.chunks[right].lower
        ]
        if pairs:
            kept, other = _pick(pairs, which)
            span = self.chunks.pop(other)
            self._excuse(other, span)
            self.chunks[kept] = Span(self.chunks[kept].lower, span.upper)

    def split(self, which: int, at: int) -> None:
        wide = [one for one, span in self.chunks.items() if span.upper - span.lower > 1]
        if wide:
            one = _pick(wide, which)
            span = self.chunks[one]
            middle = span.lower + 1 + at % (span.upper - span.lower - 1)
            self.chunks[one] = Span(span.lower, middle)
            self._bear(Span(middle, span.upper))

    def drop(self, which: int, _: int) -> None:
        if self.chunks:
            one = _pick(sorted(self.chunks), which)
            span = self.chunks.pop(one)
            lost = {row.key for row in self.rows.values() if _holds(span, row.time)}
            self.kept |= lost
            self.rows = {key: row for key, row in self.rows.items() if key not in lost}

    def bear(self, time: int) -> int:
        day = Span(time - time % WIDTH, time - time % WIDTH + WIDTH)
        free = subtract_all([day], sorted(self.chunks.values()))
        return self._bear(next(span for span in free if _holds(span, time)))

    def list(self) -> list[tuple[int, Span]]:
        self.listed += self.chunks.values()
        self.published |= self.chunks.keys()
        self.unseen = {key: where for key, where in self.unseen.items() if where[0] not in self.chunks}
        self.seen |= self.chunks.keys()
        return sorted(self.chunks.items())

    def chunk_of(self, time: int) -> int | None:
        return next((one for one, span in self.chunks.items() if _holds(span, time)), None)

    def _bear(self, span: Span) -> int:
        self.last_chunk += 1
        self.chunks[self.last_chunk] = span
        if self.publishes:
            self.published.add(self.last_chunk)
        return self.last_chunk

    def _home(self, row: Row) -> int:
        home = self.chunk_of(row.time)
        assert home is not None
        return home

    def _write(self, home: int, row: Row) -> None:
        self.rows[row.key] = row
        self._log(home, row)

    def _log(self, home: int, row: Row, *, gone: bool = False) -> None:
        self.xid += 1
        logged = home in self.published
        if logged:
            self.log.append(Change(self.xid, home, row, gone))
        if gone and home not in self.seen:
            self.kept.add(row.key)
        if not gone and home not in self.seen:
            self.unseen[row.key] = home, len(self.log) - 1 if logged else -1

    def _excuse(self, merged: int, span: Span) -> None:
        if any(not span.meet(other).empty for other in self.listed):
            self.excused |= {
                key for key, (home, place) in self.unseen.items() if home == merged and place < self.decoded
            }


@dataclass
class Destination:
    rows: dict[int, Row] = field(default_factory=dict)
    position: int = 0
    progress: ChunkProgress | None = None
    exposed: bool = False
    complete: bool = False

    def hear(self, row: Row, *, gone: bool = False) -> None:
        if gone:
            self.rows.pop(row.key, None)
        else:
            self.rows[row.key] = row


class Sync:
    """One process: it reads slices, drains, tells its state, and looks; `restart` makes another of its state."""

    def __init__(self, world: World, destination: Destination) -> None:
        self.world, self.destination = world, destination
        listed = [chunk(number, *span) for number, span in world.list()]
        self.plan = ChunkPlan(TABLE, listed, Pace(limit=1.0), progress=destination.progress)
        self.coverage = Coverage(
            self.plan, Skipped(), exposed=destination.exposed, complete=destination.complete
        )
        self._tell_displaced()
        self.known = {one.id for one in listed}
        self.fresh = False
        self.drain()

    def slice(self) -> None:
        slice_ = self.plan.take(lambda _lower, _upper, _rows: None)
        if slice_ is None:
            return
        assert isinstance(slice_, ChunkSlice)
        self.fresh = True
        if slice_.chunk.id not in self.world.chunks:
            self.plan.vanish(slice_)
            self.coverage.add(slice_, "")
            return
        slice_ = replace(slice_, chunk=chunk(slice_.chunk.id, *self.world.chunks[slice_.chunk.id]))
        span = slice_.chunk.span.meet(slice_.span)
        for row in self.world.rows.values():
            if _holds(span, row.time):
                self.destination.hear(row)
        self.plan.confirm(slice_)
        self.coverage.add(slice_, f"{self.world.xid + 1}:{self.world.xid + 1}:")

    def drain(self) -> None:
        for change in self.world.log[self.destination.position :]:
            if self._is_news(change) or (change.gone and self.coverage.exposed):
                self.destination.hear(change.row, gone=change.gone)
        self.destination.position = self.world.decoded = len(self.world.log)
        self.coverage.settle()
        self.destination.progress, self.destination.complete = self.plan.progress, self.coverage.complete
        self.destination.exposed = self.coverage.exposed
        self.fresh = False

    def look(self) -> None:
        if self.fresh:
            self.drain()
        bereft = self.plan.bereft
        listed = [chunk(number, *span) for number, span in self.world.list()]
        self.plan.extend(listed)
        if bereft:
            self.plan.adopt(listed)
        self._tell_displaced()
        self.known |= {one.id for one in listed}

    def finish(self) -> None:
        self.look()
        while not self.plan.exhausted:
            self.slice()
            self.look()
        self.drain()

    def _tell_displaced(self) -> None:
        for displaced in (self.plan.displacing, self.plan.doubtful):
            if displaced:
                displaced.clear()
                self.coverage.expose()

    def _is_news(self, change: Change) -> bool:
        if change.chunk in self.world.chunks:
            self.known.add(change.chunk)
        known = change.chunk in self.known
        judge = (self.coverage.of_chunk if known else self.coverage.of_dropped_chunk)(change.chunk)
        match judge:
            case ChunkJudge():
                return judge.is_news(change.xid, change.row.time)
            case _:
                return judge is Verdict.NEWS


class Act(Enum):
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    MERGE = "merge"
    SPLIT = "split"
    DROP = "drop"
    SLICE = "slice"
    DRAIN = "drain"
    LOOK = "look"
    RESTART = "restart"
    KILL = "kill"


Step = tuple[Act, int, int]

steps = st.lists(
    st.tuples(st.sampled_from(Act), st.integers(0, TIMES - 1), st.integers(0, TIMES - 1)), max_size=60
)


def play(publishes: bool, before: Iterable[int], acts: Iterable[Step]) -> tuple[World, Destination]:
    world, destination = World(publishes), Destination()
    for time in before:
        world.insert(time, 0)
    sync = Sync(world, destination)
    sync.look()
    for act, one, other in acts:
        match act:
            case Act.RESTART:
                sync.drain()
                sync = Sync(world, destination)
                sync.look()
            case Act.KILL:
                destination.exposed = True
                sync = Sync(world, destination)
                sync.look()
            case Act.SLICE:
                sync.slice()
            case Act.DRAIN:
                sync.drain()
            case Act.LOOK:
                sync.look()
            case _:
                happen: Callable[[int, int], None] = getattr(world, act.value)
                happen(one, other)
    sync.finish()
    Sync(world, destination).finish()
    return world, destination


@settings(max_examples=500, deadline=None)
@given(st.booleans(), st.lists(st.integers(0, TIMES - 1), max_size=6), steps)
def test_what_is_there_at_the_end_was_told_however_chunks_were_reshaped(
    publishes: bool, before: list[int], acts: list[Step]
) -> None:
    world, destination = play(publishes, before, acts)
    missing = [
        row
        for row in world.rows.values()
        if destination.rows.get(row.key) != row and row.key not in world.excused
    ]
    assert not missing, world.chunks
    assert destination.rows.keys() - world.rows.keys() <= world.kept


def _pick(choices: Sequence[T], number: int) -> T:
    return choices[number % len(choices)]


def _holds(span: Span, time: int) -> bool:
    return span.lower <= time < span.upper
