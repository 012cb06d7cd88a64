"""From facts to findings: everything that stands in the way at once, each with the SQL or setting that mends it.

Pure: the facts come from the registry and from `health.probes`. `check` fails on what blocks and logs the rest, so
that nobody mends one grant only to hear of the next; `doctor` shows all of it, and judges a catalog and a state too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from source_timescaledb.config.selection import HypertableSelection
from source_timescaledb.config.timescaledb import TieredChunks
from source_timescaledb.health.facts import Aim, ReplicationFacts
from source_timescaledb.health.finding import Finding, Severity, Topic, ordered
from source_timescaledb.health.replication import replication_findings
from source_timescaledb.health.standing import standing_findings
from source_timescaledb.hypertables.catalog import OLDEST_SUPPORTED
from source_timescaledb.hypertables.model import QualifiedName, Registry, Relation, RelationKind
from source_timescaledb.hypertables.naming import listed, quoted
from source_timescaledb.remedy import Statement, grant
from source_timescaledb.state.codec import FollowedStates

OLDEST_POSTGRESQL: Final = 14
_ALL: Final = HypertableSelection()


@dataclass(frozen=True, slots=True)
class Probes:
    """Facts that the registry does not hold."""

    closed_schemas: tuple[str, ...] = ()
    """Schemas of TimescaleDB's own, or of chunks, that the role has no USAGE on."""
    unmeasured: tuple[QualifiedName, ...] = ()
    """Hypertables with chunks that the server has no statistics of."""
    replication: ReplicationFacts | None = None
    """What change data capture needs to know; None where nothing is followed."""


def diagnose(
    registry: Registry,
    offered: Sequence[Relation],
    probes: Probes,
    aim: Aim | None = None,
    before: FollowedStates | None = None,
    *,
    chosen: bool = False,
    hypertables: HypertableSelection = _ALL,
    tiered_chunks: TieredChunks = TieredChunks.SKIP,
) -> list[Finding]:
    """Every finding, what blocks first.

    `offered` are the relations that can be streams, or, if `chosen`, those that are; `aim` is what is to be followed, if
    anything is, and `before` the state from which.
    """
    findings = [
        *_server(registry),
        *_schemas(registry),
        *_patterns(registry, hypertables),
        *_extension(registry, probes),
        *_relations(registry, offered, chosen=chosen),
        *_tiered(offered, tiered_chunks, following=aim is not None),
        *_statistics(probes),
    ]
    if aim is not None and probes.replication is not None:
        findings += replication_findings(aim, probes.replication)
        findings += standing_findings(aim, probes.replication, before)
    return ordered(findings)


def _server(registry: Registry) -> Iterator[Finding]:
    server = registry.server
    major = server.version_number // 10_000
    if major < OLDEST_POSTGRESQL:
        yield Finding(
            Severity.BLOCKING,
            Topic.SERVER,
            f"The server runs PostgreSQL {major}, and this connector needs {OLDEST_POSTGRESQL} or newer.",
            "Upgrade the server.",
        )
    if server.encoding == "SQL_ASCII":
        yield Finding(
            Severity.WARNING,
            Topic.SERVER,
            "The database has the encoding SQL_ASCII: it may hold text that is not UTF-8, and a sync stops there.",
            "Convert the database to UTF8.",
        )


def _schemas(registry: Registry) -> Iterator[Finding]:
    role = registry.server.role
    if registry.missing_schemas:
        yield Finding(
            Severity.BLOCKING,
            Topic.CONFIGURATION,
            f"These schemas do not exist in the database: {quoted(registry.missing_schemas)}.",
            "Correct the setting schemas; names are case sensitive.",
        )
    if registry.unusable_schemas:
        yield Finding(
            Severity.BLOCKING,
            Topic.RIGHTS,
            f"The role {role} may not use these schemas: {quoted(registry.unusable_schemas)}.",
            statements=tuple(
                grant("USAGE ON SCHEMA", [schema], role) for schema in registry.unusable_schemas
            ),
        )


