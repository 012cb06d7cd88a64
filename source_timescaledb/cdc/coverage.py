"""What of a stream the snapshot has read, and so which of its changes are news.

Every row lies in exactly one slice, and at any moment that slice is in one of three conditions.

    unread    its snapshot will be taken later and will hold the change: the change is skipped
    fresh     read since the last drain: the change is skipped if the slice's snapshot sees its transaction, else emitted
    settled   read before the last drain: whatever its snapshot saw had been decoded by then, so every change is emitted

A drain reaches past a fence that was written after the slices were read, so when it ends the fresh slices are settled and
their snapshots forgotten. No slice is in flight while the stream is drained, hence the three conditions are all there
are.

Skipping an unread change promises that a later snapshot sees it. Decoding can run ahead of visibility, while a commit
waits for a synchronous standby; so the transactions that were skipped are kept until a snapshot has seen them, and a
slice read in one that does not is read again. A process that starts knows nothing of what an earlier one has skipped: it
accepts no snapshot that does not see all that had begun to write when it started.

A chunk may have rows that another one had when it was last listed (`merge_chunks` says nothing in the log). So a row is
judged by its time and not by the chunk that the log names: by whatever slice of the same space its time lies in.

A chunk that was dropped before it was read will never be. Where the stream is new, its rows were gone before the stream
began, and none of its changes is told; where the stream was followed before, they are its history, and all are. But it
may have been merged and not dropped, which the log does not tell apart: rows at a time that is left to read are not told.

A stream with a key is exposed while its state was left open: a killed process may have printed rows after its last STATE,
of slices that are unread for this one. What has become of those rows has to be told. That one is gone, only the log says;
so every removal is emitted, wherever its row lay, and every change of what is fresh, and the order clock sorts them out.
What is new in an unread slice is skipped as ever: told now, it might be gone by the time the slice is read, from a chunk
that another was split into or merged with and that was not published yet, and nothing would tell (found by the oracle).
Of a plain table everything is emitted: its rows do not move, and where their keys lie the server would have to be asked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from source_timescaledb.cdc.keys import Placement
from source_timescaledb.cdc.visibility import Snapshot
from source_timescaledb.hypertables.model import EVERYTHING, OPEN_ABOVE, Span
from source_timescaledb.hypertables.spans import subtract_all
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.snapshot.key_plan import KeyPlan
from source_timescaledb.snapshot.plan import Plan
from source_timescaledb.snapshot.slices import ChunkSlice, KeySlice, Slice
from source_timescaledb.state.model import Key

Placing = Callable[[tuple[Key, ...]], Placement]
"""How keys of a table are placed among bounds."""


class Verdict(Enum):
    """What holds for every row of a relation, whatever it is."""

    NEWS = "every change is emitted"
    UNREAD = "no change is: the rows will be read"


@dataclass(slots=True)
class Skipped:
    """The transactions of which changes were skipped because a later snapshot will hold them.

    `begun` is an xid8 that all transactions are older than that had written anything when the process started.
    """

    begun: int = 0
    unseen: set[int] = field(default_factory=set)
    """The low 32 bits of their ids, as the stream tells them."""

    def add(self, xid: int) -> None:
        """Remember a transaction."""
        self.unseen.add(xid)

    def accept(self, snapshot: Snapshot) -> bool:
        """Whether a snapshot holds everything that was skipped; what it sees, all later ones see too."""
        self.unseen = {xid for xid in self.unseen if not snapshot.sees(xid)}
        return not self.unseen and snapshot.xmin >= self.begun


@dataclass(frozen=True, slots=True)
class ChunkJudge:
    """Judges rows of a hypertable by their time, in internal units; outside of the spans a row is news.

    The spans are in order and do not overlap, each with the snapshot that it was read in, None if it was not.
    """

    spans: tuple[Span, ...]
    snapshots: tuple[Snapshot | None, ...]
    skipped: Skipped

    def is_news(self, xid: int, time: int) -> bool:
        """Whether a change of a row with this time is to be emitted; notes the transaction if it is left for later."""
        place = bisect_right(self.spans, (time, OPEN_ABOVE)) - 1
        if place < 0 or not _reaches(self.spans[place], time):
            return True
        snapshot = self.snapshots[place]
        if snapshot is not None:
            return not snapshot.sees(xid)
        self.skipped.add(xid)
        return False


def _reaches(span: Span, time: int) -> bool:
    """Whether a span goes on past a time; infinity is the greatest there is, and lies in one that is open above."""
    return time < span.upper or span.upper == OPEN_ABOVE


def _judge(
    fresh: Iterable[tuple[Span, Snapshot]], unread: Iterable[Span], skipped: Skipped
) -> Verdict | ChunkJudge:
    """One judge of what was read and what is left; where two slices overlap, the first of them counts."""
    pieces: list[tuple[Span, Snapshot | None]] = []
    for span, snapshot in sorted(fresh, key=lambda piece: piece[0]):
        lower = max(span.lower, pieces[-1][0].upper) if pieces else span.lower
        if lower < span.upper:
            pieces.append((Span(lower, span.upper), snapshot))
    left = subtract_all(unread, [span for span, _ in pieces])
    pieces = sorted([*pieces, *((span, None) for span in left)], key=lambda piece: piece[0])
    if not pieces:
        return Verdict.NEWS
    return ChunkJudge(tuple(span for span, _ in pieces), tuple(snapshot for _, snapshot in pieces), skipped)


@dataclass(frozen=True, slots=True)
class KeyJudge:
    """Judges the rows of a plain table by their key."""

    placement: Placement
    pieces: tuple[Snapshot | Verdict, ...]
    """One more than there are bounds."""
    skipped: Skipped

    def is_news(self, xid: int, key: Key) -> bool:
        """Whether a change of the row with this key is to be emitted."""
        match self.pieces[self.placement.of(key)]:
            case Snapshot() as snapshot:
                return not snapshot.sees(xid)
            case Verdict.UNREAD:
                self.skipped.add(xid)
                return False
            case _:
                return True

    def has_read(self, xid: int) -> bool:
        """Whether something was read in a snapshot that does not see a transaction."""
        return any(
            not piece.sees(xid) if isinstance(piece, Snapshot) else piece is Verdict.NEWS
            for piece in self.pieces
        )


@dataclass(frozen=True, slots=True)
class WholeJudge:
    """Judges the rows of a table that was read in one query."""

    snapshot: Snapshot

    def is_news(self, xid: int) -> bool:
        """Whether a change is to be emitted."""
        return not self.snapshot.sees(xid)


class Coverage:
    """What of one stream is read. `plan` is None where nothing is left to read and nothing ever will be."""

    def __init__(
        self,
        plan: Plan | None,
        skipped: Skipped,
        *,
        exposed: bool,
        keyed: bool = True,
        complete: bool = False,
    ) -> None:
        """`exposed`: a state was left open, so where the stream is `keyed`, all removals are news until it is read.

        `complete`: the stream had been read to its end before, if only because nothing was there.
        """
        self.plan = plan
        self.skipped = skipped
        self.exposed = exposed and keyed
        self._keyed = keyed
        self._fresh: list[tuple[Slice, Snapshot]] = []
        self._new = isinstance(plan, ChunkPlan) and not complete and not _begun(plan)
        self._touched: set[int] = set()
        """The chunks of which this process has read something."""
        self._judges: dict[tuple[str, bool], tuple[list[Span], Verdict | ChunkJudge]] = {}
        """By space, and whether the chunk is gone, with what was left when they were made."""
        self._settled: set[int] = set(plan.progress.open) if isinstance(plan, ChunkPlan) else set()
        """The chunks of which something is settled, among those that are not finished."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left to read."""
        return self.plan is None or self.plan.exhausted

    @property
    def fresh(self) -> bool:
        """Whether something was read since the last drain, so that no state can say where it stands."""
        return bool(self._fresh)

    def expose(self) -> None:
        """Rows that are unread were told before, in another chunk: what becomes of them has to be told."""
        self.exposed = self._keyed
        self._judges.clear()

    def add(self, slice_: Slice, snapshot: str) -> None:
        """Note a slice that was read and confirmed; one of a chunk that is gone has no snapshot."""
        if snapshot:
            if isinstance(slice_, ChunkSlice):
                self._touched.add(slice_.chunk.id)
            self._fresh.append((slice_, Snapshot.parse(snapshot)))
            self._judges.clear()

    def settle(self) -> None:
        """The stream was drained past everything read so far."""
        self._settled.update(slice_.chunk.id for slice_, _ in self._fresh if isinstance(slice_, ChunkSlice))
        self._fresh.clear()
        self._judges.clear()
        if isinstance(self.plan, KeyPlan):
            self.plan.fold()
        if self.complete:
            self.exposed = False

    def of_chunk(self, chunk_id: int, *, gone: bool = False) -> Verdict | ChunkJudge:
        """How changes of a chunk's rows are judged until the next slice or drain."""
        if not isinstance(self.plan, ChunkPlan):
            return Verdict.NEWS
        if chunk_id > self.plan.last_chunk:
            return _judge((), [EVERYTHING], self.skipped)
        space = self.plan.space(chunk_id)
        if space is not None:
            return self._of_space(self.plan, space, gone=gone)
        fresh = [(one.span, snapshot) for one, snapshot in self._fresh_slices if one.chunk.id == chunk_id]
        return _judge(fresh, self.plan.unread(chunk_id), self.skipped)

    def _of_space(self, plan: ChunkPlan, space: str, *, gone: bool) -> Verdict | ChunkJudge:
        """What is in no chunk that was listed will be read where it is; of one that is gone, it may be history."""
        left = plan.unconfirmed(space)
        made_for, judge = self._judges.get((space, gone), (None, Verdict.NEWS))
        if made_for is not left:
            fresh = [
                (one.span, snapshot)
                for one, snapshot in self._fresh_slices
                if plan.space(one.chunk.id) == space
            ]
            unread = left if gone and not self._new else [*left, *plan.unlisted(space)]
            judge = _judge(fresh, unread, self.skipped)
            self._judges[space, gone] = left, judge
        return judge

    @property
    def _fresh_slices(self) -> Iterator[tuple[ChunkSlice, Snapshot]]:
        """The slices of which changes may be skipped because their snapshots have seen them."""
        if self.exposed:
            return iter(())
        return ((one, snapshot) for one, snapshot in self._fresh if isinstance(one, ChunkSlice))

    def of_dropped_chunk(self, chunk_id: int) -> Verdict | ChunkJudge:
        """The same for a chunk that was dropped, or merged into another, before the stream told of it."""
        plan = self.plan
        if not isinstance(plan, ChunkPlan):
            return Verdict.NEWS
        if plan.space(chunk_id) == "":
            return self._of_space(plan, "", gone=True)
        if self._never_had(chunk_id):
            return Verdict.UNREAD
        return Verdict.NEWS if chunk_id > plan.last_chunk else self.of_chunk(chunk_id, gone=True)

    def _never_had(self, chunk_id: int) -> bool:
        """Whether the stream is new and has told nothing of a chunk."""
        return self._new and chunk_id not in self._touched

    def has_read(self, chunk_id: int, xid: int) -> bool:
        """Whether something of a chunk was read in a snapshot that does not see a transaction, or may have been."""
        if self.exposed:
            return True
        if self._never_had(chunk_id):
            return False
        fresh = [snapshot for slice_, snapshot in self._fresh_slices if slice_.chunk.id == chunk_id]
        if chunk_id in self._settled or not all(snapshot.sees(xid) for snapshot in fresh):
            return True
        assert isinstance(self.plan, ChunkPlan)
        return not fresh and not self.plan.unread(chunk_id)

    def of_table(self, placing: Placing) -> Verdict | KeyJudge | WholeJudge:
        """How changes of a plain table's rows are judged until the next slice or drain."""
        if self.exposed or self.plan is None:
            return Verdict.NEWS
        if isinstance(self.plan, KeyPlan):
            return self._of_keys(self.plan, placing)
        if not self.plan.exhausted:
            return Verdict.UNREAD
        return WholeJudge(self._fresh[-1][1]) if self._fresh else Verdict.NEWS

    def _of_keys(self, plan: KeyPlan, placing: Placing) -> Verdict | KeyJudge:
        snapshots = {
            (slice_.lower, slice_.upper): snapshot
            for slice_, snapshot in self._fresh
            if isinstance(slice_, KeySlice)
        }
        ranges = plan.ranges
        if not snapshots and all(done for _, _, done in ranges):
            return Verdict.NEWS
        pieces = [
            snapshots.get((lower, upper), Verdict.NEWS) if done else Verdict.UNREAD
            for lower, upper, done in ranges
        ]
        bounds = [upper for _, upper, _ in ranges[:-1] if upper is not None]
        lowest = ranges[0][0]
        if lowest is not None:
            bounds.insert(0, lowest)
            pieces.insert(0, Verdict.NEWS)
        if pieces == [Verdict.UNREAD]:
            return Verdict.UNREAD
        return KeyJudge(placing(tuple(bounds)), tuple(pieces), self.skipped)


def _begun(plan: ChunkPlan) -> bool:
    """Whether an earlier process has finished anything of it."""
    progress = plan.progress
    return progress.after is not None or bool(progress.late_after or progress.open)
