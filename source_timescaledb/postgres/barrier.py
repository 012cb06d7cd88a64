"""Moments: waiting until nothing older is still being written, from where to read, and marking one in the WAL.

*The barrier.* A transaction that began to write before something changed (a chunk joined the publication, a slot was
made) can be half captured: some of its changes before the moment, some after it. So we take a transaction id for
ourselves and wait until `pg_snapshot_xmin`, the lowest one still running, has reached it. From then on every writer knew
of the change from its first statement on, and whatever began earlier is visible to any new snapshot. Nobody is blocked:
we only look, twenty times a second. Readers have no transaction id and are not waited for. Transaction ids are the
cluster's, so a writer in another database, or a prepared transaction, holds the barrier as well; when it lasts too long
they are named.

`pg_snapshot_xmax` would not do for the id: it is the one after the last *completed* transaction (GetSnapshotData,
procarray.c). On a quiet server it is the very id of the open writer, and `xmin` has reached it before we ask. An id of
our own is higher than every id given before it.

Visibility comes after the commit record: with synchronous replication a transaction can be decoded and still be running
for every snapshot. The barrier waits for the latter, which is what it is for (holes 1 and 8 of the trial runs: without
it rows were lost).

*The start guard.* A slot that is new, also one the user made, can be wrong in three ways (holes 1, 2 and 8 of the trial
runs). Its decoder may hold a picture of the catalog from before a chunk was born, kept until the next transaction that
changes the catalog: a change to that chunk then fails for good (XX000). A transaction open at its consistent point is
decoded although a row of it may stand in the log before. And one that is committed but not yet visible is neither decoded
nor in a snapshot. So: commit a change of the catalog, wait for the barrier, note the position, wait for a second barrier.
What is read from that position on, with snapshots taken afterwards, has none of the three (122 trial runs).

*The fence* is a transactional message in the write-ahead log. It is decoded like a change, so whoever has read the
stream up to it has read everything that committed before it. It is written under `synchronous_commit = local`: waiting
for a standby that never answers would hang the sync (measured: until cancelled; 6 ms so), and the stream needs only that
the record is flushed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import errors, sql
from typing_extensions import LiteralString

from source_timescaledb.errors import ConfigurationError, TransientError
from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.connection import Connection

FENCE_PREFIX: Final = "source_timescaledb"
"""The prefix of our logical decoding messages."""

POLL_SECONDS: Final = 0.05

_XMIN: Final = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::int8"
_OWN: Final = "SELECT pg_current_xact_id()::text::int8"

_OPEN_WRITERS: Final = """
WITH writers AS (
    SELECT pid, '' AS gid, coalesce(datname, '') AS database, coalesce(usename, '') AS role, backend_xid AS xid,
           xact_start AS since
    FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL
    UNION ALL
    SELECT 0, gid, database, owner, transaction, prepared FROM pg_catalog.pg_prepared_xacts)
