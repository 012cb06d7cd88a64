"""Asks the server for the facts a diagnosis needs beyond the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psycopg

from source_timescaledb.cdc.aggregates import unrefreshable
from source_timescaledb.cdc.compressing import read_compressing
from source_timescaledb.cdc.preparation import is_followable
from source_timescaledb.config.replication import Cdc
from source_timescaledb.health.diagnosis import Probes
from source_timescaledb.health.replication import ReplicationFacts
from source_timescaledb.hypertables.model import Relation, ServerFacts, ServerVersion
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.postgres.identity import unsafe_identities
from source_timescaledb.postgres.publication import (
    MissingChunk,
    Publication,
    missing_chunks,
    published,
    read_publication,
)
from source_timescaledb.postgres.slot import read_slot

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
       (SELECT count(*)::int FROM pg_catalog.pg_replication_slots),
       current_setting('max_replication_slots')::int
  FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user
"""
"""Clouds let a role replicate by membership: Amazon's rds_replication, Azure's azure_pg_admin."""


def probe(
    connection: Connection, server: ServerFacts, cdc: Cdc | None, offered: Sequence[Relation]
) -> Probes:
    """The facts as they are now; those of replication only where changes are to be followed.

    Raises psycopg errors as they come.
    """
    replication = None if cdc is None else _replication(connection, server, cdc, offered)
    return Probes(closed_schemas=_closed_schemas(connection, server.extension), replication=replication)


def _closed_schemas(connection: Connection, extension: ServerVersion | None) -> tuple[str, ...]:
    if extension is None:
        return ()
    try:
        return tuple(row[0] for row in connection.execute(_CLOSED_SCHEMAS).fetchall())
    except psycopg.errors.InsufficientPrivilege:
        return ("_timescaledb_catalog",)


def _replication(
    connection: Connection, server: ServerFacts, cdc: Cdc, offered: Sequence[Relation]
) -> ReplicationFacts:
    row = connection.execute(_REPLICATION).fetchone()
    assert row is not None
    wal_level, may_replicate, may_make_temporary, used, allowed = row
    publication = read_publication(connection, cdc.publication)
    followable = [relation for relation in offered if is_followable(relation)]
    listed, missing = _coverage(connection, publication, followable)
    return ReplicationFacts(
        wal_level=wal_level,
        may_replicate=may_replicate,
        may_make_temporary=may_make_temporary,
        slots_used=used,
        slots_allowed=allowed,
        slot=read_slot(connection, cdc.replication_slot),
        publication=publication,
        unlisted=tuple(relation.name for relation in followable if relation not in listed),
        missing=tuple(missing),
        unsafe=tuple(unsafe_identities(connection, [relation.table_oid for relation in listed]))
        if publication is not None and (publication.updates or publication.deletes)
        else (),
        unrefreshable=tuple(unrefreshable(connection, publication))
        if publication is not None and server.extension is not None
        else (),
        compressing=read_compressing(connection, server, listed if publication is not None else followable),
    )


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
