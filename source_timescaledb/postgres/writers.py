"""Who is writing to a table at a moment, told by the locks that they hold until they end.

For reading by a cursor. A transaction under way may hold rows below the highest value that can be seen (a row's number is
drawn, or its time noted, when it is written, and it is seen when its transaction ends), and a cursor that has moved on
passes them over. So it waits for those who were writing when it noted the highest value. Whoever begins to write later
has higher values, where they are drawn in the order of writing: not from a sequence whose sessions keep some for later
(CACHE), nor from `now()`, the start of a transaction, where that began before and wrote after.

Every role may see locks (view-pg-locks in PostgreSQL's manual). INSERT, UPDATE, DELETE and COPY take ROW EXCLUSIVE on
the table that they name, of a hypertable on that and not on the chunk alone. So only those are waited for who matter:
no writer elsewhere, as the barrier of a log would have it (`postgres.barrier`), and nobody who only reads.
"""

from __future__ import annotations

from typing import Final

from source_timescaledb.postgres.connection import Connection

_WRITERS: Final = """
SELECT DISTINCT virtualtransaction FROM pg_catalog.pg_locks
WHERE locktype = 'relation' AND granted
AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
AND relation IN (SELECT %(table)s::oid UNION SELECT relid FROM pg_catalog.pg_partition_tree(%(table)s::oid::regclass))
"""


def writers_of(connection: Connection, table: int) -> frozenset[str]:
    """The transactions that write to a table, or to a partition of it, or may; by names that none has again.

    Args:
        connection: of any role. On a standby nobody writes, and whoever does on its primary is not seen.
        table: its oid.

    Raises psycopg errors as they come.
    """
    return frozenset(name for (name,) in connection.execute(_WRITERS, {"table": table}).fetchall())
