"""Asks the server for the facts a diagnosis needs beyond the registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import psycopg

from source_timescaledb.cdc.aggregates import unrefreshable
from source_timescaledb.cdc.compressing import read_compressing
from source_timescaledb.config.timescaledb import ManagePublication
from source_timescaledb.health.diagnosis import Probes
from source_timescaledb.health.facts import Aim, ReplicationFacts, Silent, Standing
from source_timescaledb.hypertables.model import QualifiedName, Relation, ServerFacts
from source_timescaledb.postgres.barrier import open_writers
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.postgres.identity import (
    ReplicaIdentity,
    identification,
    replica_identities,
    unsafe_identities,
)
from source_timescaledb.postgres.publication import (
    MissingChunk,
    Publication,
    PublicationMarks,
    missing_chunks,
    published,
    read_marks,
    read_publication,
)
from source_timescaledb.postgres.slot import read_slot
from source_timescaledb.postgres.timeline import identify, read_forks
from source_timescaledb.remedy import Statement

_CLOSED_SCHEMAS: Final = """
SELECT n.nspname::text FROM pg_namespace n
WHERE NOT has_schema_privilege(n.oid, 'USAGE')
  AND (n.nspname IN ('_timescaledb_catalog', '_timescaledb_internal', '_timescaledb_functions')
       OR n.nspname IN (SELECT associated_schema_name FROM _timescaledb_catalog.hypertable))
ORDER BY 1
"""

_REPLICATION: Final = """
SELECT current_setting('wal_level'),
       r.rolsuper OR r.rolreplication OR EXISTS (
         SELECT FROM pg_catalog.pg_roles AS cloud
          WHERE cloud.rolname IN ('rds_replication', 'azure_pg_admin') AND pg_has_role(r.oid, cloud.oid, 'MEMBER')),
       has_database_privilege(current_database(), 'TEMPORARY'),
       has_database_privilege(current_database(), 'CREATE'),
       (SELECT count(*)::int FROM pg_catalog.pg_replication_slots),
       current_setting('max_replication_slots')::int,
       (SELECT count(*)::int FROM pg_catalog.pg_stat_replication),
       current_setting('max_wal_senders')::int
  FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user
"""
"""Clouds let a role replicate by membership: Amazon's rds_replication, Azure's azure_pg_admin."""

_RETAINED: Final = """
SELECT greatest(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn), 0)::int8
  FROM pg_catalog.pg_replication_slots
 WHERE slot_name = %s AND restart_lsn IS NOT NULL AND NOT pg_is_in_recovery()
"""

_UNMEASURED: Final = """
SELECT DISTINCT i.inhparent::int8 FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = ANY(%s::int8[]::oid[]) AND c.relkind = 'r' AND c.reltuples < 0
"""
"""A table that was never analyzed has -1 rows since PostgreSQL 14."""

_UNOWNED: Final = """
SELECT c.oid::int8 FROM pg_catalog.pg_class c
 WHERE c.oid = ANY(%s::int8[]::oid[]) AND NOT pg_has_role(c.relowner, 'USAGE')
