"""What must hold before changes can be followed, found out and, as far as the settings allow, brought about.

Publication first, then the slot: a slot that is older than its publication fails at the first change it decodes. What
is missing is an error that says what to run. What may be added without asking (`manage_publication: chunks`) is only what
nobody would miss: chunks of hypertables that the publication lists already, which TimescaleDB does not add by itself.

A relation under row-level security is not followed: the write-ahead log knows no policies, so its rows would reach the
destination whatever the role may see.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Final

from psycopg import sql

from source_timescaledb.cdc.aggregates import check_identified
from source_timescaledb.cdc.compressing import read_compressing, unmarked
from source_timescaledb.cdc.followed import FollowedStream
from source_timescaledb.config.replication import Cdc
from source_timescaledb.config.timescaledb import ManagePublication
from source_timescaledb.errors import ConfigurationError, ConnectorError
from source_timescaledb.hypertables.model import QualifiedName, Relation, RelationKind, ServerFacts
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.postgres.publication import (
    Publication,
    add_tables,
    addition,
    create_publication,
    missing_chunks,
    published,
    publishing,
    read_publication,
)
from source_timescaledb.postgres.slot import create_slot, read_slot, slot_problems
from source_timescaledb.postgres.timeline import WalPoint, identify, read_forks, server_problems

_TABLES: Final = frozenset({RelationKind.TABLE, RelationKind.HYPERTABLE, RelationKind.PARTITIONED_TABLE})
NAMES_SHOWN: Final = 10

_NOT_SENT: Final = """
SELECT a.attname::text FROM pg_catalog.pg_attribute a, pg_catalog.pg_publication p
 WHERE p.pubname = %s AND a.attrelid = %s::int8::oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''
   AND NOT (a.attgenerated = 's' AND coalesce(to_jsonb(p) ->> 'pubgencols', 'n') = 's')
 ORDER BY a.attnum
