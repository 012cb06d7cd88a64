"""The order clock: what `_ab_cdc_lsn` says, so that a destination keeps the newest version of each row.

A destination that deduplicates keeps, for each key, the record with the greatest `_ab_cdc_lsn`. The position of a
change in the write-ahead log will not do: a transaction can write a key first and commit last, and then its change has
the smaller position (measured: the source kept the row, the destination the delete); and a change that a long
transaction wrote before a slice was read, and committed after, would lose against the slice's older row.

So the clock grows with the order of emission, which is the order of commits, and stays close to the positions, so that
it means something to a person: a change gets `max(clock + 1, its own position)`, every slice one more. It is kept in
the state. A process that starts raises it to where the log ends, past everything that a killed one may have given out
without telling its state.
"""

from __future__ import annotations

from source_timescaledb.lsn import Lsn


class OrderClock:
    """Strictly increasing; not thread-safe: the writer's own."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def raise_to(self, position: Lsn) -> None:
        """Be at least this."""
        self.value = max(self.value, int(position))

    def tick(self, position: int = 0) -> int:
        """The time of the next change, which lies at this position, or of the next slice."""
        self.value = max(self.value + 1, position)
        return self.value