"""

_GENERATED: Final = """
SELECT a.attrelid::int8, array_agg(a.attname::text ORDER BY a.attnum)
  FROM pg_catalog.pg_attribute a, pg_catalog.pg_publication p
 WHERE p.oid = %s::int8::oid AND a.attrelid = ANY(%s::int8[]::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
   AND a.attgenerated <> '' AND NOT (a.attgenerated = 's' AND coalesce(to_jsonb(p) ->> 'pubgencols', 'n') = 's')
 GROUP BY 1
"""


def probe(
    connection: Connection,
    server: ServerFacts,
    offered: Sequence[Relation],
    aim: Aim | None,
    ask_standing: Callable[[], Standing] = Standing,
) -> Probes:
    """The facts as they are now; those of replication only where changes are to be followed.

    `ask_standing` opens a replication connection; it is not called where there can be none. Raises psycopg errors as they
    come.
    """
    hypertables = {one.table_oid: one.name for one in offered if one.hypertable is not None}
    unmeasured = connection.execute(_UNMEASURED, [list(hypertables)]).fetchall()
    return Probes(
        closed_schemas=_closed_schemas(connection, server),
        unmeasured=tuple(sorted(hypertables[oid] for (oid,) in unmeasured)),
        replication=None if aim is None else _whole(connection, aim, ask_standing),
    )


def read_standing(replication: Connection) -> Standing:
    """Where the log stands, asked on a replication connection. Raises psycopg errors as they come."""
    here = identify(replication)
    return Standing(here, tuple(read_forks(replication, here.timeline)))


def read_replication(connection: Connection, aim: Aim) -> ReplicationFacts:
    """What a sync has to know before it begins; what only others suffer from is not asked.

    Raises psycopg errors as they come.
    """
    row = connection.execute(_REPLICATION).fetchone()
    assert row is not None
    publication = read_publication(connection, aim.cdc.publication)
    followable = aim.followable
    listed, missing = _coverage(connection, publication, followable)
    unlisted = [relation for relation in followable if relation not in listed]
    return ReplicationFacts(
        wal_level=row[0],
        may_replicate=row[1],
        may_make_temporary=row[2],
        may_create=row[3],
        slots_used=row[4],
        slots_allowed=row[5],
        senders_used=row[6],
        senders_allowed=row[7],
        slot=read_slot(connection, aim.cdc.replication_slot),
        publication=publication,
        unlisted=tuple(relation.table for relation in unlisted) if publication is not None else (),
        unowned=_unowned(connection, unlisted),
        missing=tuple(missing),
        endangered=_endangered(connection, aim, publication, unlisted),
        silent=_silent(
            connection, publication, [*listed, *(unlisted if _to_be_published(aim, publication) else ())]
        ),
        unsent=_unsent(connection, publication, followable),
        compressing=read_compressing(
            connection, aim.server, listed if publication is not None and not aim.chosen else followable
        ),
    )


def read_relation_marks(
    connection: Connection, publication: str, relations: Iterable[Relation]
) -> PublicationMarks | None:
    """The marks of a publication as it is now, with the entries by the oids of relations; None where there is none.

    Raises psycopg errors as they come.
    """
    tables = {one.oid: one.table_oid for one in relations}
    found = read_marks(connection, publication, tables.values())
    if found is None:
        return None
    entries = {oid: found.entries[table] for oid, table in tables.items() if table in found.entries}
    return replace(found, entries=entries)


def _whole(connection: Connection, aim: Aim, ask_standing: Callable[[], Standing]) -> ReplicationFacts:
    """What a sync has to know, and what others suffer from."""
    facts = read_replication(connection, aim)
    publication = facts.publication
    retained = connection.execute(_RETAINED, [aim.cdc.replication_slot]).fetchone()
    admitted = facts.may_replicate and facts.senders_used < facts.senders_allowed
    facts = replace(
        facts,
        retained=retained[0] if retained else 0,
        marks=read_relation_marks(connection, aim.cdc.publication, aim.followable),
        standing=ask_standing() if admitted else Standing(),
        writers=tuple(open_writers(connection)),
    )
    if publication is None or not _tells_old_rows(publication):
        return facts
    published_ones = [one.table_oid for one in aim.followable if one.table not in facts.unlisted]
    return replace(
        facts,
        unsafe=tuple(unsafe_identities(connection, published_ones)),
        unrefreshable=tuple(unrefreshable(connection, publication))
        if aim.server.extension is not None
        else (),
    )


def _endangered(
    connection: Connection, aim: Aim, publication: Publication | None, unlisted: Sequence[Relation]
) -> tuple[ReplicaIdentity, ...]:
    """Those of the tables that are to be published which have no usable replica identity."""
    if not (_tells_old_rows(publication) and _to_be_published(aim, publication)):
        return ()
    return tuple(unsafe_identities(connection, [one.table_oid for one in unlisted]))


def _silent(
    connection: Connection, publication: Publication | None, relations: Sequence[Relation]
) -> tuple[Silent, ...]:
    """Those of some relations whose identity, or that of a part of them, is usable and leaves out their key."""
    keyed = {relation.table_oid: relation for relation in relations if relation.key}
    if not keyed or not _tells_old_rows(publication):
        return ()
    identities = {one.oid: one for one in replica_identities(connection, keyed)}
    found: dict[Silent, None] = {}
    for identity in identities.values():
        relation = keyed[identity.family or identity.oid]
        if identity.usable and not identity.tells(relation.key):
            found[Silent(relation.name, _mend(relation, identity, identities))] = None
    return tuple(found)


def _mend(relation: Relation, identity: ReplicaIdentity, all_: Mapping[int, ReplicaIdentity]) -> Statement:
    """A chunk takes the identity of its hypertable; a partition has its own, and perhaps no index that fits."""
    if relation.hypertable is not None:
        return all_[relation.table_oid].remedy
    return identity.remedy if identity.family is None else identification(identity.name)


def _to_be_published(aim: Aim, publication: Publication | None) -> bool:
    """Whether tables that are not published are going to be."""
    full = aim.settings.manage_publication is ManagePublication.FULL
    return publication is None or full or aim.chosen


def _tells_old_rows(publication: Publication | None) -> bool:
    """Whether UPDATE and DELETE need a replica identity in it, as they will in one that is made for us."""
    return publication is None or publication.updates or publication.deletes


def _closed_schemas(connection: Connection, server: ServerFacts) -> tuple[str, ...]:
    if server.extension is None:
        return ()
    try:
        return tuple(row[0] for row in connection.execute(_CLOSED_SCHEMAS).fetchall())
    except psycopg.errors.InsufficientPrivilege:
        return ("_timescaledb_catalog",)


def _unowned(connection: Connection, relations: Sequence[Relation]) -> tuple[QualifiedName, ...]:
    rows = connection.execute(_UNOWNED, [[relation.table_oid for relation in relations]]).fetchall()
    unowned = {oid for (oid,) in rows}
    return tuple(relation.table for relation in relations if relation.table_oid in unowned)


def _unsent(
    connection: Connection, publication: Publication | None, relations: Sequence[Relation]
) -> dict[QualifiedName, tuple[str, ...]]:
    if publication is None:
        return {}
    oids = [publication.oid, [relation.oid for relation in relations]]
    found = {oid: tuple(columns) for oid, columns in connection.execute(_GENERATED, oids).fetchall()}
    return {relation.name: found[relation.oid] for relation in relations if relation.oid in found}


def _coverage(
    connection: Connection, publication: Publication | None, followable: Sequence[Relation]
) -> tuple[list[Relation], list[MissingChunk]]:
    """The tables whose changes are published, and the chunks of theirs that are not."""
    if publication is None:
        return [], []
    tables = published(connection, publication, [relation.table_oid for relation in followable])
    hypertables = [relation for relation in followable if relation.hypertable is not None]
    missing = missing_chunks(connection, publication, [relation.table_oid for relation in hypertables])
    incomplete = {chunk.hypertable for chunk in missing}
    by_schema = {
        relation.table_oid
        for relation in hypertables
        if publication.schemas and relation.table_oid not in incomplete
    }
    listed = [relation for relation in followable if relation.table_oid in tables | by_schema]
    return listed, [chunk for chunk in missing if chunk.hypertable in tables]
