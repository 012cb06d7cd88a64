"""Replication slots: what they are, and how they are made without waiting for ever; whether they may be used: `fitness`.

*Creation* waits for every transaction that is writing, and no timeout of the server ends that wait as a whole. We ask
without blocking, look for the blockers from another connection when it takes too long, and cancel. A slot whose creation
is cancelled does not exist; one that was ready in that very moment is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import errors, sql
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from typing_extensions import Self

from source_timescaledb.errors import ConfigurationError, ConnectorError, ContentionError, TransientError
from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.barrier import END_WRITERS, OpenWriter, named, open_writers
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.postgres.streaming import failure
from source_timescaledb.sqlstates import connector_error

PLUGIN: Final = "pgoutput"
POLL_SECONDS: Final = 0.02
CANCEL_SECONDS: Final = 5.0
CANCEL_AGAIN_SECONDS: Final = 0.5

FAILOVER: Final = 170_000
"""PostgreSQL 17 brought slots that standbys take over."""

ACTIVE: Final = "One slot serves one connection: end the other reader, or wait until it has gone."

START_OVER: Final = (
    "Drop the slot, make it again and clear the state of the connection, or choose Re-sync data in the setting "
    "invalid_cdc_cursor_position_behavior."
)


class ChangesGoneError(ConfigurationError):
    """The changes since the state's position can never be had from here: only reading everything again helps."""


class SlotInvalidatedError(ChangesGoneError):
    """The server has given the slot up: it can never be read again."""


class UnfitSlotError(ConfigurationError):
    """The slot is of a kind that cannot serve us; its statement makes `another` beside it."""

    another = ""


class UndecodableSlotError(ConfigurationError):
    """The server fails to decode what the slot stands before, and would do so every time."""


class SlotActiveError(ContentionError):
    """Another process reads the slot; the message has its id."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A row of `pg_replication_slots`; what a version of the server does not know has its default."""

    name: str
    plugin: str
    """Empty for a physical slot."""
    database: str
    temporary: bool
    active_pid: int | None
    restart_lsn: Lsn | None
    confirmed_flush: Lsn | None
    wal_status: str
    """`reserved`, `extended`, `unreserved` or `lost`; empty where the server cannot say."""
    invalidation_reason: str
    """PostgreSQL 17 and later; the older ones know only the first and the second."""
    safe_wal_size: int | None
    """Bytes that may be written before the slot is in danger; negative once it is. None without a limit."""
    two_phase: bool
    failover: bool
    """Whether a standby takes the slot over (PostgreSQL 17 and later)."""
    synced: bool
    """Whether it is such a copy on a standby."""

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        """Read a row as JSON."""
        lost = row.get("wal_status") == "lost"
        conflicting = "rows_removed" if row.get("conflicting") else ""
        return cls(
            name=row["slot_name"],
            plugin=row["plugin"] or "",
            database=row["database"] or "",
            temporary=row["temporary"],
            active_pid=row["active_pid"],
            restart_lsn=_lsn(row["restart_lsn"]),
            confirmed_flush=_lsn(row["confirmed_flush_lsn"]),
            wal_status=row.get("wal_status") or "",
            invalidation_reason=row.get("invalidation_reason")
            or conflicting
            or ("wal_removed" if lost else ""),
            safe_wal_size=row.get("safe_wal_size"),
            two_phase=row.get("two_phase") or False,
            failover=row.get("failover") or False,
            synced=row.get("synced") or False,
        )


def read_slot(connection: Connection, name: str) -> Slot | None:
    """What the server says of a slot, None where there is none; on any connection. Raises psycopg errors."""
    query = sql.SQL("SELECT to_jsonb(s) FROM pg_catalog.pg_replication_slots s WHERE slot_name = {}")
    row = connection.execute(query.format(sql.Literal(name))).fetchone()
    return Slot.from_row(row[0]) if row else None


