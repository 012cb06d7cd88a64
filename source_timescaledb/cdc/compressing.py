"""What compression does to the log of a server, by its settings: marks what it moves, or hides what was written.

Compressing and decompressing move rows, and the log tells of the moves like of changes. Since TimescaleDB 2.16 they stand
between markers (`pgoutput.regions`), unless a server-wide setting turns those off. Then a recompression deletes living
rows downstream, and nothing in the log tells that it was none of the application's. From 2.12 to 2.15 a setting marks
what a DELETE or UPDATE decompresses and nothing else: recompression, which policies do by themselves, stays unmarked. So
where a followed hypertable has compression, everything short of 2.16's markers is refused.

The other way round, some writes to compressed rows are not in the log at all, each by a setting that any session, role or
database may have for itself. Those are told as found (`health.compression`), and what they did by an audit
(`cdc.ledger`). A refresh of a continuous aggregate writes like any session, to the hypertable that holds its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from source_timescaledb.hypertables.model import QualifiedName, Relation, ServerFacts, ServerVersion
from source_timescaledb.postgres.connection import Connection

MARKERS: Final = "timescaledb.enable_compression_wal_markers"
"""Since 2.16, on by default; for the whole server."""
EARLY_MARKERS: Final = "timescaledb.enable_decompression_logrep_markers"
"""From 2.12 to 2.15, off by default; only of what DML decompresses."""
DIRECT_DELETE: Final = "timescaledb.enable_compressed_direct_batch_delete"
"""Since 2.17, on by default: a DELETE that covers whole batches removes them as they are."""
DIRECT_COMPRESS: Final = (
    "timescaledb.enable_direct_compress_copy",
    "timescaledb.enable_direct_compress_insert",
)
"""Since 2.21 and 2.23, off by default: rows are written compressed; not into tables with unique constraints."""
DIRECT_REFRESH: Final = "timescaledb.enable_direct_compress_on_cagg_refresh"
"""Off by default: a refresh writes its rows compressed."""

_TABLE_OPTION_SINCE: Final = ServerVersion(2, 29)
_COMPRESSING: Final = """
WITH compressing AS (
    SELECT hypertable_schema AS schema, hypertable_name AS name
      FROM timescaledb_information.hypertables WHERE compression_enabled
    UNION ALL
    SELECT materialization_hypertable_schema, materialization_hypertable_name
      FROM timescaledb_information.continuous_aggregates WHERE compression_enabled)
SELECT c.oid::int8, {direct} FROM compressing h
  JOIN pg_catalog.pg_namespace n ON n.nspname = h.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = h.name
  JOIN _timescaledb_catalog.hypertable k ON k.schema_name = n.nspname AND k.table_name = c.relname
"""
_SETTINGS: Final = """
SELECT name, CASE WHEN source IN ('user', 'database user') THEN boot_val ELSE setting END
  FROM pg_catalog.pg_settings WHERE name = ANY (%s)
"""
_OVERRIDES: Final = """
SELECT r.rolname::text, s.setdatabase <> 0, split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
  FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) c
 WHERE s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
   AND split_part(c, '=', 1) = ANY (%s)
 ORDER BY s.setdatabase <> 0 DESC, r.rolname
"""


@dataclass(frozen=True, slots=True)
class Override:
    """A value that a role, or everybody, has for a setting, in this database or in all."""

    role: str | None
    here: bool
    """Whether in this database only."""
    setting: str
    value: str

    @property
    def on(self) -> bool:
        """Whether it turns the setting on."""
        return is_on(self.value)


@dataclass(frozen=True, slots=True)
class Compressing:
    """Where compression is in use, and how the server is set for it."""

    hypertables: tuple[QualifiedName, ...] = ()
    """Those, of the ones asked for, that have compression enabled."""
    keyless: tuple[QualifiedName, ...] = ()
    """Those of them without a key: only into such can rows be written compressed."""
    directly: tuple[QualifiedName, ...] = ()
    """Those of them into which the table's own option has rows written compressed."""
    aggregates: tuple[QualifiedName, ...] = ()
    """The continuous aggregates, of those asked for, whose rows lie in a hypertable that has compression enabled."""
    settings: Mapping[str, str] | None = None
    """What holds where neither role nor database says otherwise, of the settings above that the server knows."""
    overrides: tuple[Override, ...] = ()

    @property
    def used(self) -> bool:
        """Whether anything that was asked for has compression."""
        return bool(self.hypertables or self.aggregates)


def is_on(value: str) -> bool:
    """Whether a boolean setting's text means on, in any of the ways to write it."""
    return value.strip().lower() not in {"off", "of", "false", "no", "0", "f", "n"}


def read_compressing(
    connection: Connection, server: ServerFacts, relations: Sequence[Relation]
) -> Compressing:
    """Ask the server; nothing where there can be no compression. Raises psycopg errors as they come."""
    extension = server.extension
    if extension is None or server.license == "apache" or not any(one.hypertable for one in relations):
        return Compressing()
    option = "k.status & 8 <> 0" if extension >= _TABLE_OPTION_SINCE else "false"
    found: dict[int, bool] = dict(connection.execute(_COMPRESSING.format(direct=option).encode()).fetchall())
    compressed = [one for one in relations if one.hypertable is not None and one.table_oid in found]
    using = [one for one in compressed if one.aggregate is None]
    names = [MARKERS, EARLY_MARKERS, DIRECT_DELETE, *DIRECT_COMPRESS, DIRECT_REFRESH]
    overrides = [Override(*row) for row in connection.execute(_OVERRIDES, [names]).fetchall()]
    everybodys = {one.setting: one.value for one in reversed(overrides) if one.role is None}
    settings: dict[str, str] = dict(connection.execute(_SETTINGS, [names]).fetchall())
    settings |= {name: value for name, value in everybodys.items() if name in settings}
    return Compressing(
        hypertables=tuple(one.name for one in using),
        keyless=tuple(one.name for one in using if not one.key),
        directly=tuple(one.name for one in using if found[one.oid] and not one.key),
        aggregates=tuple(one.name for one in compressed if one.aggregate is not None),
        settings=settings,
        overrides=tuple(one for one in overrides if one.role is not None),
    )
