"""Tells TimescaleDB's own row changes from the application's.

Compressing and decompressing a chunk moves rows between it and its compressed relation. The stream shows that as
inserts and deletes that change nothing for the application, and TimescaleDB puts a logical message before and behind
them (tsl/src/compression/wal_utils.h, 2.16.0 to 2.29.2: transactional, with empty content). So within a transaction
the messages are brackets, and a row is the application's exactly if no bracket is open.

They nest: recompressing a whole chunk decompresses it inside of its compression (2.29.2: start of the compression,
start and end of the decompression, end of the compression). Therefore a depth and no flag, and one for each kind,
because an end closes its own kind only.

Both brackets belong to the transaction, or to the same subtransaction of it. A subtransaction that fails takes its
brackets and its rows with it, since nothing is streamed before the commit; so the brackets of a whole transaction are
balanced. Should they ever not be, nobody can say which rows were the application's, and the stream must stop there:
each message by itself was well-formed, hence an error of its own.

One end has no start and closes nothing: that of a DELETE which was about to remove a whole batch, which is not marked,
and found that somebody else had just decompressed it (tsl/src/compression/compression_dml.c@2.29.2, line 1363).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from source_timescaledb.errors import DefectError


class _Region(Enum):
    COMPRESSION = auto()
    DECOMPRESSION = auto()


_STEPS: Final[Mapping[str, tuple[_Region, int]]] = {
    "::timescaledb-compression-start": (_Region.COMPRESSION, 1),
    "::timescaledb-compression-end": (_Region.COMPRESSION, -1),
    "::timescaledb-decompression-start": (_Region.DECOMPRESSION, 1),
    "::timescaledb-decompression-end": (_Region.DECOMPRESSION, -1),
}


class UnbalancedMarkers(DefectError):  # noqa: N818 - it names what was met
    """A transaction's compression markers do not pair up."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"TimescaleDB's compression markers are unbalanced: {what}.",
            remedy="Please report this with the version of TimescaleDB.",
        )


class Markers:
    """The open brackets of one transaction; make a new one for each Begin."""

    __slots__ = ("_depths", "decompressing", "inside")

    inside: bool
    """Whether a row change that comes now is TimescaleDB's own."""
    decompressing: bool
    """Whether it is one of a decompression."""

    def __init__(self) -> None:
        self._depths: dict[_Region, int] = {}
        self.inside = self.decompressing = False

    def see(self, prefix: str) -> bool:
        """Take note of a transactional logical message; return whether it is a marker.

        Raises:
            UnbalancedMarkers: it ends what did not begin.
        """
        step = _STEPS.get(prefix)
        if step is None:
            return False
        region, change = step
        depth = self._depths.get(region, 0) + change
        if depth < 0:
            if region is _Region.DECOMPRESSION:
                return True
            raise UnbalancedMarkers("one ends a region that did not begin")
        self._depths[region] = depth
        self.inside = any(self._depths.values())
        self.decompressing = self._depths.get(_Region.DECOMPRESSION, 0) > 0
        return True

    def finish(self) -> None:
        """Take note of the Commit.

        Raises:
            UnbalancedMarkers: a region has not ended.
        """
        if self.inside:
            raise UnbalancedMarkers("a transaction ends within a region")
