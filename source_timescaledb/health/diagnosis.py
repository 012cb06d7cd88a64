"""From facts to findings: everything that stands in the way at once, each with the SQL or setting that mends it.

Pure: the facts come from the registry and from `health.probes`. `check` fails on what blocks and logs the rest, so
that nobody mends one grant only to hear of the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from source_timescaledb.config.model import Configuration
from source_timescaledb.config.timescaledb import TieredChunks
from source_timescaledb.health.finding import Finding, Severity
from source_timescaledb.health.replication import ReplicationFacts, replication_findings
from source_timescaledb.hypertables.catalog import OLDEST_SUPPORTED
from source_timescaledb.hypertables.model import QualifiedName, Registry, Relation

OLDEST_POSTGRESQL: Final = 14
_LISTED_AT_MOST: Final = 20


@dataclass(frozen=True, slots=True)
class Probes:
    """Facts that the registry does not hold."""

    closed_schemas: tuple[str, ...] = ()
    """Schemas of TimescaleDB's own, or of chunks, that the role has no USAGE on."""
    replication: ReplicationFacts | None = None
    """What change data capture needs to know; None where it is not configured."""


def diagnose(
    configuration: Configuration, registry: Registry, offered: Iterable[Relation], probes: Probes
) -> list[Finding]:
    """Every finding, what blocks first."""
    readable = list(offered)
    findings = [
        *_server(registry),
        *_schemas(registry),
        *_extension(registry, probes),
        *_relations(registry, readable),
        *_tiered(configuration, readable),
    ]
    if configuration.cdc is not None and probes.replication is not None:
        settings, server = configuration.timescaledb, registry.server
        findings += replication_findings(configuration.cdc, settings, server, readable, probes.replication)
    return sorted(findings, key=lambda finding: finding.severity is not Severity.BLOCKING)


def _server(registry: Registry) -> Iterator[Finding]:
    server = registry.server
    major = server.version_number // 10_000
    if major < OLDEST_POSTGRESQL:
        yield Finding(
            Severity.BLOCKING,
            f"The server runs PostgreSQL {major}, and this connector needs {OLDEST_POSTGRESQL} or newer.",
            "Upgrade the server.",
        )
    if server.encoding == "SQL_ASCII":
        yield Finding(
            Severity.WARNING,
            "The database has the encoding SQL_ASCII: it may hold text that is not UTF-8, and a sync stops there.",
            "Convert the database to UTF8.",
        )


def _schemas(registry: Registry) -> Iterator[Finding]:
    role = registry.server.role
    if registry.missing_schemas:
        yield Finding(
            Severity.BLOCKING,
            f"These schemas do not exist in the database: {', '.join(registry.missing_schemas)}.",
            "Correct the setting schemas; names are case sensitive.",
        )
    if registry.unusable_schemas:
        yield Finding(
            Severity.BLOCKING,
            f"The role {role} may not use these schemas: {', '.join(registry.unusable_schemas)}.",
            " ".join(_grant("USAGE ON SCHEMA", [schema], role) for schema in registry.unusable_schemas),
        )


def _extension(registry: Registry, probes: Probes) -> Iterator[Finding]:
    extension, role = registry.server.extension, registry.server.role
    if extension is None:
        yield Finding(
            Severity.WARNING,
            "The database has no TimescaleDB extension: it is read as plain PostgreSQL.",
            "If it should have one, run CREATE EXTENSION timescaledb in this database.",
        )
    elif extension < OLDEST_SUPPORTED:
        yield Finding(
            Severity.BLOCKING,
            f"The database has TimescaleDB {extension}, and this connector needs {OLDEST_SUPPORTED} or newer.",
            "Run ALTER EXTENSION timescaledb UPDATE.",
        )
    if probes.closed_schemas:
        yield Finding(
            Severity.BLOCKING,
            f"The role {role} may not use the schemas that hold chunks and the catalog: "
            f"{', '.join(probes.closed_schemas)}.",
            " ".join(_grant("USAGE ON SCHEMA", [schema], role) for schema in probes.closed_schemas),
        )


def _relations(registry: Registry, offered: list[Relation]) -> Iterator[Finding]:
    role, forbidden = registry.server.role, registry.forbidden
    if forbidden:
        shown = forbidden[:_LISTED_AT_MOST]
        more = f" and {len(forbidden) - len(shown)} more" if len(forbidden) > len(shown) else ""
        yield Finding(
            Severity.WARNING if offered else Severity.BLOCKING,
            f"The role {role} may not read {', '.join(map(str, shown))}{more}.",
            " ".join(_grant("SELECT ON", name, role) for name in shown),
        )
    elif not offered:
        yield Finding(
            Severity.BLOCKING,
            "There is nothing to read: the chosen schemas hold no table, hypertable or view.",
            "Correct the setting schemas, or the patterns of hypertables.",
        )


def _tiered(configuration: Configuration, offered: list[Relation]) -> Iterator[Finding]:
    names = [str(relation.name) for relation in offered if relation.tiered]
    if not names:
        return
    shown = ", ".join(names[:_LISTED_AT_MOST])
    more = f" and {len(names) - _LISTED_AT_MOST} more" if len(names) > _LISTED_AT_MOST else ""
    if configuration.timescaledb.tiered_chunks is TieredChunks.SKIP:
        yield Finding(
            Severity.WARNING,
            f"Rows in tiered storage are not read: {shown}{more} have some.",
            "Set timescaledb.tiered_chunks to read to read them too.",
        )
    elif configuration.cdc is not None:
        yield Finding(
            Severity.WARNING,
            f"Rows in tiered storage are in no log: those of {shown}{more} are read once, at the end of the first load.",
        )


def _grant(what: str, name: Iterable[str] | QualifiedName, role: str) -> str:
    return f"GRANT {what} {sql.Identifier(*name).as_string(None)} TO {sql.Identifier(role).as_string(None)};"
