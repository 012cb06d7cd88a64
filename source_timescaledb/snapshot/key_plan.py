"""The slices of a plain table: ranges of its key, so many rows each.

A key is ordered by its index, so the server finds the key so many rows past another by an index scan alone. Bounds
are whole keys compared as rows, `(a, b) >= (x, y) AND (a, b) < (u, v)`: a first column with few values cuts as well
as any. They are kept as text that PostgreSQL reads back exactly; we never compare them ourselves, so collations do
not matter here. A row whose key changes while we read may be missed or read twice, as with every reader that is not
one transaction; CDC closes that gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.snapshot.plan import FindBoundary
from source_timescaledb.snapshot.slices import KeySlice, Slice
from source_timescaledb.state.model import Key, KeyProgress

FIRST_ROWS: Final = 10_000
MOST_ROWS: Final = 250_000
RUN_AHEAD: Final = 16


class _Phase(Enum):
    TODO = "todo"
    OUT = "out"
    DONE = "done"


@dataclass(slots=True)
class _Piece:
    """A range of keys; the pieces of a plan lie in key order without gaps."""

    lower: Key | None
    upper: Key | None
    phase: _Phase = _Phase.TODO


class KeyPlan:
    """The plan of a table with a usable key."""

    def __init__(
        self,
        key: tuple[str, ...],
        pace: Pace,
        progress: KeyProgress | None = None,
        *,
        holding: bool = False,
    ) -> None:
        """With `holding`, finished ranges stay among `ranges` until `fold`, so that they can be told apart."""
        self._holding = holding
        self.pace = pace
        self._key = key
        self._through = progress.through if progress else None
        self._pieces: list[_Piece] = []
        lower = self._through
        for start, end in progress.open if progress else ():
            self._pieces += [_Piece(lower, start), _Piece(start, end, _Phase.DONE)]
            lower = end
        if not self._pieces or self._pieces[-1].upper is not None:
            self._pieces.append(_Piece(lower, None))

    def take(self, boundary: FindBoundary) -> Slice | None:
        """The next range: the server says where it ends."""
        first = self._finished_pieces()
        for index, piece in enumerate(self._pieces[first : first + RUN_AHEAD], start=first):
            if piece.phase is _Phase.TODO:
                rows = int(min(max(self.pace.width or FIRST_ROWS, 1), MOST_ROWS))
                upper = boundary(piece.lower, piece.upper, rows)
                if upper is not None:
                    self._pieces.insert(index + 1, _Piece(upper, piece.upper))
                    piece.upper = upper
                piece.phase = _Phase.OUT
                return KeySlice(piece.lower, piece.upper, rows)
        return None

    def confirm(self, slice_: Slice) -> bool:
        """Count a range as finished; True if that was the last."""
        self._pieces[self._index(slice_)].phase = _Phase.DONE
        if not self._holding:
            self.fold()
        return self.exhausted

    def fold(self) -> None:
        """Forget where one finished range below all others ends and the next begins."""
        while self._pieces and self._pieces[0].phase is _Phase.DONE:
            self._through = self._pieces.pop(0).upper

    def give_back(self, slice_: Slice) -> None:
        """Return a range; it is cut anew when it is taken again."""
        index = self._index(slice_)
        piece = self._pieces[index]
        piece.phase = _Phase.TODO
        after = self._pieces[index + 1 : index + 2]
        if after and after[0].phase is _Phase.TODO:
            piece.upper = self._pieces.pop(index + 1).upper

    @property
    def exhausted(self) -> bool:
        """Whether every range is finished."""
        return self._finished_pieces() == len(self._pieces)

    @property
    def chunks_left(self) -> int:
        """One until every range is finished."""
        return int(not self.exhausted)

    @property
    def progress(self) -> KeyProgress | None:
        """Where this plan stands; None before the first range is finished."""
        through = self._through
        first = self._finished_pieces()
        if first:
            through = self._pieces[first - 1].upper
        finished: list[tuple[Key | None, Key | None]] = []
        for piece in self._pieces[first:]:
            if piece.phase is not _Phase.DONE:
                continue
            if finished and finished[-1][1] == piece.lower:
                finished[-1] = (finished[-1][0], piece.upper)
            else:
                finished.append((piece.lower, piece.upper))
        if through is None and not finished:
            return None
        return KeyProgress(key=self._key, through=through, open=tuple(finished))

    @property
    def ranges(self) -> list[tuple[Key | None, Key | None, bool]]:
        """The ranges of keys that are not folded, in order and without gaps, and whether each is done."""
        return [(piece.lower, piece.upper, piece.phase is _Phase.DONE) for piece in self._pieces]

    def _finished_pieces(self) -> int:
        """How many finished ranges lie below all others."""
        unfinished = (index for index, piece in enumerate(self._pieces) if piece.phase is not _Phase.DONE)
        return next(unfinished, len(self._pieces))

    def _index(self, slice_: Slice) -> int:
        assert isinstance(slice_, KeySlice)
        return next(
            index
            for index, piece in enumerate(self._pieces)
            if piece.lower == slice_.lower and piece.phase is _Phase.OUT
        )
