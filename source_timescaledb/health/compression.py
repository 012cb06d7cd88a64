"""What compression hides from the log, or shows in it that is no change, with the SQL that mends each.

A setting that only a session has cannot be seen from another; the audit (`cdc.ledger`) finds what it did to hypertables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from psycopg import sql

from source_timescaledb.cdc.compressing import (
    DIRECT_COMPRESS,
    DIRECT_DELETE,
    DIRECT_REFRESH,
    Compressing,
    is_on,
    unmarked,
)
from source_timescaledb.health.finding import Finding, Severity
from source_timescaledb.hypertables.model import QualifiedName, ServerFacts

NAMES_SHOWN: Final = 10


def compression_findings(server: ServerFacts, compressing: Compressing) -> Iterator[Finding]:
    """What stands in the way of following compressed hypertables; the Apache edition does not compress."""
    problem = unmarked(server, compressing)
    if problem is not None:
        yield Finding(
            Severity.BLOCKING if compressing.used else Severity.WARNING,
            problem.message + ("" if compressing.used else " No followed hypertable has compression yet."),
            problem.remedy,
        )
    if compressing.hypertables:
        yield from _direct_delete(server, compressing)
    if compressing.keyless:
        yield from _direct_compress(server, compressing)
    if compressing.aggregates:
        yield from _refreshes(server, compressing)


def _direct_delete(server: ServerFacts, compressing: Compressing) -> Iterator[Finding]:
    remedies = _remedies(server, compressing, [DIRECT_DELETE])
    if remedies:
        yield Finding(
            Severity.WARNING,
            f"A DELETE of whole compressed batches leaves no trace in the log ({DIRECT_DELETE} is on): of "
            f"{_listed(compressing.hypertables)} such rows stay downstream, and an audit names only their chunk.",
            remedies,
        )


def _direct_compress(server: ServerFacts, compressing: Compressing) -> Iterator[Finding]:
    names = [name for name in DIRECT_COMPRESS if _somewhere(compressing, name)]
    if names:
        yield Finding(
            Severity.WARNING,
            f"Rows that are written compressed are not in the log ({', '.join(names)}): of "
            f"{_listed(compressing.keyless)} an audit finds them at the end of a sync.",
            _remedies(server, compressing, names),
        )
    if compressing.directly:
        yield Finding(
            Severity.WARNING,
            f"Rows that are written compressed are not in the log: {_listed(compressing.directly)} have the option "
            "timescaledb.direct_compress; an audit finds them at the end of a sync.",
            " ".join(
                f"ALTER TABLE {sql.Identifier(*name).as_string(None)} SET (timescaledb.direct_compress = false);"
                for name in compressing.directly[:NAMES_SHOWN]
            ),
        )


def _refreshes(server: ServerFacts, compressing: Compressing) -> Iterator[Finding]:
    names = [
        name for name in (DIRECT_DELETE, *DIRECT_COMPRESS, DIRECT_REFRESH) if _somewhere(compressing, name)
    ]
    if names:
        yield Finding(
            Severity.WARNING,
            "The refresh of a compressed continuous aggregate leaves no trace in the log of the batches that it deletes "
            f"or writes whole ({', '.join(names)}): of {_listed(compressing.aggregates)} buckets that vanish so stay "
            "downstream, those that come so are missing, and no audit finds them.",
            _remedies(server, compressing, names),
        )


def _somewhere(compressing: Compressing, name: str) -> bool:
    settings = compressing.settings or {}
    return is_on(settings.get(name, "off")) or any(
        one.setting == name and one.on for one in compressing.overrides
    )


def _remedies(server: ServerFacts, compressing: Compressing, names: Sequence[str]) -> str:
    """What turns settings off for all sessions that begin from now on; nothing where they are off."""
    settings = compressing.settings or {}
    database = sql.Identifier(server.database).as_string(None)
    statements = [
        f"ALTER DATABASE {database} SET {name} = off;" for name in names if is_on(settings.get(name, "off"))
    ]
    for one in compressing.overrides:
        if one.setting in names and one.on:
            role = sql.Identifier(one.role or "").as_string(None)
            place = f" IN DATABASE {database}" if one.here else ""
            statements.append(f"ALTER ROLE {role}{place} SET {one.setting} = off;")
    return " ".join(statements)


def _listed(names: Sequence[QualifiedName]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(map(str, names[:NAMES_SHOWN])) + more
