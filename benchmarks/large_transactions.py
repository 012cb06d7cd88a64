"""Part four: the connector's memory while it follows one large transaction, for a fast reader and for a slow one.

The server keeps a transaction until it has committed and sends it as fast as it is taken. Whoever holds it, or reads
further ahead than its own reader takes, needs memory for it; here nobody but the server should.
"""

from __future__ import annotations

from typing import Final

from benchmarks.changes import CONNECTOR_SLOT, copied_slot, prepared, read_command, written
from benchmarks.costs import LargeTransaction
from benchmarks.measuring import Bench, Tell
from benchmarks.sizes import Sizes
from testkit.errors import KitError
from testkit.server import Server

SLOW: Final = 1_000_000
"""Bytes a second."""


def measure_large_transactions(
    server: Server, bench: Bench, sizes: Sizes, tell: Tell
) -> list[LargeTransaction]:
    """Measure both readers. Raises KitError when rows are missing."""
    readers = ((sizes.large_transaction_rows, None), (sizes.slow_rows, SLOW))
    return [_followed(server, bench, rows, rate, tell) for rows, rate in readers]


def _followed(server: Server, bench: Bench, rows: int, rate: int | None, tell: Tell) -> LargeTransaction:
    with server.database() as database:
        tell(f"one transaction of {rows:,} rows: writing")
        state, catalog = prepared(bench, database)
        written(database, rows, rows)
        with copied_slot(database, CONNECTOR_SLOT):
            measured = bench.measure(read_command(bench, database, catalog, state), bytes_per_second=rate)
    cost = measured.cost
    tell(f"one transaction of {rows:,} rows: {cost.wall:.1f} s, {cost.peak_memory / 1e6:.0f} MB")
    if measured.lines < rows:
        raise KitError(f"The connector printed {measured.lines:,} lines of {rows:,} rows.")
    return LargeTransaction(rows, rate, measured.output, cost.wall, cost.peak_memory)
