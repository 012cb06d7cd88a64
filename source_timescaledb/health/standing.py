"""Whether the log can be read from where a state stands, or, without one, from a slot at all.

Pure. A sync judges by this when it starts and each time that it opens the log again, `check` and `doctor` when they are
asked. Where what comes first is that changes are gone for good, and the settings say to read everything again then, it is
a warning, and the slot is judged as if there had been no state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from source_timescaledb.config.replication import InvalidPositionBehaviour
from source_timescaledb.config.timescaledb import ManagePublication
from source_timescaledb.errors import ConfigurationError
from source_timescaledb.health.facts import Aim, ReplicationFacts, Standing
from source_timescaledb.health.finding import Finding, Severity, Topic, ordered
from source_timescaledb.hypertables.model import Relation
from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.fitness import slot_problems
from source_timescaledb.postgres.publication import PublicationMarks
from source_timescaledb.postgres.slot import FAILOVER, ChangesGoneError, Slot, UnfitSlotError
from source_timescaledb.postgres.timeline import WalPoint, server_problems
from source_timescaledb.state.codec import FollowedStates
from source_timescaledb.state.model import LogPosition

MUCH_LOG: Final = 16 << 30
"""Bytes of log kept for a slot above which somebody should know: a busy server's disk of some hundred GiB bears it."""


def standing_findings(aim: Aim, facts: ReplicationFacts, before: FollowedStates | None) -> Iterator[Finding]:
    """All that keeps a sync from going on from a state, or from beginning."""
    if facts.standing.refusal is not None:
        yield Finding.of(facts.standing.refusal, Topic.CONNECTION)
    kept = kept_point(before.position) if before is not None else None
    found = ordered([*_publications(aim, facts, before), *_positions(aim, facts, kept)])
    behaviour = aim.cdc.invalid_cdc_cursor_position_behavior
    if behaviour is InvalidPositionBehaviour.RESYNC and found and _is_gone(found[0]):
        yield _read_again(found[0])
        yield from _positions(aim, _replaced(aim, facts), None)
    else:
        yield from found
    yield from _health(aim, facts)


def kept_point(position: LogPosition) -> WalPoint:
    """Where a state stands."""
    return WalPoint(position.database.system, position.timeline, Lsn.parse(position.lsn))


def kept_marks(before: FollowedStates) -> PublicationMarks:
    """The publication and its entries, as a state knows them."""
    entries = {state.relation: state.entry for state in before.streams.values() if state.entry}
    return PublicationMarks(before.position.publication, entries)


def position_findings(
    name: str, slot: Slot | None, database: str, kept: WalPoint | None, standing: Standing, version: int
) -> Iterator[Finding]:
    """What keeps a slot from being read from where a state stands, on this server; without a state, at all."""
    here = standing.here
    if kept is not None and here is not None:
        for problem in server_problems(here, kept, standing.forks):
            yield Finding.of(problem, Topic.STATE)
    timeline = here.timeline if here is not None else None
    for problem in slot_problems(name, slot, database, kept, timeline=timeline, version=version):
        finding = Finding.of(problem, Topic.SLOT)
        if isinstance(problem, UnfitSlotError):
            finding = replace(finding, settings={"replication_method.replication_slot": problem.another})
        yield finding


