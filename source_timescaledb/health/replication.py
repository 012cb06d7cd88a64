"""What stands in the way of following changes, all of it at once, each with the SQL that mends it.

A sync meets the same obstacles one by one (`cdc.preparation`) and stops at the first. Here they are facts, gathered in
one visit and judged together, so that somebody who sets up change data capture sees the whole list.

Which streams a connection selects is not known to `check`. So a table that the publication leaves out is a warning as
long as the publication lists any.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from psycopg import sql

from source_timescaledb.cdc.aggregates import Unrefreshable, identification
from source_timescaledb.cdc.compressing import Compressing
from source_timescaledb.cdc.preparation import is_followable
from source_timescaledb.config.replication import Cdc
from source_timescaledb.config.timescaledb import ManagePublication, Timescaledb
from source_timescaledb.health.compression import compression_findings
from source_timescaledb.health.finding import Finding, Severity
from source_timescaledb.hypertables.model import QualifiedName, Relation, ServerFacts
from source_timescaledb.postgres.identity import ReplicaIdentity
from source_timescaledb.postgres.publication import (
    MissingChunk,
    Publication,
    addition,
    publishing,
)
from source_timescaledb.postgres.slot import Slot, slot_problems

NAMES_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class ReplicationFacts:
    """What a server says of its logical replication, of our rights in it, and of our slot and publication."""

    wal_level: str
    may_replicate: bool
    may_make_temporary: bool
    slots_used: int
    slots_allowed: int
    slot: Slot | None
    publication: Publication | None
    unlisted: tuple[QualifiedName, ...] = ()
    """Tables of which not all changes are published, apart from chunks that are missing."""
    missing: tuple[MissingChunk, ...] = ()
    """Chunks of published hypertables that are not."""
    unsafe: tuple[ReplicaIdentity, ...] = ()
    """Published tables on which the application's UPDATE and DELETE fail."""
    unrefreshable: tuple[Unrefreshable, ...] = ()
    """Continuous aggregates whose refresh fails because their rows are published."""
    compressing: Compressing = field(default_factory=Compressing)
    """Of the tables that would be followed."""


def replication_findings(
    cdc: Cdc, settings: Timescaledb, server: ServerFacts, offered: Sequence[Relation], facts: ReplicationFacts
) -> Iterator[Finding]:
    """Everything that stands in the way of change data capture."""
    yield from _server(server, facts)
    yield from _rights(server, facts)
    if not settings.chunk_by_chunk:
        yield Finding(
            Severity.BLOCKING,
            "Changes cannot be followed while hypertables are read in one query (timescaledb.chunk_by_chunk is off).",
            "Turn timescaledb.chunk_by_chunk on, or choose the update method Standard.",
        )
    yield from _publication(cdc, settings.manage_publication, offered, facts)
    yield from _slot(cdc, settings.manage_publication, server, facts)
    yield from compression_findings(server, facts.compressing)
    yield from _guarded(offered)
    yield from _aggregates(offered, facts)


def _server(server: ServerFacts, facts: ReplicationFacts) -> Iterator[Finding]:
    if facts.wal_level != "logical":
        yield Finding(
            Severity.BLOCKING,
            f"The server's wal_level is {facts.wal_level}; to follow changes it must be logical.",
            "ALTER SYSTEM SET wal_level = 'logical'; and restart the server.",
        )
    if server.in_recovery:
        yield Finding(
            Severity.BLOCKING,
            "The server is a standby: changes are followed on the primary.",
            "Connect to the primary; timescaledb.replica_host lets the rows be read from the standby.",
        )
    if facts.slot is None and facts.slots_used >= facts.slots_allowed:
        yield Finding(
            Severity.BLOCKING,
            f"All {facts.slots_allowed} replication slots of the server are taken, and there is none of ours.",
            "Drop one that nobody reads, or raise max_replication_slots and restart the server.",
        )


def _rights(server: ServerFacts, facts: ReplicationFacts) -> Iterator[Finding]:
    role = sql.Identifier(server.role).as_string(None)
    if not facts.may_replicate:
        yield Finding(
            Severity.BLOCKING,
            f"The role {server.role} may not replicate.",
            f"ALTER ROLE {role} REPLICATION; (on Amazon RDS: GRANT rds_replication TO {role};)",
        )
    if not facts.may_make_temporary:
        database = sql.Identifier(server.database).as_string(None)
        yield Finding(
            Severity.WARNING,
            f"The role {server.role} may make no temporary tables, which the start of change data capture does to be "
            "safe from chunks that are born meanwhile; it makes a large object instead, where it may.",
            f"GRANT TEMPORARY ON DATABASE {database} TO {role};",
        )


