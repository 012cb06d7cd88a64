"""The rows of a slice between being read and being confirmed.

Rows leave the server already rendered as JSON objects. They become Airbyte RECORD lines by joining them with a
constant text, the cheapest thing Python can do with many small byte strings, and they wait here until the slice's
transaction has proved right: a slice that is thrown away was never printed. Pieces of some 64 KiB keep the allocator
from mapping and unmapping memory for every batch (measured: 80 KB to 1.3 MB batches cost up to 3 s of system time per
million rows).

Past `IN_MEMORY` bytes the pieces go to a temporary file: only slices that cannot be cut come that far.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Final

import orjson

from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.types.definition import MARKER
from source_timescaledb.types.row import resolve_inexpressible

IN_MEMORY: Final = 16 * 1024 * 1024
PIECE_BYTES: Final = 64 * 1024
FIRST_PORTION: Final = 16
_MARK: Final = MARKER.encode()


LINE_START: Final = b'{"type":"RECORD","record":{'


def stream_start(stream: QualifiedName) -> bytes:
    """What all RECORD lines of a stream, and only those, begin with (airbyte_protocol.yaml, AirbyteRecordMessage)."""
    return LINE_START + orjson.dumps({"stream": stream.name, "namespace": stream.schema})[1:-1] + b","


def record_start(stream: QualifiedName, emitted_at: int) -> bytes:
    """A RECORD line up to its data; milliseconds since 1970."""
    return stream_start(stream) + b'"emitted_at":%d,"data":' % emitted_at


RECORD_END: Final = b"}}\n"


class LineFormat:
    """How a rendered row becomes a RECORD line.

    `emitted_at` is in milliseconds since 1970. `tail` follows every row: the rest of its object, where rows are rendered
    without their closing brace.
    """

    def __init__(self, stream: QualifiedName, emitted_at: int, tail: bytes = b"") -> None:
        self._start = record_start(stream, emitted_at)
        self._tail = tail
        self._end = tail + RECORD_END
        self._between = self._end + self._start

    def lines(self, rows: Sequence[bytes]) -> bytes:
        """The rows as lines, each ended by a line feed.

        A value that JSON or the protocol cannot express arrives as a marked null; its row gets `meta.changes`.
        """
        joined = self._between.join(rows)
        if _MARK in joined:
            return b"".join(map(self._line, rows))
        return self._start + joined + self._end

    def _line(self, row: bytes) -> bytes:
        if _MARK not in row:
            return self._start + row + self._end
        data, fields = resolve_inexpressible(row + self._tail)
        return self._start + data + nulled(fields) + RECORD_END


def nulled(inexpressible: Sequence[str], missing: Sequence[str] = ()) -> bytes:
    """The `meta` of a record whose nulls are none: values that JSON cannot express, and values not to be had."""
    changes = [
        *(
            {"field": name, "change": "NULLED", "reason": "SOURCE_SERIALIZATION_ERROR"}
            for name in inexpressible
        ),
        *({"field": name, "change": "NULLED", "reason": "SOURCE_RETRIEVAL_ERROR"} for name in missing),
    ]
    return b',"meta":' + orjson.dumps({"changes": changes})


class HeldRows:
    """The lines of one slice: in memory, then in a temporary file. Close it to be rid of both."""

    def __init__(self, line_format: LineFormat) -> None:
        self._format = line_format
        self._pieces: list[bytes] = []
        self._file: IO[bytes] | None = None
        self.rows = 0
        self.size = 0
        self.in_memory = 0

    def add(self, rows: Sequence[bytes]) -> None:
        """Take rendered rows, in order."""
        if not rows:
            return
        per_piece = max(1, len(rows) * PIECE_BYTES // max(1, sum(map(len, rows))))
        for start in range(0, len(rows), per_piece):
            self._keep(self._format.lines(rows[start : start + per_piece]))
        self.rows += len(rows)

    def _keep(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._file is None and self.in_memory + len(piece) <= IN_MEMORY:
            self._pieces.append(piece)
            self.in_memory += len(piece)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="source-timescaledb-")  # noqa: SIM115 - closed by close()
        self._file.write(piece)

    def successor(self) -> HeldRows:
        """An empty holder for the rows that follow these."""
        return HeldRows(self._format)

    def pieces(self) -> Iterator[bytes]:
        """Whole lines, in order, in pieces fit for one write each."""
        yield from self._pieces
        if self._file is not None:
            self._file.seek(0)
            while block := self._file.read(PIECE_BYTES):
                yield block + self._file.readline()

    def close(self) -> None:
        """Give memory and file back."""
        self._pieces.clear()
        self.in_memory = 0
        if self._file is not None:
            self._file.close()


class Portion:
    """How many rows to take from the server at once: as many as weigh one piece, by the last slice, but not over `most`.

    The server sends rows one by one and libpq collects a portion of them; so this, not the size of a slice, bounds what
    is held twice.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows = min(FIRST_PORTION, most)

    def learn(self, read: HeldRows) -> None:
        """Learn how much a row weighs."""
        if read.rows:
            self.rows = max(1, min(self._most, PIECE_BYTES * read.rows // read.size))
