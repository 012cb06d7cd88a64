"""Which transactions a slice has seen: the one question that keeps snapshot and stream from telling a row twice.

A slice is read in a snapshot of the server, `pg_current_snapshot()`: everything below `xmin` is in it, nothing from
`xmax` on, and in between all but the transactions that were running. A change in the stream belongs to a transaction;
the slice holds it exactly if its snapshot sees that transaction. Subtransactions need no care, because Begin carries
the top-level xid and a top-level transaction is listed as running until it and all below it have ended.

Begin carries the low 32 bits only (Logical Replication Message Formats: Begin), snapshots whole xid8. The epoch nearest
to the snapshot's xmax is the right one: the server never lets two living transactions be 2^31 apart
(comparing 32 bits lost rows in trial runs across the wrap).
"""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import Self

from source_timescaledb.errors import DefectError

_EPOCH = 2**32


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of the server, in full transaction ids."""

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `xmin:xmax:xip,xip`, as `pg_current_snapshot()` writes it.

        Raises:
            DefectError: it is not one.
        """
        try:
            xmin, xmax, running = text.split(":")
            return cls(
                int(xmin), int(xmax), frozenset(map(int, running.split(","))) if running else frozenset()
            )
        except ValueError:
            raise DefectError("The server's snapshot is not of the form xmin:xmax:running.") from None

    def sees(self, xid: int) -> bool:
        """Whether the changes of a committed transaction, known by the low 32 bits of its id, are in it."""
        return self.sees_whole(nearest(xid, self.xmax))

    def sees_whole(self, xid: int) -> bool:
        """The same of a full transaction id."""
        return xid < self.xmin or (xid < self.xmax and xid not in self.running)


def nearest(xid: int, reference: int) -> int:
    """The full id with these low 32 bits that is nearest to a reference id; never negative."""
    candidate = reference - reference % _EPOCH + xid % _EPOCH
    if candidate - reference > _EPOCH // 2:
        return max(candidate - _EPOCH, xid % _EPOCH)
    if reference - candidate > _EPOCH // 2:
        return candidate + _EPOCH
    return candidate
