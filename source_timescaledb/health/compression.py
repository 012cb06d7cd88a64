"""What compression hides from the log, or shows in it that is no change, with the SQL that mends each.

A setting that only a session has cannot be seen from another; the audit (`cdc.ledger`) finds what it did to hypertables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg import sql

from source_timescaledb.cdc.compressing import (
    DIRECT_COMPRESS,
    DIRECT_DELETE,
    DIRECT_REFRESH,
    EARLY_MARKERS,
    MARKERS,
    Compressing,
    is_on,
)
from source_timescaledb.health.finding import Finding, Severity, Topic
from source_timescaledb.hypertables.model import ServerFacts
from source_timescaledb.hypertables.naming import listed
from source_timescaledb.remedy import Statement


def compression_findings(server: ServerFacts, compressing: Compressing) -> Iterator[Finding]:
    """What stands in the way of following compressed hypertables; the Apache edition does not compress."""
    yield from _unmarked(server, compressing)
    if compressing.hypertables:
        yield from _direct_delete(server, compressing)
    if compressing.keyless:
        yield from _direct_compress(server, compressing)
    if compressing.aggregates:
        yield from _refreshes(server, compressing)


def _unmarked(server: ServerFacts, compressing: Compressing) -> Iterator[Finding]:
    """Why the log of a server does not tell its own moves of rows from changes."""
    settings = compressing.settings
    if settings is None or is_on(settings.get(MARKERS, "off")):
        return
    severity = Severity.BLOCKING if compressing.used else Severity.WARNING
    later = "" if compressing.used else " No followed hypertable has compression yet."
    what = "would delete living rows downstream and repeat others"
    if MARKERS in settings:
        yield Finding(
            severity,
            Topic.COMPRESSION,
            f"The server does not mark what compression and decompression move ({MARKERS} is off): they {what}.{later}",
            statements=(
                Statement.of(sql.SQL("ALTER SYSTEM SET {} = on").format(_setting(MARKERS))),
                Statement("SELECT pg_reload_conf();"),
            ),
        )
        return
    partly = (
        " marks only what an UPDATE or DELETE decompresses" if EARLY_MARKERS in settings else " marks nothing"
    )
    yield Finding(
        severity,
        Topic.COMPRESSION,
        f"TimescaleDB {server.extension}{partly} in the log: compression and decompression {what}.{later}",
        f"Upgrade TimescaleDB to 2.16 or newer, with {MARKERS} on, as it is by default.",
    )


def _direct_delete(server: ServerFacts, compressing: Compressing) -> Iterator[Finding]:
    statements = _remedies(server, compressing, [DIRECT_DELETE])
    if statements:
        yield Finding(
            Severity.WARNING,
            Topic.UNSEEN,
            f"A DELETE of whole compressed batches leaves no trace in the log ({DIRECT_DELETE} is on): of "
            f"{listed(compressing.hypertables)} such rows stay downstream, and an audit names only their chunk.",
            statements=statements,
        )


def _direct_compress(server: ServerFacts, compressing: Compressing) -> Iterator[Finding]:
    names = [name for name in DIRECT_COMPRESS if _somewhere(compressing, name)]
    if names:
        yield Finding(
            Severity.WARNING,
            Topic.UNSEEN,
            f"Rows that are written compressed are not in the log ({', '.join(names)}): of "
            f"{listed(compressing.keyless)} an audit finds them at the end of a sync.",
            statements=_remedies(server, compressing, names),
        )
    if compressing.directly:
        statement = sql.SQL("ALTER TABLE {} SET (timescaledb.direct_compress = false)")
        yield Finding(
            Severity.WARNING,
            Topic.UNSEEN,
            f"Rows that are written compressed are not in the log: {listed(compressing.directly)} have the option "
            "timescaledb.direct_compress; an audit finds them at the end of a sync.",
            statements=tuple(
                Statement.of(statement.format(sql.Identifier(*name))) for name in compressing.directly
            ),
        )


def _refreshes(server: ServerFacts, compressing: Compressing) -> Iterator[Finding]:
    names = [
        name for name in (DIRECT_DELETE, *DIRECT_COMPRESS, DIRECT_REFRESH) if _somewhere(compressing, name)
    ]
    if names:
        yield Finding(
            Severity.WARNING,
            Topic.UNSEEN,
            "The refresh of a compressed continuous aggregate leaves no trace in the log of the batches that it deletes "
            f"or writes whole ({', '.join(names)}): of {listed(compressing.aggregates)} buckets that vanish so stay "
            "downstream, those that come so are missing, and no audit finds them.",
            statements=_remedies(server, compressing, names),
        )


def _somewhere(compressing: Compressing, name: str) -> bool:
    settings = compressing.settings or {}
    return is_on(settings.get(name, "off")) or any(
        one.setting == name and one.on for one in compressing.overrides
    )


def _remedies(server: ServerFacts, compressing: Compressing, names: Sequence[str]) -> tuple[Statement, ...]:
    """What turns settings off for all sessions that begin from now on; nothing where they are off."""
    settings = compressing.settings or {}
    database = sql.Identifier(server.database)
    everywhere = sql.SQL("ALTER DATABASE {} SET {} = off")
    statements = [
        Statement.of(everywhere.format(database, _setting(name)))
        for name in names
        if is_on(settings.get(name, "off"))
    ]
    for one in compressing.overrides:
        if one.setting in names and one.on:
            place = sql.SQL(" IN DATABASE {}").format(database) if one.here else sql.SQL("")
            statement = sql.SQL("ALTER ROLE {}{} SET {} = off")
            role = sql.Identifier(one.role or "")
            statements.append(Statement.of(statement.format(role, place, _setting(one.setting))))
    return tuple(statements)


def _setting(name: str) -> sql.SQL:
    """One of the settings that `cdc.compressing` names; none of them needs quotes."""
    return sql.SQL(name)
