"""Whether what a snapshot has seen would outlive a crash of the server, and making it so.

A transaction that commits with `synchronous_commit = off` is visible at once and in the log on disk up to three times
`wal_writer_delay` later (wal-async-commit in PostgreSQL's manual); so is the end of any transaction that was rolled
back. If the server crashes in between, none of it has been, and *its transaction id is given out again*. For a slice
that was read in between this is worse than a row that never was: whoever gets the id next is told apart from the first
by nobody, and taken for something that the slice has seen (found by trying: the row of the second one was never told).

So whoever will compare transaction ids with a snapshot, or values with the highest one it has seen, first sees to it that
the log is on disk up to where it stood after the snapshot was taken; on the same connection, because one that has
outlived its server does not exist. On a busy server somebody else has just flushed it. Where nobody has, we commit a
message of our own that waits for the disk: the log writer would pass an open transaction's records over for up to
fifteen seconds.

Where the log stood is asked *before* anything else is read in the snapshot: before TimescaleDB 2.29, reading the live
status of a chunk writes to the log itself. Of 600 slices on a server where nobody else writes, all would have to wait if
it were asked at their end; so half of them do, for what the one before has written, and from 2.29 on none (measured on
2.19, 2.21, 2.29 and 2.31). Waiting takes 0.25 ms with `fsync` here: a tenth of a first load of chunks of ten rows.

A standby has only what its primary had on disk.
"""

from __future__ import annotations

from typing import Final

from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.connection import Connection

WRITTEN: Final = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END"
"""Up to where the log is written: the first query of a transaction asks, whose snapshot has seen no more than that."""

FLUSHED: Final = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END"
"""Up to where it is on disk. Both are NULL on a standby."""

_IS_DURABLE: Final = (
    "SELECT CASE WHEN pg_is_in_recovery() THEN true"
    " ELSE pg_current_wal_insert_lsn() <= pg_current_wal_flush_lsn() END"
)

PREFIX: Final = "source_timescaledb_flush"
"""The prefix of a logical decoding message that nobody reads."""

_FLUSH: Final = (
    "SELECT set_config('synchronous_commit', 'local', true), pg_logical_emit_message(true, %s, '')::text"
)


def is_durable(written: bytes | None, flushed: bytes | None) -> bool:
    """Whether what `WRITTEN` has answered is on disk by what `FLUSHED` has answered later, on the same connection."""
    return written is None or flushed is None or Lsn.parse(written.decode()) <= Lsn.parse(flushed.decode())


def ensure_durable(connection: Connection) -> None:
    """Return when all that a snapshot has seen that was taken on this connection before would outlive a crash.

    On a session in autocommit mode. Raises psycopg errors as they come.
    """
    if connection.execute(_IS_DURABLE.encode()).fetchone() != (True,):
        make_durable(connection)


def make_durable(connection: Connection) -> None:
    """Return when the log is on disk as far as it was written. A session of any kind, in autocommit mode, on a primary.

    A transaction that only reads may do this, and any role. Raises psycopg errors as they come.
    """
    connection.execute(_FLUSH, [PREFIX])
