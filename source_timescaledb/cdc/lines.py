"""The lines of a batch while it is made: some are finished, some wait for values that the server did not send.

A batch is as large as one write to the destination is worth. Lines that wait keep their place, so the order is that of
the changes. A line that is larger than Airbyte takes is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from source_timescaledb.cdc.followed import cdc_fields
from source_timescaledb.cdc.route import Route
from source_timescaledb.cdc.unsent import Lookup, Wanted, filled
from source_timescaledb.errors import ConfigurationError
from source_timescaledb.pgoutput.rows import write_row
from source_timescaledb.snapshot.held import RECORD_END, nulled
from source_timescaledb.snapshot.slice_reader import LARGEST_ROW
from source_timescaledb.types.definition import MARKER
from source_timescaledb.types.row import resolve_inexpressible

LINES_AT_ONCE: Final = 2000
BYTES_AT_ONCE: Final = 1024 * 1024
MOST_LOOKUPS: Final = 500

_MARK: Final = MARKER.encode()


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines to write."""

    lines: bytes
    records: int


@dataclass(slots=True)
class _Waiting:
    """A line that waits for values."""

    index: int
    wanted: Wanted
    clock: int
    committed_at: str


class Lines:
    """The lines of one batch after the other."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._lines: list[bytes] = []
        self._size = 0
        self._waiting: list[_Waiting] = []

    def __bool__(self) -> bool:
        return bool(self._lines)

    @property
    def room(self) -> int:
        """How many lines more make the batch full."""
        return 0 if self._size >= BYTES_AT_ONCE else max(0, LINES_AT_ONCE - len(self._lines))

    @property
    def half_full(self) -> bool:
        """Whether the batch is large enough to end before it is full."""
        return len(self._lines) >= LINES_AT_ONCE // 2 or self._size >= BYTES_AT_ONCE // 2

    def extend(self, route: Route, lines: list[bytes]) -> None:
        """Take lines as `pgoutput.inserts` writes them. Raises ConfigurationError if one is too large."""
        if _MARK in b"".join(lines):
            lines = [_expressible(route, line) if _MARK in line else line for line in lines]
        size = sum(map(len, lines))
        if size > LARGEST_ROW:
            _check_size(max(lines, key=len), route)
        self._lines += lines
        self._weigh(route, size)

    def append(self, route: Route, line: bytes) -> None:
        """Take a line."""
        self._lines.append(line)
        self._weigh(route, len(line))

    def await_values(self, wanted: Wanted, clock: int, committed_at: str) -> None:
        """Leave a place for the line of a row of which values are to be looked up."""
        self._waiting.append(_Waiting(len(self._lines), wanted, clock, committed_at))
        self._lines.append(b"")
        if len(self._waiting) >= MOST_LOOKUPS:
            self._fill()

    def take(self) -> Batch:
        """The batch, complete; the next one begins."""
        if self._waiting:
            self._fill()
        batch = Batch(b"".join(self._lines), len(self._lines))
        self._lines.clear()
        self._size = 0
        return batch

    def _fill(self) -> None:
        found = self._lookup([one.wanted for one in self._waiting])
        waiting, self._waiting = self._waiting, []  # only now: whoever goes on after a failure asks again
        for one, values in zip(waiting, found, strict=True):
            row, missing = filled(one.wanted, values)
            route = one.wanted.route
            line = line_of(route, write_row(route.fields, row), one.clock, one.committed_at, missing=missing)
            self._lines[one.index] = line
            self._weigh(route, len(line))

    def _weigh(self, route: Route, size: int) -> None:
        self._size += size
        route.owner.stream.emitted_size += size


def line_of(
    route: Route,
    row: bytes,
    clock: int,
    committed_at: str,
    *,
    deleted: bool = False,
    missing: Sequence[str] = (),
) -> bytes:
    """The line of a row, which is a JSON object left open; `missing` are columns whose values are not to be had.

    Raises ConfigurationError if it is too large.
    """
    data = row + route.infix + cdc_fields(clock, committed_at, deleted=deleted)
    line = route.start + data + RECORD_END
    if _MARK in row or missing:
        line = _expressible(route, line, missing)
    _check_size(line, route)
    return line


def _expressible(route: Route, line: bytes, missing: Sequence[str] = ()) -> bytes:
    """A line with what JSON cannot say, and what is missing, as null and named in its `meta`."""
    data = line.removeprefix(route.start).removesuffix(RECORD_END)
    clean, inexpressible = resolve_inexpressible(data)
    return route.start + clean + nulled(inexpressible, missing) + RECORD_END


def _check_size(line: bytes, route: Route) -> None:
    """Refuse a row that Airbyte would not take."""
    if len(line) <= LARGEST_ROW:
        return
    relation = route.owner.stream.relation
    raise ConfigurationError(
        f"A row of {relation.name} is larger than {LARGEST_ROW // 2**20} MiB as JSON, more than Airbyte takes. "
        f"Its key is in: {', '.join(relation.key) or 'no column'}.",
        remedy="Deselect the stream's large columns; the log has the value even if it is shortened in the database.",
    )
