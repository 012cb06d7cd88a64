"""Where in the log a chunk was first told of, and where its rows were last compressed or decompressed.

The catalog shows what has become of chunks, and not when (`hypertables.chunk_events`). The log tells of three things, if
the chunk is published:

- a chunk that nobody knew was born before its first row: a position that no row of it is below, and no earlier one above;
- within TimescaleDB's markers (`pgoutput.regions`) decompression inserts the rows of a chunk, and compressing it once
  more deletes those that were loose; compressing it for the first time shows no rows, so not which chunk it was.

Where a sync reads a chunk that was not published, it was born before it was listed, and is read after that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from source_timescaledb.cdc.route import Owner
from source_timescaledb.hypertables.chunk_events import Fate
from source_timescaledb.hypertables.model import Chunk


@dataclass(frozen=True, slots=True)
class Moment:
    """A time of the log: a position, to be compared with the order clock of rows, and the clock on the wall."""

    lsn: int
    at: str


@dataclass(slots=True)
class Sightings:
    """What one sync has seen; used by one thread. Only the last fate counts that a chunk had within the log."""

    commit: Moment = field(default_factory=lambda: Moment(0, ""))
    """Of the transaction that is being told."""
    _first: dict[int, Moment] = field(default_factory=dict)
    _formed: dict[int, tuple[Fate, Moment]] = field(default_factory=dict)
    _listed: list[int] = field(default_factory=list)

    def sighted(self, owner: Owner | None, lsn: int) -> None:
        """The transaction changes a relation, past a position."""
        if owner is not None and owner.chunk is not None:
            self._first.setdefault(owner.chunk, Moment(lsn, self.commit.at))

    def formed(self, chunk: int | None, fate: Fate) -> None:
        """The transaction compresses or decompresses rows of a chunk."""
        if chunk is not None:
            self._formed[chunk] = fate, self.commit

    def listed(self, chunks: Iterable[Chunk]) -> None:
        """These were found in the catalog; those that are not new are never asked for."""
        self._listed += [chunk.id for chunk in chunks]

    def date_listed(self, moment: Moment) -> None:
        """None of the rows of those that were listed since was read before this moment."""
        for chunk in self._listed:
            self._first.setdefault(chunk, moment)
        self._listed.clear()

    def of(self, chunk: int, fate: Fate) -> Moment | None:
        """By when a chunk, as it is found at last, had come to that; None where the log does not tell."""
        if fate is Fate.BORN:
            return self._first.get(chunk)
        last, moment = self._formed.get(chunk, (None, None))
        return moment if last is fate else None