def _patterns(registry: Registry, hypertables: HypertableSelection) -> Iterator[Finding]:
    """Patterns that choose nothing; of what the role may not read only the name is known, so it may be a hypertable."""
    readable = (one.name for one in registry.relations.values() if one.kind is RelationKind.HYPERTABLE)
    idle = hypertables.idle([*readable, *registry.forbidden])
    if idle.include:
        yield Finding(
            Severity.WARNING,
            Topic.CONFIGURATION,
            f"No hypertable matches these patterns of timescaledb.include_hypertables: {listed(idle.include)}.",
            "Correct or remove them; names are case sensitive, and tables that are no hypertables need no pattern.",
        )
    if idle.exclude:
        yield Finding(
            Severity.NOTE,
            Topic.CONFIGURATION,
            f"No hypertable matches these patterns of timescaledb.exclude_hypertables: {listed(idle.exclude)}.",
            "Correct them, unless such hypertables are to come.",
        )


def _extension(registry: Registry, probes: Probes) -> Iterator[Finding]:
    extension, role = registry.server.extension, registry.server.role
    if extension is None:
        yield Finding(
            Severity.WARNING,
            Topic.EXTENSION,
            "The database has no TimescaleDB extension: it is read as plain PostgreSQL.",
            "Run that if it should have one.",
            statements=(Statement("CREATE EXTENSION timescaledb;", unless=_HAS_EXTENSION),),
            choice=True,
        )
    elif extension < OLDEST_SUPPORTED:
        yield Finding(
            Severity.BLOCKING,
            Topic.EXTENSION,
            f"The database has TimescaleDB {extension}, and this connector needs {OLDEST_SUPPORTED} or newer.",
            "Run that as the first statement of a session.",
            statements=(Statement("ALTER EXTENSION timescaledb UPDATE;"),),
        )
    elif registry.server.license == "apache":
        yield Finding(
            Severity.NOTE,
            Topic.EXTENSION,
            "TimescaleDB is the Apache edition here: it has no compression and no continuous aggregates, so "
            "there are none to read.",
        )
    if probes.closed_schemas:
        yield Finding(
            Severity.BLOCKING,
            Topic.RIGHTS,
            f"The role {role} may not use the schemas that hold chunks and the catalog: "
            f"{', '.join(probes.closed_schemas)}.",
            statements=tuple(grant("USAGE ON SCHEMA", [schema], role) for schema in probes.closed_schemas),
        )


_HAS_EXTENSION: Final = "EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"


def _relations(registry: Registry, offered: Sequence[Relation], *, chosen: bool) -> Iterator[Finding]:
    """Where streams are chosen, one that may not be read is an error of its own (`airbyte.catalog`)."""
    role, forbidden = registry.server.role, registry.forbidden
    if forbidden and not chosen:
        yield Finding(
            Severity.WARNING if offered else Severity.BLOCKING,
            Topic.RIGHTS,
            f"The role {role} may not read {listed(forbidden)}.",
            statements=tuple(grant("SELECT ON", name, role) for name in forbidden),
            choice=bool(offered),
        )
    elif not offered and not chosen:
        yield Finding(
            Severity.BLOCKING,
            Topic.STREAMS,
            "There is nothing to read: the chosen schemas hold no table, hypertable or view.",
            "Correct the setting schemas, or the patterns of hypertables.",
        )


def _tiered(
    offered: Sequence[Relation], tiered_chunks: TieredChunks, *, following: bool
) -> Iterator[Finding]:
    names = [relation.name for relation in offered if relation.tiered]
    if not names:
        return
    if tiered_chunks is TieredChunks.SKIP:
        yield Finding(
            Severity.WARNING,
            Topic.STREAMS,
            f"Rows in tiered storage are not read: {listed(names)} have some.",
            "Set timescaledb.tiered_chunks to read to read them too.",
        )
    elif following:
        yield Finding(
            Severity.WARNING,
            Topic.STREAMS,
            f"Rows in tiered storage are in no log: those of {listed(names)} are read once, at the end of the first "
            "load.",
        )


def _statistics(probes: Probes) -> Iterator[Finding]:
    if probes.unmeasured:
        yield Finding(
            Severity.NOTE,
            Topic.STATISTICS,
            f"The server has no statistics of some chunks of {listed(probes.unmeasured)}: how many rows are to be read "
            "cannot be estimated.",
            statements=tuple(
                Statement.of(sql.SQL("ANALYZE {}").format(sql.Identifier(*name)))
                for name in probes.unmeasured
            ),
            choice=True,
        )
