"""How many rows each compressed chunk must have if the log told everything: what an audit compares with what is there.

Some writes to compressed chunks leave no trace of their rows in the log (`cdc.compressing`). But rows can be counted: a
compressed chunk has as many as its batches say, and its loose ones. What the application inserts and deletes in the open
is in the log, so between two counts

    rows now = rows then + inserts told - deletes told

whatever compression, decompression and recompression did meanwhile, because they move rows and change no number. If it
does not hold, rows have appeared or vanished that nobody told of, so many, in that chunk.

The two sides must speak of one moment. A count is taken in a snapshot and the log is told by commits; after the count the
log is drained to a fence, and each transaction told that the snapshot does not see is added to the count. Then both
stand where the log does, and so does the state that is told next. Commits that wait for a synchronous standby are told
before they are seen, so transactions from before the count are asked about too.

The state keeps a sketch of the numbers (`cdc.sketch`) and, as a few ranges of ids, which chunks it counts. Each of those
has `MARK` besides its rows: so one that was not counted, in a gap that was closed to keep the ranges few, is told from
one that lost its rows. Rows that a chunk lost and a chunk born since has, just as many, were split off.

A chunk is watched from when it was compressed: the catalog says how many rows it had then, and that holds as long as the
log tells of no change of it since the audit before. Otherwise it is watched from the first audit on that finds it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from source_timescaledb.cdc.sketch import Sketch
from source_timescaledb.cdc.visibility import Snapshot
from source_timescaledb.state.model import Audited, Bounds

MARK: Final = 2**40
"""More than any chunk has rows."""
MOST_RANGES: Final = 24
REMEMBERED: Final = 50_000
"""So many transactions may be told after one that a synchronous standby still holds back."""


@dataclass(frozen=True, slots=True)
class Count:
    """The rows of a chunk in a snapshot."""

    rows: int
    snapshot: Snapshot


@dataclass(slots=True)
class Comparison:
    """What a count shows, at the moment that the log has been told to."""

    rows: dict[int, int]
    """Of each chunk that was counted."""
    differences: dict[int, int] = field(default_factory=dict)
    """Rows that appeared, or vanished if negative, and nobody told of, by chunk."""
    elsewhere: dict[int, int] = field(default_factory=dict)
    """What is kept for chunks that exist and were not counted this time."""
    new: frozenset[int] = frozenset()
    """The chunks that were counted for the first time."""
    untouched: frozenset[int] = frozenset()
    """Those of them that were compressed since the last audit, and of which the log has told nothing since."""
    readable: bool = True
    """Whether the chunks that differ can be told; not if they are too many."""


@dataclass(frozen=True, slots=True)
class Closing:
    """The end of an audit, kept until what it found is told."""

    audited: Audited
    told: Mapping[int, int]


class Ledger:
    """The numbers of one hypertable; used by one thread. `before` is what the last audit left."""

    def __init__(self, before: Audited | None) -> None:
        """Raises ValueError if the state is damaged."""
        self._before = before
        self._sketch = Sketch.parse(before.sketch) if before is not None else None
        self._told: Counter[int] = Counter()
        """Inserts less deletes by chunk, since the sketch, of transactions that are told."""
        self._pending: dict[int, int] = {}
        """The same of the transaction that is being told."""
        self._recent: deque[tuple[int, int, int]] = deque(maxlen=REMEMBERED)
        """Transaction, chunk, inserts less deletes."""
        self._since_count: list[tuple[int, int, int]] | None = None
        self._continuous = before is not None and before.current
        """Whether all is known that was told since the last audit."""

    @property
    def seen(self) -> Snapshot | None:
        """What the last audit had seen."""
        return Snapshot.parse(self._before.seen) if self._before is not None else None

    def note(self, chunk: int, rows: int) -> bool:
        """A transaction inserts rows into a chunk, or deletes some; whether it is the first that is noted of it."""
        first = not self._pending
        self._pending[chunk] = self._pending.get(chunk, 0) + rows
        return first

    def commit(self, xid: int) -> None:
        """The transaction is told to its end."""
        kept = self._recent if self._since_count is None else self._since_count
        for chunk, rows in self._pending.items():
            self._told[chunk] += rows
            kept.append((xid, chunk, rows))
        self._pending.clear()

    def discard(self) -> None:
        """The transaction will be told again, from its beginning."""
        self._pending.clear()

    def begin_count(self) -> None:
        """Chunks are counted from here on; drain the log, then compare."""
        self._recent.extend(self._since_count or ())
        self._since_count = []

    def compare(self, counts: Mapping[int, Count], existing: Collection[int]) -> Comparison:
        """Compare what was counted, and the log told past it, with what must be. `existing` are all chunks there are."""
        rows = self._brought_up(counts)
        if self._sketch is None or self._before is None:
            return Comparison(rows, new=frozenset(rows))
        known = {chunk for chunk in rows if self._is_known(chunk)}
        told = {chunk: number for chunk, number in self._told.items() if self._is_known(chunk)}
        rest = self._sketch.changed(told).changed({chunk: -MARK - rows[chunk] for chunk in known}).read()
        if rest is None:
            return Comparison(rows, readable=False)
        new = {chunk for chunk in rows if chunk not in known or rest.get(chunk, 0) < -MARK // 2}
        split_off = {rows[chunk] for chunk in new if chunk > self._before.through}
        return Comparison(
            rows,
            differences={
                chunk: -number
                for chunk, number in sorted(rest.items())
                if chunk in known - new and number not in split_off
            },
            elsewhere={c: number for c, number in rest.items() if c in existing and c not in rows},
            new=frozenset(new),
            untouched=frozenset(
                chunk for chunk in new if chunk <= self._before.through and chunk not in self._told
            )
            if self._continuous
            else frozenset(),
        )

    def close(
        self, comparison: Comparison, existing: Collection[int], seen: str, *, complete: bool
    ) -> Closing:
        """What is to be kept of a comparison, once all that follows from it is told (`adopt`).

        `complete` if all compressed chunks were counted.
        """
        meanwhile = {chunk for _, chunk, _ in self._since_count or ()} - comparison.rows.keys()
        sketch = Sketch().changed({chunk: MARK + rows for chunk, rows in comparison.rows.items()})
        counted = comparison.rows.keys() | comparison.elsewhere.keys()
        audited = Audited(
            sketch=sketch.changed(comparison.elsewhere).text(),
            counted=ranges(counted, existing),
            through=max(existing, default=0),
            seen=seen,
            current=complete and not meanwhile,
        )
        return Closing(audited, dict(self._told))

    def adopt(self, closing: Closing) -> None:
        """Compare with this from now on."""
        self._before = closing.audited
        self._sketch = Sketch.parse(closing.audited.sketch)
        self._told = Counter(
            {
                chunk: number - closing.told.get(chunk, 0)
                for chunk, number in self._told.items()
                if number != closing.told.get(chunk, 0)
            }
        )
        self._continuous = closing.audited.current
        self._recent.extend(self._since_count or ())
        self._since_count = None

    @property
    def state(self) -> Audited | None:
        """What a later process compares with, as of the last transaction told."""
        if self._before is None or self._sketch is None:
            return None
        told = {chunk: number for chunk, number in self._told.items() if self._is_known(chunk)}
        kept = {"sketch": self._sketch.changed(told).text(), "current": self._continuous and not self._told}
        return self._before.model_copy(update=kept)

    def _is_known(self, chunk: int) -> bool:
        assert self._before is not None
        counted = self._before.counted
        at = bisect_right(counted, chunk, key=lambda bounds: bounds[0]) - 1
        return at >= 0 and chunk <= counted[at][1]

    def _brought_up(self, counts: Mapping[int, Count]) -> dict[int, int]:
        """The counts with what was told and their snapshots do not see."""
        rows = {chunk: count.rows for chunk, count in counts.items()}
        for xid, chunk, number in (*self._recent, *(self._since_count or ())):
            count = counts.get(chunk)
            if count is not None and not count.snapshot.sees(xid):
                rows[chunk] += number
        return rows


def ranges(counted: Collection[int], existing: Iterable[int]) -> tuple[Bounds, ...]:
    """The counted among all chunks as ranges of ids, at most `MOST_RANGES`: the narrowest gaps are closed."""
    found: list[tuple[int, int]] = []
    inside = False
    for chunk in sorted(existing):
        if chunk not in counted:
            inside = False
        elif inside:
            found[-1] = (found[-1][0], chunk)
        else:
            found.append((chunk, chunk))
            inside = True
    while len(found) > MOST_RANGES:
        gaps = [after[0] - before[1] for before, after in pairwise(found)]
        at = gaps.index(min(gaps))
        found[at : at + 2] = [(found[at][0], found[at + 1][1])]
    return tuple(found)