def _publication(
    cdc: Cdc, manage: ManagePublication, offered: Sequence[Relation], facts: ReplicationFacts
) -> Iterator[Finding]:
    followable = [relation.name for relation in offered if is_followable(relation)]
    tiered = frozenset(relation.name for relation in offered if relation.tiered)
    publication = facts.publication
    if publication is None:
        if manage is not ManagePublication.FULL:
            yield Finding(
                Severity.BLOCKING,
                f"There is no publication {cdc.publication}.",
                f"{_create(cdc.publication, followable, tiered)} Or set timescaledb.manage_publication to full.",
            )
        return
    yield from _operations(publication)
    if facts.unlisted and manage is not ManagePublication.FULL:
        none = len(facts.unlisted) == len(followable)
        yield Finding(
            Severity.BLOCKING if none else Severity.WARNING,
            f"The publication {publication.name} does not list {_listed(facts.unlisted)}: their changes cannot be "
            "followed.",
            addition(publication.name, facts.unlisted, whole=True, tiered=tiered),
        )
    yield from _missing(publication, manage, facts)
    if facts.unsafe:
        yield Finding(
            Severity.WARNING,
            f"The publication {publication.name} makes the application's UPDATE and DELETE fail on "
            f"{_listed([identity.name for identity in facts.unsafe])}, which have no usable replica identity.",
            " ".join(identity.remedy for identity in facts.unsafe[:NAMES_SHOWN]),
        )


def _operations(publication: Publication) -> Iterator[Finding]:
    there = {"inserts": publication.inserts, "updates": publication.updates, "deletes": publication.deletes}
    left_out = [word for word, published in there.items() if not published]
    if left_out:
        yield Finding(
            Severity.WARNING if publication.inserts else Severity.BLOCKING,
            f"The publication {publication.name} does not publish {' and '.join(left_out)}.",
            publishing(publication.name),
        )
    if publication.narrowed:
        yield Finding(
            Severity.WARNING,
            f"The publication {publication.name} publishes only some columns of {_listed(publication.narrowed)}: they "
            "cannot be followed.",
            "Publish whole tables: ALTER PUBLICATION ... DROP TABLE, then ADD TABLE without a list of columns.",
        )
    if publication.filtered:
        yield Finding(
            Severity.WARNING,
            f"The publication {publication.name} publishes only the rows of {_listed(publication.filtered)} that pass "
            "its filter; the first load reads all of them.",
        )


def _missing(
    publication: Publication, manage: ManagePublication, facts: ReplicationFacts
) -> Iterator[Finding]:
    if not facts.missing:
        return
    names = [chunk.name for chunk in facts.missing]
    what = f"{len(names)} chunks are not in the publication {publication.name}: {_listed(names)}."
    if manage is ManagePublication.OFF:
        yield Finding(Severity.BLOCKING, what, addition(publication.name, names))
    elif not publication.owned:
        yield Finding(
            Severity.BLOCKING,
            f"{what} The role does not own the publication, so it cannot add them.",
            f"{addition(publication.name, names)} Since TimescaleDB 2.25 the server can add new chunks itself: "
            "ALTER DATABASE ... SET timescaledb.enable_chunk_auto_publication = on;",
        )


def _slot(
    cdc: Cdc, manage: ManagePublication, server: ServerFacts, facts: ReplicationFacts
) -> Iterator[Finding]:
    if facts.slot is None and manage is ManagePublication.FULL:
        return
    for problem in slot_problems(cdc.replication_slot, facts.slot, server.database):
        yield Finding(Severity.BLOCKING, problem.message, problem.remedy or "")


def _guarded(offered: Sequence[Relation]) -> Iterator[Finding]:
    guarded = [relation.name for relation in offered if relation.guarded and is_followable(relation)]
    if guarded:
        yield Finding(
            Severity.WARNING,
            f"The log knows neither row-level security nor column privileges: {_listed(guarded)} cannot be followed.",
            "Choose full refresh for them, or let a role read them that may see all of them.",
        )


def _aggregates(offered: Sequence[Relation], facts: ReplicationFacts) -> Iterator[Finding]:
    """What is not followed though it could be, and what the publication breaks."""
    broken = {one.view for one in facts.unrefreshable}
    if facts.publication is not None and broken:
        yield Finding(
            Severity.WARNING,
            f"The publication {facts.publication.name} makes the refresh of continuous aggregates fail, because what "
            f"holds their rows has no usable replica identity: {_listed(sorted(broken))}.",
            " ".join(identification(one.table) for one in facts.unrefreshable[:NAMES_SHOWN])
            + _more(facts.unrefreshable),
        )
    for relation in offered:
        obstacle = relation.aggregate.obstacle if relation.aggregate is not None else None
        if obstacle is not None and relation.name not in broken:
            yield Finding(
                Severity.WARNING,
                f"The continuous aggregate {relation.name} is read without its changes: {obstacle.reason}",
                f"To follow them: {obstacle.remedy}",
            )


def _create(publication: str, names: Sequence[QualifiedName], tiered: Container[QualifiedName]) -> str:
    tables = sql.SQL(", ").join(
        sql.SQL("ONLY {}" if name in tiered else "{}").format(sql.Identifier(*name))
        for name in names[:NAMES_SHOWN]
    )
    statement = sql.SQL("CREATE PUBLICATION {} FOR TABLE {};").format(sql.Identifier(publication), tables)
    return statement.as_string(None) + _more(names)


def _listed(names: Sequence[QualifiedName]) -> str:
    return ", ".join(map(str, names[:NAMES_SHOWN])) + _more(names)


def _more(names: Sequence[object]) -> str:
    return f" (and {len(names) - NAMES_SHOWN} more)" if len(names) > NAMES_SHOWN else ""