def create_slot(
    replication: Connection,
    watching: Connection,
    name: str,
    *,
    seconds: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Lsn:
    """Make a logical slot for pgoutput and return its consistent point; where the server can, one for failovers.

    Args:
        replication: a `Session.REPLICATION` connection; closed if it cannot be freed again.
        watching: another connection, to see what the creation waits for.
        name: the slot's name.
        seconds: how long open writers are waited for.
        clock: a monotonic clock in seconds.
        sleep: takes seconds.

    Raises:
        TransientError: writers are still open; they are named. ContentionError if somebody else made the slot first.
        ConnectorError: as the server's reason deserves.
    """
    doing = f"Creating the replication slot {name}"
    try:
        result, blockers = _answer_or_blockers(replication, watching, name, seconds, clock, sleep)
        if result is None:
            result = _cancelled(replication, clock, sleep)
    except psycopg.Error as error:
        raise connector_error(error, doing) from None
    if result is not None and result.status == ExecStatus.TUPLES_OK:
        return _consistent_point(result)
    if result is None or blockers is not None:
        raise TransientError(
            f"{doing} has to wait until transactions that are open have ended, and after {seconds:g} seconds it was "
            f"still waiting for {named(blockers or [])}.",
            remedy=END_WRITERS,
        )
    refusal = failure(result)
    if isinstance(refusal, errors.DuplicateObject):
        raise ContentionError(f"{doing} failed: somebody else has made it meanwhile.")
    if isinstance(refusal, errors.ConfigurationLimitExceeded):
        raise ConfigurationError(
            connector_error(refusal, doing).message,
            remedy="Drop a slot that nobody needs any more, or raise max_replication_slots and restart the server.",
        )
    raise connector_error(refusal, doing)


def drop_slot(connection: Connection, name: str) -> None:
    """Drop a slot; one that is gone already is no error.

    Raises:
        SlotActiveError: a process reads it; named.
        ConnectorError: as the server's reason deserves.
    """
    statement = sql.SQL("SELECT pg_catalog.pg_drop_replication_slot({})").format(sql.Literal(name))
    try:
        connection.execute(statement)
    except errors.UndefinedObject:
        return
    except psycopg.Error as error:
        raise slot_error(error, f"Dropping the replication slot {name}") from None


def answer(
    server: PGconn, *, seconds: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> PGresult | None:
    """The answer to a command that was sent, None if there is none after so many seconds. Raises psycopg errors."""
    give_up = clock() + seconds
    answered = None
    while True:
        server.flush()
        server.consume_input()
        while not server.is_busy():
            result = server.get_result()
            if result is None or result.status == ExecStatus.COPY_BOTH:
                return answered if result is None else result
            answered = result
        if clock() >= give_up:
            return None
        sleep(POLL_SECONDS)


def slot_error(error: psycopg.Error, doing: str) -> ConnectorError:
    """As `connector_error`, with a kind of its own for a slot that another process reads."""
    plain = connector_error(error, doing)
    if isinstance(error, errors.ObjectInUse):
        return SlotActiveError(plain.message, remedy=ACTIVE, detail=plain.detail)
    return plain


def _answer_or_blockers(
    replication: Connection,
    watching: Connection,
    name: str,
    seconds: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> tuple[PGresult | None, list[OpenWriter] | None]:
    """The server's answer to the wish for a slot, or, where none comes in time, whom it waits for."""
    # Standbys copy a slot of this kind if they are told to copy slots, and to the others it makes no difference. The
    # old spelling of (SNAPSHOT 'nothing') is the one that PostgreSQL 14 knows.
    options = (
        "(SNAPSHOT 'nothing', FAILOVER)"
        if replication.info.server_version >= FAILOVER
        else "NOEXPORT_SNAPSHOT"
    )
    command = sql.SQL("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput {}").format(
        sql.Identifier(name), sql.SQL(options)
    )
    server = replication.pgconn
    server.send_query(command.as_bytes(replication))
    try:
        result = answer(server, seconds=seconds, clock=clock, sleep=sleep)
        return result, None if result is not None else _blockers(watching, server.backend_pid)
    except BaseException:
        # The server would go on, and leave a slot behind that keeps WAL and that nobody knows of.
        _cancelled(replication, clock, sleep)
        raise


def _blockers(watching: Connection, pid: int) -> list[OpenWriter]:
    row = watching.execute("SELECT pg_blocking_pids(%s)", [pid]).fetchone()
    pids = row[0] if row else []
    return [writer for writer in open_writers(watching) if writer.pid in pids]


def _cancelled(
    replication: Connection, clock: Callable[[], float], sleep: Callable[[float], None]
) -> PGresult | None:
    """End the command under way; what it still answered. The connection is closed where even that does not end it.

    It is cancelled again until it answers: a cancellation that overtakes its command is lost.
    """
    result = None
    give_up = clock() + CANCEL_SECONDS
    try:
        while result is None and clock() < give_up:
            replication.cancel_safe(timeout=CANCEL_SECONDS)
            result = answer(replication.pgconn, seconds=CANCEL_AGAIN_SECONDS, clock=clock, sleep=sleep)
    except psycopg.Error:
        pass
    finally:
        if result is None:
            replication.close()
    return result


def _consistent_point(result: PGresult) -> Lsn:
    value = result.get_value(0, 1)
    assert value is not None
    return Lsn.parse(value.decode())


def _lsn(text: str | None) -> Lsn | None:
    return Lsn.parse(text) if text else None
