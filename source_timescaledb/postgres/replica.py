"""Reading from a replica without reading the past.

What is read must contain everything that was committed when the read was planned, or rows between plan and replica
would belong to no sync. So the primary's position is noted, and nothing is read before the replica has replayed past
it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from source_timescaledb.errors import ConfigurationError, TransientError
from source_timescaledb.hypertables.model import ServerFacts
from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.connection import Connection

_POLL_SECONDS: Final = 0.1


def current_position(connection: Connection) -> Lsn | None:
    """The end of the primary's WAL; None if the server itself is a standby, whose own data is all there is."""
    row = connection.execute(
        "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_lsn()::text END"
    ).fetchone()
    return Lsn.parse(row[0]) if row and row[0] else None


def await_replay(
    connection: Connection,
    position: Lsn,
    *,
    seconds: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Wait until the replica has replayed past `position`; polls ten times a second.

    Raises TransientError if it has not after `seconds`.
    """
    give_up = clock() + seconds
    while True:
        row = connection.execute("SELECT pg_last_wal_replay_lsn()::text").fetchone()
        replayed = Lsn.parse(row[0]) if row and row[0] else Lsn(0)
        if replayed >= position:
            return
        if clock() >= give_up:
            raise TransientError(
                f"The replica has replayed to {replayed} after {seconds:.0f} seconds, and the read needs {position}.",
                remedy="Look for what delays replication, or read from the primary (timescaledb.replica_host).",
            )
        sleep(_POLL_SECONDS)


def check_replica(primary: ServerFacts, replica: ServerFacts) -> None:
    """Refuse a replica that is not one, or not one of this primary.

    Raises ConfigurationError.
    """
    if not replica.in_recovery:
        raise ConfigurationError(
            "The server at timescaledb.replica_host is not a replica: it is not in recovery.",
            remedy="Name a streaming replica of the primary, or leave the setting out.",
        )
    if primary.system_identifier and primary.system_identifier != replica.system_identifier:
        raise ConfigurationError(
            "The server at timescaledb.replica_host is a replica of another primary.",
            remedy="Name a streaming replica of the configured host, or leave the setting out.",
        )