def publication_kept(
    name: str,
    relations: Sequence[Relation],
    found: PublicationMarks | None,
    before: PublicationMarks,
    *,
    meanwhile: str = "since the last sync",
) -> Iterator[Finding]:
    """Refuse a publication that is not the one it was, and tables that were out of it, whether they are back or not.

    What was written while there was none is left out by a server that goes on without one (PostgreSQL 18), and stops the
    others (42704); what was written while a table was not in it is left out by all.
    """
    if before.publication and (found is None or found.publication != before.publication):
        what = "made again" if found is not None else "dropped"
        yield Finding(
            Severity.BLOCKING,
            Topic.STATE,
            f"The publication {name} was {what} {meanwhile}: the server does not send what was written while there was "
            "none.",
            "See that it exists and lists what is to be followed. Then clear the state of the connection, or choose "
            "Re-sync data in the setting invalid_cdc_cursor_position_behavior.",
            kind=ChangesGoneError,
        )
        return
    entries: Mapping[int, int] = found.entries if found is not None else {}
    lost = [
        relation.name
        for relation in relations
        if before.entries.get(relation.oid, 0) not in (0, entries.get(relation.oid))
    ]
    if lost:
        yield Finding(
            Severity.BLOCKING,
            Topic.STATE,
            f"{', '.join(map(str, lost))} left the publication {name} after it was followed there: what was written "
            "meanwhile is not sent.",
            "See that the publication lists what is to be followed, and refresh these streams.",
        )


def _positions(aim: Aim, facts: ReplicationFacts, kept: WalPoint | None) -> Iterator[Finding]:
    if facts.slot is None and kept is None and aim.settings.manage_publication is ManagePublication.FULL:
        return
    name, server = aim.cdc.replication_slot, aim.server
    yield from position_findings(
        name, facts.slot, server.database, kept, facts.standing, server.version_number
    )


def _publications(aim: Aim, facts: ReplicationFacts, before: FollowedStates | None) -> Iterator[Finding]:
    if before is None:
        return
    yield from publication_kept(aim.cdc.publication, aim.relations, facts.marks, kept_marks(before))


def _is_gone(finding: Finding) -> bool:
    return issubclass(finding.kind, ChangesGoneError)


def _replaced(aim: Aim, facts: ReplicationFacts) -> ReplicationFacts:
    """The facts once a sync that may make a slot has dropped one that the server has given up (`airbyte.healing`)."""
    given_up = facts.slot is not None and bool(facts.slot.invalidation_reason)
    full = aim.settings.manage_publication is ManagePublication.FULL
    return replace(facts, slot=None) if given_up and full else facts


def _read_again(finding: Finding) -> Finding:
    return replace(
        finding,
        severity=Severity.WARNING,
        remedy="All streams are read again, as configured (invalid_cdc_cursor_position_behavior).",
        statements=(),
        kind=ConfigurationError,
    )


def _health(aim: Aim, facts: ReplicationFacts) -> Iterator[Finding]:
    """How a slot that can be read is doing."""
    slot = facts.slot
    if slot is None or slot.invalidation_reason:
        return
    endangered = slot.wal_status == "unreserved" or (
        slot.safe_wal_size is not None and slot.safe_wal_size < 0
    )
    size = f"The server keeps {_bytes(facts.retained)} of its log for the replication slot {slot.name}"
    if endangered:
        yield Finding(
            Severity.WARNING,
            Topic.SLOT,
            f"{size}, which is more than max_slot_wal_keep_size: it will give the slot up.",
            "Sync now, and more often, or raise max_slot_wal_keep_size.",
        )
    elif facts.retained > MUCH_LOG:
        yield Finding(
            Severity.WARNING,
            Topic.SLOT,
            f"{size}: nobody has read it for long, and the server's disk fills up.",
            "Sync now, and more often, or drop the slot where its connection is given up.",
        )
    elif facts.retained:
        yield Finding(Severity.NOTE, Topic.SLOT, f"{size}.")
    if aim.server.version_number >= FAILOVER and not slot.failover and not slot.temporary:
        yield Finding(
            Severity.NOTE,
            Topic.SLOT,
            f"The replication slot {slot.name} was made without failover: after a failover everything has to be read "
            "again.",
            f"Where there are standbys, run on a replication connection (psql 'replication=database'): "
            f"ALTER_REPLICATION_SLOT {slot.name} (FAILOVER true);",
        )


def _bytes(number: int) -> str:
    """A size as people read it."""
    size, units = float(number), ("bytes", "KiB", "MiB", "GiB", "TiB")
    unit = 0
    while size >= 1024 and unit < len(units) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {units[unit]}" if unit else f"{number} bytes"
