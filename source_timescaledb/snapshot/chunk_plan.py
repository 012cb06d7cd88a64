"""The slices of a hypertable: chunk by chunk in one fixed order, each chunk cut into ranges of time.

The order is (range start, chunk id) over the chunks that existed when the read was planned, or its reverse for newest
first; chunks born later follow by id. It depends on nothing but the catalog's own immutable facts, so a resumed
process that lists the chunks afresh finds the same order with some chunks missing (dropped) and some appended (born).

Progress is then one position in that order, before which everything is finished, plus the ranges finished beyond it.
Readers may run at most `RUN_AHEAD` chunks past that position, which bounds the state; a chunk may be read by several
readers at once, each with a slice of its own, so one huge chunk is read as fast as many small ones.

Two chunks may become one (`merge_chunks`). What of the one that is gone was not read is then read in the other, whether
that was finished before or not: the plan asks for a new listing (`bereft`), or the state shows it (`Territory`). Until
then nobody can tell in which chunk a row will be read, but its time says whether it was: what is left is known by time,
too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from sys import intern
from typing import Final

from source_timescaledb.hypertables.model import EVERYTHING, Chunk, Hypertable, Span, TimeKind
from source_timescaledb.hypertables.spans import common, subtract, subtract_all, unite
from source_timescaledb.snapshot.chunk_task import ChunkTask
from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.snapshot.plan import FindBoundary
from source_timescaledb.snapshot.slices import ChunkSlice, Slice
from source_timescaledb.snapshot.territory import Past, Territory, space_of
from source_timescaledb.state.model import Bounds, ChunkProgress

RUN_AHEAD: Final = 32


class ChunkPlan:
    """The plan of one hypertable.

    `chunks` are its chunks now; `progress` is what an earlier process left, None at the start; `window` limits time
    (`snapshot_since`, or a cursor) and is taken from `progress` where there is one. With `by_time_alone`, chunks that
    share time are read as one: for a role that cannot name the other dimensions, whose rows it could not tell apart.
    """

    def __init__(
        self,
        hypertable: Hypertable,
        chunks: Iterable[Chunk],
        pace: Pace,
        *,
        newest_first: bool = False,
        window: Span = EVERYTHING,
        progress: ChunkProgress | None = None,
        by_time_alone: bool = False,
    ) -> None:
        self.pace = pace
        self._by_time_alone = by_time_alone
        self._covered: list[Span] = []
        self.hypertable = hypertable
        self._sliceable = hypertable.time.time is not TimeKind.OPAQUE
        known = list(chunks)
        start = progress or ChunkProgress(
            hypertable=hypertable.id,
            order="newest_first" if newest_first else "oldest_first",
            through=max((chunk.id for chunk in known), default=0),
            window=None if window == EVERYTHING else window,
        )
        self._order = start.order
        self._through = start.through
        self._window = Span(*start.window) if start.window else EVERYTHING
        self._after = start.after
        self._late_after = start.late_after
        self.last_chunk = max([start.last_chunk, *(chunk.id for chunk in known)])
        self.chunks_left = 0
        self._tasks: deque[ChunkTask] = deque()
        self._by_id: dict[int, ChunkTask] = {}
        self._unconfirmed: dict[str, list[Span]] = {}
        self._unlisted: dict[str, list[Span]] = {}
        self._spaces: dict[int, str] = {}
        """Of chunks that time alone does not tell apart."""
        self._note_spaces(known)
        planned, late = self._planned(known), self._late(known)
        left = {chunk.id for chunk in (*planned, *late)}
        self._cover(chunk.span for chunk in known if chunk.id not in left)
        self._append(planned, start.open)
        self._append(late, start.open)
        self._orphans: list[tuple[Chunk, Span]] = []
        self._territory = before = Territory(start.finished)
        self._survey((chunk for chunk in known if chunk.id not in left), start)
        pasts = [(one, before.past(one, self._territory)) for one in late if one.id > start.last_chunk]
        self.displacing = [chunk for chunk, past in pasts if past is Past.HELD]
        """Chunks that are new and cover what another covered when it was last seen: split off, or in its place."""
        self.doubtful = [chunk for chunk, past in pasts if past is Past.UNCLEAR]
        """Those of which the state does not say whether they do."""
        self._apart = {chunk.id for chunk in (*self.displacing, *self.doubtful)}
        self._settle()
        self._looked = self.exhausted
        """Whether all chunks were looked at since the last of them was read."""

    def extend(self, chunks: Iterable[Chunk]) -> int:
        """Append chunks born since; those already known are left out. How many are new."""
        born = [chunk for chunk in chunks if chunk.id > self.last_chunk]
        split_off = [chunk for chunk in born if self._is_known(chunk)]
        self.displacing += split_off
        self._apart |= {chunk.id for chunk in split_off}
        self._note_spaces(born)
        self._append(sorted(born, key=lambda chunk: chunk.id), {})
        self.last_chunk = max([self.last_chunk, *(chunk.id for chunk in born)])
        self._settle()
        return len(born)

    def take(self, _boundary: FindBoundary) -> Slice | None:
        """The next range of the first chunk that has one left, at most `RUN_AHEAD` chunks ahead of the oldest."""
        for task in islice(self._tasks, RUN_AHEAD):
            if task.todo:
                span = self._cut(task)
                task.out += 1
                return ChunkSlice(task.chunk, span, divisible=self._sliceable)
        return None

    def confirm(self, slice_: Slice) -> bool:
        """Count a range as finished, but for what its chunk has lost meanwhile; True if its chunk now is."""
        assert isinstance(slice_, ChunkSlice)
        task = self._by_id[slice_.chunk.id]
        task.out -= 1
        task.done = unite([*task.done, slice_.span])
        for lost in subtract(slice_.span, [slice_.chunk.span]):
            self._bereave(task, slice_.chunk, lost)
        finished = task.finished
        self.chunks_left -= finished
        self._settle()
        return finished

    def give_back(self, slice_: Slice) -> None:
        """Return a range; it is cut anew when it is taken again."""
        assert isinstance(slice_, ChunkSlice)
        task = self._by_id[slice_.chunk.id]
        task.out -= 1
        task.large = True
        task.todo = unite([slice_.span, *task.todo])

    def vanish(self, slice_: ChunkSlice) -> bool:
        """Count a range as gone with its chunk, unless another chunk turns out to have it; True if that was the last."""
        self._bereave(self._by_id[slice_.chunk.id], slice_.chunk, slice_.span)
        return self.confirm(slice_)

    @property
    def bereft(self) -> bool:
        """Whether `adopt` should be told which chunks there are now: some were gone, or all that are known are read."""
        return bool(self._orphans) or (self.exhausted and not self._looked)

    def adopt(self, chunks: Iterable[Chunk]) -> int:
        """Read what chunks that are gone have left to others, given all chunks; how many others that are.

        Whoever has taken in one that is known may have taken in others, too, that no look at the catalog has ever shown.
        """
        orphans, self._orphans = self._orphans, []
        heirs = set()
        for chunk in chunks:
            if chunk.id <= self.last_chunk:
                left = [span for gone, span in orphans if _has_taken_in(chunk, gone)]
                left += self._strange(chunk)
                if left:
                    heirs.add(chunk.id)
                    self._reopen(chunk, unite(left))
        self._settle()
        self._looked = self.exhausted
        return len(heirs)

    def unread(self, chunk_id: int) -> list[Span]:
        """What of a chunk's time is not confirmed, in order; everything of a chunk that is not known yet."""
        if chunk_id > self.last_chunk:
            return [EVERYTHING]
        task = self._by_id.get(chunk_id)
        return subtract(task.span, task.done) if task is not None else []

    def space(self, chunk_id: int) -> str | None:
        """What a chunk covers beside time, if the time of a row of its says whether it is read, whoever has it.

        None where it does not: the chunk is new and has, or had, rows in common with another one; or no time is known.
        """
        if not self._sliceable or chunk_id in self._apart:
            return None
        return self._spaces.get(chunk_id) if len(self.hypertable.dimensions) > 1 else ""

    def unconfirmed(self, space: str) -> list[Span]:
        """What of time is not confirmed in any chunk with this space, in order; the same list until something changes."""
        if space not in self._unconfirmed:
            tasks = (task for task in self._in(space) if task.chunk.id not in self._apart)
            left = [piece for task in tasks for piece in subtract(task.span, task.done)]
            gone = (piece for chunk, piece in self._orphans if chunk.id not in self._apart)
            self._unconfirmed[space] = unite([*left, *gone])
        return self._unconfirmed[space]

    def unlisted(self, space: str) -> list[Span]:
        """What of time no chunk with this space had that was ever listed, while they will all be looked at once more.

        Rows there are in a chunk that has taken in another one, which was born and merged between two looks.
        """
        if self._looked:
            return []
        if space not in self._unlisted:
            listed = (piece for task in self._in(space) for piece in subtract(task.chunk.span, task.gone))
            self._unlisted[space] = subtract_all([EVERYTHING], [*self._territory.of(space), *listed])
        return self._unlisted[space]

    def untouched(self, chunk_id: int) -> bool:
        """Whether nothing of a chunk is read."""
        task = self._by_id.get(chunk_id)
        return chunk_id > self.last_chunk or (task is not None and not task.done)

    def left(self) -> Iterator[tuple[Chunk, float]]:
        """The chunks that are not finished, each with the part of its time that is not confirmed."""
        for task in self._tasks:
            spans = subtract(task.span, task.done) if task.done else [task.span]
            yield task.chunk, min(1.0, sum(map(task.chunk.share_of, spans)))

    @property
    def exhausted(self) -> bool:
        """Whether every chunk is finished."""
        return not self._tasks

    @property
    def progress(self) -> ChunkProgress:
        """Where this plan stands."""
        ahead: dict[int, tuple[Bounds, ...]] = {
            task.chunk.id: tuple(done)
            for task in islice(self._tasks, RUN_AHEAD)
            if (done := subtract_all(task.done, task.gone))
        }
        return ChunkProgress(
            hypertable=self.hypertable.id,
            order=self._order,
            through=self._through,
            after=self._after,
            late_after=self._late_after,
            last_chunk=self.last_chunk,
            open=ahead,
            window=None if self._window == EVERYTHING else self._window,
            finished=self._territory.bounds,
        )

    def _in(self, space: str) -> Iterator[ChunkTask]:
        return (task for task in self._tasks if space_of(task.chunk) == space)

    def _note_spaces(self, chunks: Iterable[Chunk]) -> None:
        if len(self.hypertable.dimensions) > 1:
            self._spaces.update({chunk.id: intern(space_of(chunk)) for chunk in chunks})

    def _survey(self, chunks: Iterable[Chunk], start: ChunkProgress) -> None:
        """Reopen those finished chunks that have grown since the state was written; one without says nothing of it."""
        known, self._territory = self._territory, Territory()
        for chunk in chunks:
            done = [Span(*bounds) for bounds in start.open.get(chunk.id, ())]
            grown = subtract_all(known.outside(chunk), done) if start.finished is not None else []
            self._territory.add(chunk, subtract_all([chunk.span], grown))
            if grown:
                self._reopen(chunk, grown)

    def _bereave(self, task: ChunkTask, chunk: Chunk, span: Span) -> None:
        """Note what could not be read of a chunk, which does not have it any more."""
        task.gone.append(span)
        self._orphans.append((chunk._replace(box=(span, *chunk.box[1:])), span))

    def _strange(self, chunk: Chunk) -> list[Span]:
        """What of a chunk's time no chunk had that was ever listed, where time alone can tell."""
        space = self.space(chunk.id)
        if space is None or space != space_of(chunk):
            return []
        return common(chunk.span, self.unlisted(space))

    def _reopen(self, chunk: Chunk, spans: list[Span]) -> None:
        """Read ranges of a chunk, which may be finished, or wider than it was."""
        span = chunk.span.meet(self._window)
        left = [piece for piece in (one.meet(span) for one in spans) if not piece.empty]
        if not left:
            return
        task = self._by_id.get(chunk.id)
        if task is None:
            strange = common(span, self._territory.outside(chunk))
            task = self._by_id[chunk.id] = ChunkTask(chunk, span, [], [span], strange)
            self._tasks.append(task)
        self.chunks_left += task.finished
        added = subtract(span, [task.span])
        task.gone = subtract_all([*task.gone, *added], left)
        task.chunk, task.span = chunk, span
        task.done = subtract_all([*task.done, *added], left)
        task.todo = unite([*task.todo, *left])

    def _planned(self, chunks: Iterable[Chunk]) -> list[Chunk]:
        """The chunks of the first listing that are not behind the position, in order."""
        newest_first = self._order == "newest_first"
        ordered = sorted(
            (chunk for chunk in chunks if chunk.id <= self._through), key=_position, reverse=newest_first
        )
        after = self._after
        return [chunk for chunk in ordered if after is None or self._is_behind(after, chunk)]

    def _late(self, chunks: Iterable[Chunk]) -> list[Chunk]:
        first = max(self._through, self._late_after)
        return sorted((chunk for chunk in chunks if chunk.id > first), key=lambda chunk: chunk.id)

    def _append(self, chunks: Iterable[Chunk], finished: dict[int, tuple[Bounds, ...]]) -> None:
        for chunk in chunks:
            span = chunk.span.meet(self._window)
            done = [Span(*bounds) for bounds in finished.get(chunk.id, ())]
            todo = [] if span.empty else subtract(span, [*done, *self._covered])
            self._cover([span])
            task = ChunkTask(chunk, span, todo, done)
            self._tasks.append(task)
            self._by_id[chunk.id] = task
            self.chunks_left += not task.finished

    def _cover(self, spans: Iterable[Span]) -> None:
        """Note what of time belongs to a chunk already, where time alone tells rows apart."""
        if self._by_time_alone:
            self._covered = unite([*self._covered, *(span for span in spans if not span.empty)])

    def _settle(self) -> None:
        """Move the position past finished chunks at the front."""
        self._unconfirmed.clear()
        self._unlisted.clear()
        while self._tasks and self._tasks[0].finished:
            task = self._tasks.popleft()
            del self._by_id[task.chunk.id]
            self._territory.add(task.chunk, subtract_all([task.chunk.span], task.gone))
            if task.chunk.id > self._through:
                self._late_after = max(self._late_after, task.chunk.id)
            elif self._after is None or self._is_behind(self._after, task.chunk):
                self._after = _position(task.chunk)
        for chunk_id in self._apart & self._by_id.keys():
            self._territory.remove(self._by_id[chunk_id].chunk)

    def _is_known(self, chunk: Chunk) -> bool:
        """Whether a chunk that is born covers what another one covered when it was last seen."""
        return self._territory.outside(chunk) != [chunk.span] or any(
            not task.chunk.span.meet(chunk.span).empty for task in self._tasks
        )

    def _is_behind(self, position: Bounds, chunk: Chunk) -> bool:
        """Whether the chunk comes later in the order: one that was reopened does not."""
        if self._order == "newest_first":
            return _position(chunk) < position
        return _position(chunk) > position

    def _cut(self, task: ChunkTask) -> Span:
        """Take the next slice's range out of what a chunk has left."""
        rest = task.todo[0]
        width = None if task.small else self.pace.width
        if width is None or not self._sliceable or not rest.bounded or width >= rest.upper - rest.lower:
            return task.todo.pop(0)
        cut = rest.lower + max(int(width), 1)
        task.todo[0] = Span(cut, rest.upper)
        return Span(rest.lower, cut)


def _has_taken_in(chunk: Chunk, other: Chunk) -> bool:
    """Whether a chunk has all that another one covered, and more: one that is born in its place has no more."""
    return chunk.box != other.box and all(
        outer.lower <= inner.lower and inner.upper <= outer.upper
        for outer, inner in zip(chunk.box, other.box, strict=True)
    )


def _position(chunk: Chunk) -> tuple[int, int]:
    return chunk.span.lower, chunk.id
