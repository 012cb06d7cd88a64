"""Asks the server for the facts a diagnosis needs beyond the registry."""

from __future__ import annotations

from typing import Final

import psycopg

from source_timescaledb.health.diagnosis import Probes
from source_timescaledb.hypertables.model import ServerVersion
from source_timescaledb.postgres.connection import Connection

_CLOSED_SCHEMAS: Final = """
SELECT n.nspname::text FROM pg_namespace n
WHERE NOT has_schema_privilege(n.oid, 'USAGE')
  AND (n.nspname IN ('_timescaledb_catalog', '_timescaledb_internal', '_timescaledb_functions')
       OR n.nspname IN (SELECT associated_schema_name FROM _timescaledb_catalog.hypertable))
ORDER BY 1
"""


def probe(connection: Connection, extension: ServerVersion | None) -> Probes:
    """The facts as they are now. Raises psycopg errors as they come."""
    if extension is None:
        return Probes()
    try:
        return Probes(closed_schemas=tuple(row[0] for row in connection.execute(_CLOSED_SCHEMAS).fetchall()))
    except psycopg.errors.InsufficientPrivilege:
        return Probes(closed_schemas=("_timescaledb_catalog",))
