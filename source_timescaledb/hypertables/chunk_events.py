"""What has become of chunks between two looks at the catalog: born, compressed, decompressed, dropped.

The looks are compared, so what came and went between them is not told, nor how often a chunk changed its form.

A chunk that is gone was dropped only if its rows are gone. `merge_chunks` and `split_chunk` take chunks away and leave
their rows where they were in time, in chunks that cover them now; a warehouse that mirrors retention must not delete
them. So what is told as dropped is what of a gone chunk's range no chunk covers any more. A chunk made later for the very
same range is another matter: it can only have been made after the drop (TimescaleDB makes a chunk where there is none),
and is known by an id above all that were known. In doubt nothing was dropped, as where a new chunk covers a part of one
that is gone: it may have been split off before.

What was moved to tiered storage is not dropped either. The range of the tiered chunk tells; where that has none of its own
(`SCATTERED`), nothing that is gone is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from source_timescaledb.hypertables.chunk_memory import ChunkMemory, RememberedChunk
from source_timescaledb.hypertables.model import SCATTERED, Chunk, ChunkStatus, Span
from source_timescaledb.hypertables.spans import subtract, unite

Box = tuple[Span, ...]


class Fate(str, Enum):
    """What became of a chunk; in the order in which the fates of one hypertable are told."""

    DROPPED = "dropped"
    BORN = "born"
    COMPRESSED = "compressed"
    DECOMPRESSED = "decompressed"


@dataclass(frozen=True, slots=True)
class ChunkEvent:
    """One thing that became of a chunk, or of a part of one that is gone."""

    fate: Fate
    span: Span
    """Its range in time."""
    chunk: Chunk | None
    """The chunk as it is; None for one that is gone."""
    id: int = 0
    """Its id; 0 where it is not known."""
    heir: int = 0
    """The id of the chunk that was born in its place after it was dropped, which is also an event; 0 if none was."""


def is_compressed(chunk: Chunk) -> bool:
    """Whether it has compressed rows."""
    return chunk.compressed is not None or ChunkStatus.COMPRESSED in chunk.status


def remembered(chunks: Mapping[int, Sequence[Chunk]]) -> ChunkMemory:
    """What to remember of all chunks there are, by the id of their hypertable."""
    ids = [chunk.id for each in chunks.values() for chunk in each]
    return ChunkMemory(
        max(ids, default=0),
        {
            hypertable: tuple(
                RememberedChunk(one.box, is_compressed(one), one.id) for one in each if not one.tiered
            )
            for hypertable, each in chunks.items()
        },
    )


def chunk_events(memory: ChunkMemory, hypertable: int, chunks: Sequence[Chunk]) -> list[ChunkEvent]:
    """What became of a hypertable's chunks since; these are those that it has now, of which a tiered one tells nothing.

    Of a hypertable for which there was no room in an incomplete memory, only what is born.
    """
    before = memory.hypertables.get(hypertable)
    if before is None and not memory.complete:
        return _lives(chunk for chunk in _ordered(chunks) if chunk.id > memory.last)
    known = _Known(before or (), memory.last)
    events = [*known.dropped(chunks)] if all(chunk.span != SCATTERED for chunk in chunks) else []
    for chunk in _ordered(chunks):
        was = known.of(chunk)
        if was is None:
            events += _lives([chunk])
        elif was.compressed != is_compressed(chunk):
            fate = Fate.COMPRESSED if is_compressed(chunk) else Fate.DECOMPRESSED
            events.append(ChunkEvent(fate, chunk.span, chunk, chunk.id))
    return events


def _lives(chunks: Iterable[Chunk]) -> list[ChunkEvent]:
    """What chunks have gone through that are new."""
    events = []
    for chunk in chunks:
        events.append(ChunkEvent(Fate.BORN, chunk.span, chunk, chunk.id))
        if is_compressed(chunk):
            events.append(ChunkEvent(Fate.COMPRESSED, chunk.span, chunk, chunk.id))
    return events


def _ordered(chunks: Iterable[Chunk]) -> list[Chunk]:
    here = (chunk for chunk in chunks if not chunk.tiered)
    return sorted(here, key=lambda chunk: (chunk.span.lower, chunk.id))


class _Known:
    """A hypertable's chunks as they were; `last` is the highest id that was known."""

    def __init__(self, chunks: Sequence[RememberedChunk], last: int) -> None:
        self._chunks = chunks
        self._last = last
        self._by_id = {chunk.id: chunk for chunk in chunks if chunk.id}
        self._by_box = {chunk.box: chunk for chunk in chunks if not chunk.id}

    def of(self, chunk: Chunk) -> RememberedChunk | None:
        """How a chunk was, if it was there."""
        return self._by_id.get(chunk.id) or (self._by_box.get(chunk.box) if chunk.id <= self._last else None)

    def dropped(self, chunks: Iterable[Chunk]) -> Iterator[ChunkEvent]:
        """What of them is gone and covered by none of these, in order."""
        ids, boxes = set(), set()
        covered: dict[Box, list[Span]] = {}
        heirs: dict[Box, int] = {}
        moved: list[Span] = []
        for chunk in chunks:
            if chunk.tiered:
                moved.append(chunk.span)
                continue
            ids.add(chunk.id)
            if chunk.id <= self._last:
                boxes.add(chunk.box)
            else:
                heirs[chunk.box] = chunk.id
            covered.setdefault(chunk.box[1:], []).append(chunk.span)
        everywhere = unite(span for spans in covered.values() for span in spans)
        covered = {sides: unite(spans) for sides, spans in covered.items()}
        dimensions = {len(sides) for sides in covered}
        for was in sorted(self._chunks):
            if was.id in ids or was.box in boxes:
                continue
            span = was.box[0]
            sides = was.box[1:]
            # A dimension may have been added since (`add_dimension`), which leaves every row where it is in time.
            cover = covered.get(sides, ()) if len(sides) in dimensions else everywhere
            heir = heirs.get(was.box, 0)
            left = [span] if heir else subtract(span, [*cover, *moved])
            yield from (ChunkEvent(Fate.DROPPED, piece, None, was.id, heir) for piece in left)
