"""Whether a slot can be read from where a state stands, and what to run where it cannot.

The server would not object to most of what is wrong. It raises a start position below `confirmed_flush`
in silence and so skips what lies between; it takes one past the end of its own log and skips what will be written up to
there (both measured). So the slot, the position that the state remembers and the server are compared here before the
stream starts, and everything that is wrong is told at once.
"""

from __future__ import annotations

from typing import Final

from psycopg import sql

from source_timescaledb.errors import ConfigurationError, ConnectorError
from source_timescaledb.postgres.slot import (
    ACTIVE,
    FAILOVER,
    PLUGIN,
    START_OVER,
    ChangesGoneError,
    Slot,
    SlotActiveError,
    SlotInvalidatedError,
    UnfitSlotError,
)
from source_timescaledb.postgres.timeline import WalPoint
from source_timescaledb.remedy import Statement

_OURS: Final = "_pgoutput"
_LONGEST_NAME: Final = 63

LIMITS: Final = {
    "wal_removed": "max_slot_wal_keep_size",
    "rows_removed": "hot_standby_feedback",
    "wal_level_insufficient": "wal_level",
    "idle_timeout": "idle_replication_slot_timeout",
}
"""The setting behind each `invalidation_reason` (PostgreSQL manual, pg_replication_slots)."""

_CLEAR: Final = (
    "Then clear the state of the connection, or choose Re-sync data in the setting "
    "invalid_cdc_cursor_position_behavior."
)


def slot_problems(
    name: str,
    slot: Slot | None,
    database: str,
    kept: WalPoint | None = None,
    *,
    timeline: int | None = None,
    version: int = 0,
) -> list[ConnectorError]:
    """All that keeps a slot from being read from the position that the state has kept, if there is one.

    Among them ChangesGoneError, SlotInvalidatedError (which says which setting), and SlotActiveError with the process
    that reads it. `timeline` is the server's, where a state may come from another; `version` is its `server_version_num`,
    on which it depends what slots can be made.
    """
    if slot is None:
        return [_missing(name, kept, timeline, version)]
    return [*_unfit(slot, database, version), *_unreachable(slot, kept, version), *_busy(slot)]


def making(name: str, version: int = 0) -> Statement:
    """The statement that makes a slot; where the server can, one that standbys take over."""
    failover = sql.SQL(", failover => true" if version >= FAILOVER else "")
    return Statement.of(
        sql.SQL("SELECT pg_create_logical_replication_slot({}, {}{})").format(name, PLUGIN, failover),
        unless=sql.SQL("EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {})").format(name),
    )


def dropping(name: str) -> Statement:
    """The statement that drops a slot."""
    return Statement.of(
        sql.SQL("SELECT pg_drop_replication_slot({})").format(name),
        unless=sql.SQL("NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {})").format(name),
    )


def invalidated(slot: Slot, version: int = 0) -> SlotInvalidatedError:
    """The error for a slot that the server has given up."""
    setting = LIMITS.get(slot.invalidation_reason, "")
    return SlotInvalidatedError(
        f"The server has invalidated the replication slot {slot.name} ({slot.invalidation_reason}"
        f"{f', see the setting {setting}' if setting else ''}): the changes since the last sync can no longer be read.",
        remedy=f"{_CLEAR}{f' Mend the setting {setting} or sync more often.' if setting else ''}",
        statements=[dropping(slot.name), making(slot.name, version)],
    )


def _missing(name: str, kept: WalPoint | None, timeline: int | None, version: int) -> ConnectorError:
    statements = [making(name, version)]
    if kept is None:
        return ConfigurationError(
            f"The replication slot {name} does not exist.",
            remedy="Or set timescaledb.manage_publication to full.",
            statements=statements,
        )
    if timeline not in (None, kept.timeline):
        return ChangesGoneError(
            f"The server has changed its timeline from {kept.timeline} to {timeline}: a standby has taken over, and the "
            f"replication slot {name} did not come with it, so the changes since {kept.lsn} cannot be read.",
            remedy=f"{_CLEAR} From PostgreSQL 17 on a slot made with failover => true is copied to standbys that set "
            "sync_replication_slots.",
            statements=statements,
        )
    return ChangesGoneError(
        f"The replication slot {name} does not exist any more: the changes since {kept.lsn} cannot be read.",
        remedy=_CLEAR,
        statements=statements,
    )


def _unfit(slot: Slot, database: str, version: int) -> list[ConnectorError]:
    """What a slot is by its making, and why that cannot serve us; whom it serves we do not know, so it stays."""
    if not slot.plugin:
        return [_unfitting(slot, "is a physical one", version)]
    faults = {
        f"was made with the plugin {slot.plugin}, not {PLUGIN}": slot.plugin != PLUGIN,
        f"belongs to the database {slot.database}, not {database}": slot.database != database,
        "is a temporary one and will end with its session": slot.temporary,
    }
    return [_unfitting(slot, fault, version) for fault, present in faults.items() if present]


def _unfitting(slot: Slot, fault: str, version: int) -> UnfitSlotError:
    another = f"{slot.name[: _LONGEST_NAME - len(_OURS)]}{_OURS}"
    error = UnfitSlotError(
        f"The replication slot {slot.name} {fault}.",
        remedy=f"Then name {another} in the setting replication_slot.",
        statements=[making(another, version)],
    )
    error.another = another
    return error


def _unreachable(slot: Slot, kept: WalPoint | None, version: int) -> list[ConnectorError]:
    if slot.invalidation_reason:
        return [invalidated(slot, version)]
    if kept is None or slot.confirmed_flush is None or kept.lsn >= slot.confirmed_flush:
        return []
    return [
        ChangesGoneError(
            f"The state stands at {kept.lsn}, but the replication slot {slot.name} begins at {slot.confirmed_flush}: it "
            "was made again, or another reader has moved it, and the changes between are gone.",
            remedy=START_OVER,
        )
    ]


def _busy(slot: Slot) -> list[ConnectorError]:
    if slot.active_pid is None:
        return []
    return [
        SlotActiveError(
            f"The replication slot {slot.name} is being read by process {slot.active_pid}.", remedy=ACTIVE
        )
    ]