SELECT pid, gid, database, role, extract(epoch FROM clock_timestamp() - since)::float8 AS seconds FROM writers
WHERE %(before)s::int8 IS NULL OR ((%(before)s::int8 - xid::text::int8) & 4294967295) BETWEEN 1 AND 2147483647
ORDER BY seconds DESC NULLS LAST
"""
"""`backend_xid` and prepared transactions can be seen by every role, `xact_start` only where it may see the session. The
server shows 32 bits of these ids, in a circle where half is older and half is newer."""


_CATALOG_CHANGES: Final = (
    "CREATE TEMPORARY TABLE source_timescaledb_start () ON COMMIT DROP",
    "SELECT pg_catalog.lo_unlink(pg_catalog.lo_create(0))",
)
"""What changes the catalog and leaves nothing behind: the first needs TEMPORARY on the database, the second nothing
unless an administrator took it away."""


@dataclass(frozen=True, slots=True)
class OpenWriter:
    """A transaction that has written something and has not ended."""

    pid: int
    """The process that runs it; 0 where it is prepared and belongs to none, as in `pg_blocking_pids`."""
    gid: str
    """The name of a prepared transaction, else empty."""
    database: str
    role: str
    seconds: float | None
    """How long it is open, None where our role may not see that."""

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else f"prepared transaction {self.gid!r}"
        since = "" if self.seconds is None else f", open for {self.seconds:.0f} s"
        return f"{who} (role {self.role} in database {self.database}{since})"


END_WRITERS: Final = (
    "Wait until it ends, or end it: pg_terminate_backend(<process>) for a session, ROLLBACK PREPARED or COMMIT "
    "PREPARED for a prepared transaction."
)


def open_writers(connection: Connection, *, before: int | None = None) -> list[OpenWriter]:
    """The transactions of all databases that have written and not ended, the oldest first.

    Args:
        connection: in autocommit mode, of any role.
        before: only those with a smaller transaction id (xid8).

    Raises psycopg errors as they come.
    """
    rows = connection.execute(_OPEN_WRITERS, {"before": before}).fetchall()
    return [OpenWriter(*row) for row in rows]


def named(writers: Sequence[OpenWriter]) -> str:
    """The writers as a part of a sentence."""
    return "; ".join(map(str, writers)) or "nobody any more"


def xmin_barrier(
    connection: Connection,
    *,
    seconds: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> int:
    """Wait until every transaction that had written by now has ended; return the xid8 that they are all older than.

    Args:
        connection: in autocommit mode and on the primary, since a standby's snapshots list no running transactions.
        seconds: how long to wait at most.
        clock: a monotonic clock in seconds.
        sleep: takes seconds.

    Raises:
        TransientError: some are still open; it names them.
        psycopg.Error: as it comes.
    """
    noted = own_transaction(connection)
    give_up = clock() + seconds
    while _number(connection, _XMIN) < noted:
        if clock() >= give_up:
            raise TransientError(
                f"Transactions are still open that began to write more than {seconds:g} seconds ago, and rows of "
                f"theirs could be missed: {named(open_writers(connection, before=noted))}.",
                remedy=END_WRITERS,
            )
        sleep(POLL_SECONDS)
    return noted


def own_transaction(connection: Connection) -> int:
    """An xid8 that is higher than those of all transactions that have written by now; its own has ended already.

    A snapshot whose xmin is not below it sees all of them, or they were rolled back. On a connection of any session in
    autocommit mode; costs a commit record that nobody waits for. Raises psycopg errors as they come.
    """
    return _number(connection, _OWN)


def start_position(
    connection: Connection,
    *,
    seconds: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Lsn:
    """From where a slot that exists can be read without a gap, with snapshots taken after this returns.

    The position itself is flushed at the latest with the next fence.

    Args:
        connection: a `Session.WRITING` one on the primary, in autocommit mode.
        seconds: how long open writers are waited for at each of the two barriers.
        clock: a monotonic clock in seconds.
        sleep: takes seconds.

    Raises:
        TransientError: writers are still open; they are named.
        ConfigurationError: the role can make no change of the catalog, with the GRANT that lets it.
        psycopg.Error: as it comes.
    """
    commit_catalog_change(connection)
    xmin_barrier(connection, seconds=seconds, clock=clock, sleep=sleep)
    position = insert_position(connection)
    xmin_barrier(connection, seconds=seconds, clock=clock, sleep=sleep)
    return position


def commit_catalog_change(connection: Connection) -> None:
    """Commit a transaction that changes the catalog and leaves nothing behind.

    Raises ConfigurationError where the role may not, and psycopg errors as they come.
    """
    for change in _CATALOG_CHANGES:
        try:
            # Both in one message are one transaction, which need not wait for standbys.
            connection.execute(f"SET LOCAL synchronous_commit = local; {change}".encode())
        except errors.InsufficientPrivilege:
            continue
        return
    database = sql.Identifier(connection.info.dbname).as_string(connection)
    role = sql.Identifier(connection.info.user).as_string(connection)
    raise ConfigurationError(
        "The role may not make a temporary table, which the start of CDC needs so that the server decodes chunks born "
        "meanwhile.",
        remedy=f"Run as the database's owner: GRANT TEMPORARY ON DATABASE {database} TO {role}.",
    )


def emit_fence(connection: Connection, content: str) -> Lsn:
    """Write a transactional message, prefix `source_timescaledb`, and commit it; return where it stands in the WAL.

    The stream gives it as Begin, Message, Commit. It is flushed when this returns, so it will come whatever else
    happens.

    Args:
        connection: a `Session.WRITING` one, in autocommit mode; any role that may log in may do this.
        content: what tells this fence from others.

    Raises psycopg errors as they come.
    """
    row = connection.execute(
        "SELECT pg_logical_emit_message(true, %s, %s)::text, set_config('synchronous_commit', 'local', true)",
        [FENCE_PREFIX, content],
    ).fetchone()
    assert row is not None
    return Lsn.parse(row[0])


def insert_position(connection: Connection) -> Lsn:
    """Where the primary writes the next record of its WAL; not flushed yet. Raises psycopg errors as they come."""
    row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    return Lsn.parse(row[0])


def _number(connection: Connection, query: LiteralString) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])
