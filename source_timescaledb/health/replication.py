"""What stands in the way of following changes, all of it at once, each with the SQL that mends it.

Pure, and the one judge of it: a sync raises the first of these findings that blocks, `check` and `doctor` tell all of
them. What the slot and a state lack is judged apart (`standing`), because a sync may make the slot in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from psycopg import sql
from typing_extensions import LiteralString

from source_timescaledb.errors import ConfigurationError
from source_timescaledb.health.compression import compression_findings
from source_timescaledb.health.facts import Aim, ReplicationFacts
from source_timescaledb.health.finding import Finding, Severity, Topic
from source_timescaledb.health.publication import publication_findings
from source_timescaledb.hypertables.model import Relation, ServerFacts
from source_timescaledb.hypertables.naming import listed
from source_timescaledb.postgres.barrier import END_WRITERS, named
from source_timescaledb.postgres.identity import identification
from source_timescaledb.remedy import Statement, grant

MORE_AT_LEAST: Final = 4
"""How many slots or senders more than are taken a server gets, since a restart is not for one."""


LONG_SECONDS: Final = 60.0
"""A sync begins once all writers have ended that were there before it: nobody minds a minute of that."""


def replication_findings(aim: Aim, facts: ReplicationFacts) -> Iterator[Finding]:
    """Everything that stands in the way of change data capture, apart from the slot and the state."""
    yield from _server(aim.server, facts)
    yield from _writers(facts)
    yield from _rights(aim.server, facts)
    yield from _settings(aim)
    yield from publication_findings(aim, facts)
    yield from compression_findings(aim.server, facts.compressing)
    yield from _guarded(aim)
    yield from _aggregates(aim, facts)


def guard_error(relation: Relation, role: str) -> ConfigurationError | None:
    """Why the changes of a relation would show more than the role may see; None if they would not."""
    if not relation.guarded:
        return None
    if relation.selectable:
        return ConfigurationError(
            f"{relation.name} is under row-level security, which the write-ahead log does not know: its changes cannot "
            "be followed.",
            remedy="Choose full refresh for it, or let a role read it that may see all of it.",
            statements=[Statement.of(sql.SQL("ALTER ROLE {} BYPASSRLS").format(sql.Identifier(role)))],
        )
    return ConfigurationError(
        f"{relation.name} is readable for the role in some columns only, which the write-ahead log does not know: its "
        "changes cannot be followed.",
        remedy="Choose full refresh for it, or let the role read all of it.",
        statements=[grant("SELECT ON", relation.name, role)],
    )


def _server(server: ServerFacts, facts: ReplicationFacts) -> Iterator[Finding]:
    if facts.wal_level != "logical":
        yield Finding(
            Severity.BLOCKING,
            Topic.SERVER,
            f"The server's wal_level is {facts.wal_level}; to follow changes it must be logical.",
            "Then restart the server.",
            statements=(Statement("ALTER SYSTEM SET wal_level = 'logical';", restart=True),),
        )
    if server.in_recovery:
        yield Finding(
            Severity.BLOCKING,
            Topic.SERVER,
            "The server is a standby: changes are followed on the primary.",
            "Connect to the primary; timescaledb.replica_host lets the rows be read from the standby.",
        )
    if facts.slot is None and facts.slots_used >= facts.slots_allowed:
        yield Finding(
            Severity.BLOCKING,
            Topic.SERVER,
            f"All {facts.slots_allowed} replication slots of the server are taken, and there is none of ours.",
            "Then restart the server. Or drop a slot that nobody reads.",
            statements=(_raised("max_replication_slots", facts.slots_allowed),),
        )
    if facts.senders_used >= facts.senders_allowed:
        yield Finding(
            Severity.BLOCKING,
            Topic.SERVER,
            f"All {facts.senders_allowed} processes that send the server's log are taken.",
            "Then restart the server. Or end one that nobody needs.",
            statements=(_raised("max_wal_senders", facts.senders_allowed),),
        )


def _writers(facts: ReplicationFacts) -> Iterator[Finding]:
    """Whose end a sync waits for, before its first row and whenever a chunk is new in the publication."""
    long = [one for one in facts.writers if (one.seconds or 0.0) >= LONG_SECONDS]
    if long:
        yield Finding(
            Severity.WARNING,
            Topic.SERVER,
            f"A sync waits until transactions have ended that have written something, and some are open for long: "
            f"{named(long)}.",
            END_WRITERS,
        )


def _raised(setting: LiteralString, now: int) -> Statement:
    name = sql.SQL(setting)
    return Statement.of(
        sql.SQL("ALTER SYSTEM SET {} = {}").format(name, max(now * 2, now + MORE_AT_LEAST)), restart=True
    )


def _rights(server: ServerFacts, facts: ReplicationFacts) -> Iterator[Finding]:
    role = sql.Identifier(server.role)
    if not facts.may_replicate:
        yield Finding(
            Severity.BLOCKING,
            Topic.RIGHTS,
            f"The role {server.role} may not replicate.",
            f"(On Amazon RDS: GRANT rds_replication TO {role.as_string(None)};)",
            statements=(Statement.of(sql.SQL("ALTER ROLE {} REPLICATION").format(role)),),
        )
    if not facts.may_make_temporary:
        yield Finding(
            Severity.WARNING,
            Topic.RIGHTS,
            f"The role {server.role} may make no temporary tables, which the start of change data capture does to be "
            "safe from chunks that are born meanwhile; it makes a large object instead, where it may.",
            statements=(grant("TEMPORARY ON DATABASE", [server.database], server.role),),
        )


def _settings(aim: Aim) -> Iterator[Finding]:
    if not aim.settings.chunk_by_chunk:
        yield Finding(
            Severity.BLOCKING,
            Topic.CONFIGURATION,
            "Changes cannot be followed while hypertables are read in one query (timescaledb.chunk_by_chunk is off).",
            "Turn timescaledb.chunk_by_chunk on, or choose the update method Standard.",
            settings={"timescaledb.chunk_by_chunk": True},
        )
    if aim.settings.replica_host is not None:
        yield Finding(
            Severity.BLOCKING,
            Topic.CONFIGURATION,
            "Slices cannot be read from a replica while changes are followed: its snapshots do not tell which "
            "transactions they see.",
            "Remove timescaledb.replica_host, or choose the update method Standard.",
            settings={"timescaledb.replica_host": None, "timescaledb.replica_port": None},
        )


def _guarded(aim: Aim) -> Iterator[Finding]:
    """What would show more than the role may see; a sync refuses the stream itself."""
    guarded = [relation for relation in aim.followable if relation.guarded]
    if not guarded or aim.chosen:
        return
    errors = [guard_error(relation, aim.server.role) for relation in guarded]
    statements = dict.fromkeys(one for error in errors if error is not None for one in error.statements)
    yield Finding(
        Severity.WARNING,
        Topic.RIGHTS,
        "The log knows neither row-level security nor column privileges: "
        f"{listed([relation.name for relation in guarded])} cannot be followed.",
        "Or choose full refresh for them.",
        statements=tuple(statements),
        choice=True,
    )


def _aggregates(aim: Aim, facts: ReplicationFacts) -> Iterator[Finding]:
    """What is not followed though it could be, and what the publication breaks."""
    broken = {one.view for one in facts.unrefreshable}
    if facts.publication is not None and broken:
        yield Finding(
            Severity.WARNING,
            Topic.IDENTITY,
            f"The publication {facts.publication.name} makes the refresh of continuous aggregates fail, because what "
            f"holds their rows has no usable replica identity: {listed(sorted(broken))}.",
            statements=tuple(identification(one.table) for one in facts.unrefreshable),
        )
    yield from _unfollowed([one for one in aim.relations if one.name not in broken])


def _unfollowed(relations: Sequence[Relation]) -> Iterator[Finding]:
    for relation in relations:
        obstacle = relation.aggregate.obstacle if relation.aggregate is not None else None
        if obstacle is not None:
            yield Finding(
                Severity.WARNING,
                Topic.IDENTITY,
                f"The continuous aggregate {relation.name} is read without its changes: {obstacle.reason} To follow "
                "them:",
                obstacle.remedy,
                statements=obstacle.statements,
                choice=True,
            )
