"""Whose log it is, how far it goes, and whether it is the one that a state knows.

A standby that takes over, and a server restored from an archive, write on in a timeline of their own. Up to the point
where it parted, such a log is byte for byte the one that it came from; beyond it, another. The server keeps the list of
these points (TIMELINE_HISTORY). So a state continues on another timeline if that list names the state's own, and the
state does not stand past the point: everything it has told is in the new log, and all that follows it there is what
happened. A state past the point has told changes that the new server has lost, in an order that it never had.

That holds between two syncs. A sync that meets another timeline ends instead: rows that it read since its last state may
show what is lost, and its connections may lead to both servers. The next one goes on from the state, or is told why not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import errors

from source_timescaledb.errors import ConfigurationError, ConnectorError, FailureType, TransientError
from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.connection import Connection

START_AGAIN: Final = "Clear the state of the connection to read all again."

_TIMELINE: Final = """
SELECT CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END
"""
"""The name of a file of the log begins with its timeline, and every role may ask for it."""


class TakenOverError(ConnectorError):
    """Another server has taken over while a sync ran: the next one may go on, this one may not."""

    failure_type = FailureType.TRANSIENT


@dataclass(frozen=True, slots=True)
class WalPoint:
    """A position in the write-ahead log, and in whose: where a server stands now, or where a state does."""

    system: str
    """The cluster's identity; empty where it is unknown."""
    timeline: int
    lsn: Lsn


@dataclass(frozen=True, slots=True)
class Fork:
    """Where a server's log has left an older timeline for the next."""

    timeline: int
    lsn: Lsn


def identify(connection: Connection) -> WalPoint:
    """Where the server stands now, asked on a replication connection. Raises psycopg errors as they come.

    On a primary the position is where it writes next: it is never behind one that a state got from it, where the
    flushed one that IDENTIFY_SYSTEM tells can be, by the header of a page.
    """
    row = connection.execute("IDENTIFY_SYSTEM").fetchone()
    insert = connection.execute(
        "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn()::text END"
    ).fetchone()
    assert row is not None
    assert insert is not None
    return WalPoint(row[0], row[1], Lsn.parse(insert[0] or row[2]))


def read_forks(connection: Connection, timeline: int) -> list[Fork]:
    """Where a timeline has left each of those that it comes from, asked on a replication connection.

    Empty for the first, which comes from none, and where the server has lost the list. Raises psycopg errors.
    """
    if timeline == 1:
        return []
    try:
        result = connection.execute(f"TIMELINE_HISTORY {timeline:d}".encode()).pgresult
    except errors.UndefinedFile:
        return []
    assert result is not None
    # Servers announce the file as bytea and send it as it is: psycopg must not unescape it.
    return parse_forks((result.get_value(0, 1) or b"").decode(errors="replace"))


def parse_forks(history: str) -> list[Fork]:
    """Read a history file: a line for each fork, `timeline <tab> position <tab> reason`, and comments."""
    fields = (line.split(maxsplit=2) for line in history.splitlines() if not line.lstrip().startswith("#"))
    return [Fork(int(line[0]), Lsn.parse(line[1])) for line in fields if len(line) >= 2]


def server_problems(here: WalPoint, kept: WalPoint, forks: Sequence[Fork] = ()) -> list[ConnectorError]:
    """All that tells that a state does not continue on this server: another one, another log, a restored backup.

    `forks` are those of the server's timeline.
    """
    if kept.system and here.system != kept.system:
        return [
            ConfigurationError(
                f"The state belongs to another server: its system identifier is {kept.system}, this one's "
                f"{here.system}.",
                remedy="Connect to the server that the state comes from, or clear the state of the connection.",
            )
        ]
    what = _elsewhere(here, kept, forks)
    if not what and here.lsn < kept.lsn:
        what = f"has written no more than {here.lsn} and the state stands at {kept.lsn}: it was set back to the past"
    return [ConfigurationError(f"The server {what}.", remedy=START_AGAIN)] if what else []


def check_unmoved(connection: Connection, timeline: int) -> None:
    """Refuse a server that does not write the log that this sync began with.

    Raises TakenOverError, TransientError while it is a standby, and psycopg errors as they come.
    """
    row = connection.execute(_TIMELINE).fetchone()
    assert row is not None
    if row[0] is None:
        raise TransientError(
            "The server that answers is a standby by now: a failover seems to be under way.",
            remedy="Wait until it is promoted, or connect to the primary.",
        )
    found = int(row[0], 16)
    if found != timeline:
        raise TakenOverError(
            f"The server has changed its timeline from {timeline} to {found} while the sync ran: a standby has taken "
            "over.",
            remedy="Sync again: that goes on from the last state, where it may.",
        )


def _elsewhere(here: WalPoint, kept: WalPoint, forks: Sequence[Fork]) -> str:
    """Why a state of another timeline does not continue on the server's, as a part of a sentence; empty if it does."""
    if here.timeline == kept.timeline:
        return ""
    changed = f"has changed its timeline from {kept.timeline} to {here.timeline}"
    left = next((fork.lsn for fork in forks if fork.timeline == kept.timeline), None)
    if left is None:
        return (
            f"{changed}, which does not come from it as far as the server knows: it is an old primary, a standby of "
            "one, or was restored"
        )
    if kept.lsn > left:
        return (
            f"{changed} at {left}, and the state stands at {kept.lsn}: a standby has taken over, or a backup was "
            "restored, without changes that were told already"
        )
    return ""
