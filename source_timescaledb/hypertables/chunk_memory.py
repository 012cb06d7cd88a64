"""What is remembered of all chunks between two syncs, in less than three kilobytes however many there are.

Chunks are made by rule: each begins where the last one ended, is as wide, and is compressed after so many days. So a
hypertable is written down as columns of differences (of beginnings, widths, other dimensions, forms, ids), of which most
are the same number over and over, and the whole is compressed (LZMA): 50,000 chunks of one rule take some hundred bytes.

Where rules are many or broken it may be too much. Then first the ids are left out: a chunk is known by its box as well,
and ids are the most irregular, since all hypertables draw them from one sequence. Then whole hypertables are, the largest
first; of those only what is born can be told, by an id above the highest known one.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Final, NamedTuple

from source_timescaledb.hypertables.model import Span

MOST_BYTES: Final = 2800
"""As base64, and with the rest of its state, below four KiB."""
_FILTERS: Final = ({"id": lzma.FILTER_LZMA2, "preset": 6},)
_MOST_UNPACKED: Final = 64 * 1024 * 1024
_VARINT_BITS: Final = 7


class RememberedChunk(NamedTuple):
    """One chunk as it was."""

    box: tuple[Span, ...]
    compressed: bool
    id: int
    """0 where it was not kept."""


@dataclass(frozen=True, slots=True)
class ChunkMemory:
    """All chunks as they were."""

    last: int = 0
    """The highest id of any chunk."""
    hypertables: Mapping[int, tuple[RememberedChunk, ...]] = field(default_factory=dict)
    """By the id of the hypertable."""
    complete: bool = True
    """Whether none had to be left out."""


class Packed(NamedTuple):
    """A memory as bytes."""

    content: bytes
    complete: bool
    """Whether no hypertable had to be left out."""


def pack(memory: ChunkMemory, most_bytes: int = MOST_BYTES) -> Packed:
    """As much of it as fits."""
    whole = _packed(memory)
    if len(whole) <= most_bytes:
        return Packed(whole, memory.complete)
    without_ids = _without_ids(memory.hypertables)
    boxes = _packed(ChunkMemory(memory.last, without_ids, complete=memory.complete))
    if len(boxes) <= most_bytes:
        return Packed(boxes, memory.complete)
    return Packed(
        _packed_in_part(ChunkMemory(memory.last, without_ids, complete=False), most_bytes), complete=False
    )


def _packed_in_part(memory: ChunkMemory, most_bytes: int) -> bytes:
    """As many hypertables as fit, the smallest first; found by halving."""
    by_size = sorted(memory.hypertables, key=lambda hypertable: len(memory.hypertables[hypertable]))
    fits, too_many = 0, len(by_size)
    best = _packed(ChunkMemory(memory.last, {}, complete=False))
    while too_many - fits > 1:
        kept = (fits + too_many) // 2
        chosen = {hypertable: memory.hypertables[hypertable] for hypertable in sorted(by_size[:kept])}
        packed = _packed(ChunkMemory(memory.last, chosen, complete=False))
        if len(packed) <= most_bytes:
            fits, best = kept, packed
        else:
            too_many = kept
    return best


def unpack(packed: bytes) -> ChunkMemory:
    """What was packed.

    Raises:
        ValueError: nothing was.
    """
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
    try:
        numbers = _numbers(unpacker.decompress(packed, _MOST_UNPACKED))
        last, complete, count = next(numbers), next(numbers), next(numbers)
        hypertables = {next(numbers): tuple(_read(numbers)) for _ in range(count)}
    except (lzma.LZMAError, StopIteration, RuntimeError, EOFError):
        raise ValueError("no memory of chunks") from None
    if next(numbers, None) is not None:
        raise ValueError("more than a memory of chunks")
    return ChunkMemory(last, hypertables, complete=bool(complete))


def _without_ids(
    hypertables: Mapping[int, Iterable[RememberedChunk]],
) -> dict[int, tuple[RememberedChunk, ...]]:
    return {
        hypertable: tuple(chunk._replace(id=0) for chunk in chunks)
        for hypertable, chunks in hypertables.items()
    }


def _packed(memory: ChunkMemory) -> bytes:
    parts = [
        (hypertable, *_columns(sorted(memory.hypertables[hypertable]))) for hypertable in memory.hypertables
    ]
    numbers = (memory.last, int(memory.complete), len(parts), *chain.from_iterable(parts))
    return lzma.compress(_bytes(numbers), lzma.FORMAT_RAW, filters=_FILTERS)


def _columns(chunks: Sequence[RememberedChunk]) -> Iterator[int]:
    """The number of chunks and of their dimensions, and what `_read` reads."""
    yield len(chunks)
    if not chunks:
        return
    dimensions = len(chunks[0].box)
    yield dimensions
    for dimension in range(dimensions):
        yield from _differences([chunk.box[dimension].lower for chunk in chunks])
        yield from _differences([chunk.box[dimension].upper - chunk.box[dimension].lower for chunk in chunks])
    yield from _differences([int(chunk.compressed) for chunk in chunks])
    yield from _differences([chunk.id for chunk in chunks])


def _read(numbers: Iterator[int]) -> Iterator[RememberedChunk]:
    count = next(numbers)
    if not count:
        return
    dimensions = next(numbers)
    spans = []
    for _ in range(dimensions):
        lowers, widths = _column(numbers, count), _column(numbers, count)
        spans.append([Span(lower, lower + width) for lower, width in zip(lowers, widths, strict=True)])
    compressed, ids = _column(numbers, count), _column(numbers, count)
    for box, form, id_ in zip(zip(*spans, strict=True), compressed, ids, strict=True):
        yield RememberedChunk(box, bool(form), id_)


def _differences(values: Sequence[int]) -> Iterator[int]:
    return (value - before for before, value in zip([0, *values], values, strict=False))


def _column(numbers: Iterator[int], count: int) -> list[int]:
    return list(accumulate(next(numbers) for _ in range(count)))


def _bytes(numbers: Iterable[int]) -> bytes:
    """Each number as a zigzag varint (protobuf.dev/programming-guides/encoding), of any length."""
    written = bytearray()
    for number in numbers:
        rest = number * 2 if number >= 0 else -number * 2 - 1
        while rest >= 1 << _VARINT_BITS:
            written.append(rest & 0x7F | 0x80)
            rest >>= _VARINT_BITS
        written.append(rest)
    return bytes(written)


def _numbers(written: bytes) -> Iterator[int]:
    number, shift = 0, 0
    for byte in written:
        number |= (byte & 0x7F) << shift
        shift += _VARINT_BITS
        if byte < 1 << _VARINT_BITS:
            yield number >> 1 if not number & 1 else -(number >> 1) - 1
            number, shift = 0, 0