"""

Warn = Callable[[str], None]


def check_server(connection: Connection, server: ServerFacts) -> None:
    """Refuse a server that cannot decode its log for us.

    Raises ConfigurationError, and psycopg errors as they come.
    """
    row = connection.execute("SHOW wal_level").fetchone()
    if row is None or row[0] != "logical":
        raise ConfigurationError(
            f"The server's wal_level is {row[0] if row else 'unknown'}; to follow changes it must be logical.",
            remedy="ALTER SYSTEM SET wal_level = 'logical'; and restart the server.",
        )
    if server.in_recovery:
        raise ConfigurationError(
            "The server is a standby: changes are followed on the primary.",
            remedy="Connect to the primary; timescaledb.replica_host lets the rows be read from the standby.",
        )


def is_followable(relation: Relation) -> bool:
    """Whether it has changes in the log: a table, or a continuous aggregate that is prepared (`cdc.aggregates`)."""
    return relation.kind in _TABLES or (relation.aggregate is not None and relation.aggregate.followed)


def check_markers(
    connection: Connection, server: ServerFacts, relations: Sequence[Relation], warn: Warn
) -> frozenset[QualifiedName]:
    """Refuse compressed relations whose moves of rows the log does not mark; warn where one may become compressed.

    Returns the hypertables, not the continuous aggregates, that may have compressed chunks.

    Raises ConfigurationError, and psycopg errors as they come.
    """
    compressing = read_compressing(connection, server, relations)
    problem = unmarked(server, compressing)
    if problem is not None and compressing.used:
        raise problem
    if problem is not None and any(relation.hypertable is not None for relation in relations):
        warn(f"{problem.sentence} No followed hypertable has compression yet.")
    return frozenset(compressing.hypertables)


def check_followable(relation: Relation) -> None:
    """Refuse a relation whose changes would show more than the role may see. Raises ConfigurationError."""
    if not relation.guarded:
        return
    reason = (
        "is under row-level security"
        if relation.selectable
        else "is readable for the role in some columns only"
    )
    raise ConfigurationError(
        f"{relation.name} {reason}, which the write-ahead log does not know: its changes cannot be followed.",
        remedy="Choose full refresh for it, or let a role read it that may see all of it.",
    )


def check_sent(connection: Connection, publication: str, streams: Sequence[FollowedStream]) -> None:
    """Refuse columns whose values the server computes and does not send: their changes would read as null.

    PostgreSQL 18 sends stored ones where the publication says so. Raises ConfigurationError.
    """
    for followed in streams:
        rows = connection.execute(_NOT_SENT, [publication, followed.relation.oid]).fetchall()
        selected = {column.name for column in followed.columns}
        if unsent := [name for (name,) in rows if name in selected]:
            raise ConfigurationError(
                f"Columns of {followed.name} are generated, and the server does not send their values with changes: "
                f"{', '.join(unsent)}.",
                remedy="Deselect them in the connection. From PostgreSQL 18 on, stored ones are sent after ALTER "
                f"PUBLICATION {sql.Identifier(publication).as_string(None)} SET (publish_generated_columns = stored).",
            )


def prepare_publication(
    connection: Connection, cdc: Cdc, manage: ManagePublication, relations: Sequence[Relation], warn: Warn
) -> Publication:
    """The publication, with everything in it that the relations need.

    `connection` is a writing one. Raises ConnectorError, and psycopg errors as they come.
    """
    publication = read_publication(connection, cdc.publication)
    if publication is None:
        publication = _made(connection, cdc, manage, relations)
    _check_operations(publication, warn)
    _check_restrictions(publication, relations, warn)
    _check_listed(connection, publication, manage, relations)
    return publication


def publish_chunks(
    connection: Connection,
    publication: Publication,
    manage: ManagePublication,
    relations: Sequence[Relation],
    begun: Container[int] = (),
) -> int:
    """Add the chunks that are not published, as far as that may be done; how many they were.

    Raises ConfigurationError if it may not, or one of them is among those that have `begun`, and psycopg errors as they
    come.
    """
    hypertables = {
        relation.hypertable.oid: relation for relation in relations if relation.hypertable is not None
    }
    missing = missing_chunks(connection, publication, hypertables) if hypertables else []
    if not missing:
        return 0
    if left := [chunk for chunk in missing if chunk.oid in begun]:
        streams = sorted({hypertables[chunk.hypertable].name for chunk in left})
        raise ConfigurationError(
            f"{len(left)} chunks left the publication {publication.name} after they were followed there: "
            f"{_listed([chunk.name for chunk in left])}. What was written to them meanwhile is not sent.",
            remedy=f"Refresh {_listed(streams)}.",
        )
    check_identified(connection, relations)
    names = [chunk.name for chunk in missing]
    if manage is ManagePublication.OFF:
        raise ConfigurationError(
            f"{len(names)} chunks are not in the publication {publication.name}, so their changes would be lost: "
            f"{_listed(names)}.",
            remedy=f"{addition(publication.name, names)} Or set timescaledb.manage_publication to chunks.",
        )
    add_tables(connection, publication.name, names)
    return len(names)


def prepare_slot(
    replication: Connection,
    watching: Connection,
    cdc: Cdc,
    manage: ManagePublication,
    kept: WalPoint | None,
    *,
    seconds: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> WalPoint:
    """Prove that the slot can be read from where the state stands; make one, where that is allowed and nothing is kept.

    Returns where the server stands; `seconds` is how long open writers are waited for. Raises ConnectorError, and psycopg
    errors as they come.
    """
    if kept is not None:
        return check_slot(replication, cdc.replication_slot, kept)
    if manage is ManagePublication.FULL and read_slot(watching, cdc.replication_slot) is None:
        create_slot(
            replication,
            watching,
            cdc.replication_slot,
            seconds=seconds,
            clock=clock,
            sleep=sleep,
        )
    return check_slot(replication, cdc.replication_slot, None)


def check_slot(replication: Connection, name: str, kept: WalPoint | None) -> WalPoint:
    """Prove that the server goes on where `kept` stands and that a slot can be read from there.

    Returns where the server stands. Raises ConnectorError, and psycopg errors as they come.
    """
    here = identify(replication)
    if kept is not None:
        moved = here.timeline != kept.timeline
        forks = read_forks(replication, here.timeline) if moved else []
        _raise_first(server_problems(here, kept, forks))
    slot = read_slot(replication, name)
    _raise_first(slot_problems(name, slot, replication.info.dbname, kept, timeline=here.timeline))
    return here


def _raise_first(problems: Sequence[ConnectorError]) -> None:
    if problems:
        raise problems[0]


def _made(
    connection: Connection, cdc: Cdc, manage: ManagePublication, relations: Sequence[Relation]
) -> Publication:
    if manage is not ManagePublication.FULL:
        tables = sql.SQL(", ").join(
            sql.SQL("ONLY {}" if relation.tiered else "{}").format(sql.Identifier(*relation.table))
            for relation in relations
        )
        statement = sql.SQL("CREATE PUBLICATION {} FOR TABLE {};").format(
            sql.Identifier(cdc.publication), tables
        )
        raise ConfigurationError(
            f"There is no publication {cdc.publication}.",
            remedy=f"Run as the tables' owner: {statement.as_string(None)} Or set timescaledb.manage_publication to "
            "full.",
        )
    create_publication(
        connection, cdc.publication, [(relation.table_oid, relation.table) for relation in relations]
    )
    made = read_publication(connection, cdc.publication)
    assert made is not None
    return made


def _check_operations(publication: Publication, warn: Warn) -> None:
    if not publication.inserts:
        raise ConfigurationError(
            f"The publication {publication.name} does not publish inserts.",
            remedy=publishing(publication.name),
        )
    left_out = [
        word
        for word, there in (("updates", publication.updates), ("deletes", publication.deletes))
        if not there
    ]
    if left_out:
        warn(
            f"The publication {publication.name} does not publish {' and '.join(left_out)}: a destination will not see "
            f"them. {publishing(publication.name)}"
        )


def _check_restrictions(publication: Publication, relations: Sequence[Relation], warn: Warn) -> None:
    followed = {relation.table for relation in relations}
    narrowed = [name for name in publication.narrowed if name in followed]
    if narrowed:
        raise ConfigurationError(
            f"The publication {publication.name} publishes only some columns of {_listed(narrowed)}: the others would "
            "read as null.",
            remedy="Publish whole tables: ALTER PUBLICATION ... DROP TABLE, then ADD TABLE without a list of columns.",
        )
    filtered = [name for name in publication.filtered if name in followed]
    if filtered:
        warn(
            f"The publication {publication.name} publishes only the rows of {_listed(filtered)} that pass its filter; "
            "the first load reads all of them."
        )


def _check_listed(
    connection: Connection, publication: Publication, manage: ManagePublication, relations: Sequence[Relation]
) -> None:
    listed = published(connection, publication, [relation.table_oid for relation in relations])
    unlisted = [relation for relation in relations if relation.table_oid not in listed]
    uncovered = [relation for relation in unlisted if not _covered(connection, publication, relation)]
    if not uncovered:
        return
    names = [relation.table for relation in uncovered]
    tiered = {relation.table for relation in uncovered if relation.tiered}
    if manage is ManagePublication.FULL:
        check_identified(connection, uncovered)
        add_tables(connection, publication.name, names)
        return
    raise ConfigurationError(
        f"The publication {publication.name} does not list {_listed(names)}.",
        remedy=f"Run as its owner: {addition(publication.name, names, whole=True, tiered=tiered)} Or set "
        "timescaledb.manage_publication to full.",
    )


def _covered(connection: Connection, publication: Publication, relation: Relation) -> bool:
    """Whether all chunks of a hypertable that is not listed itself are published, as with their whole schema."""
    hypertable = relation.hypertable
    if hypertable is None or not publication.schemas:
        return False
    return not missing_chunks(connection, publication, [hypertable.oid])


def _listed(names: Sequence[QualifiedName]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(map(str, names[:NAMES_SHOWN])) + more
