"""The catalog queries, by version of the extension.

TimescaleDB's catalog tables change shape between releases (sql/pre_install/tables.sql at each tag), and the stable
`timescaledb_information` views cost a function call per chunk. So the tables are read directly, and this module alone
knows their shapes. Three differences matter:

- up to 2.28 a chunk is known by schema and table name, from 2.29 on by `relid`;
- up to 2.27 a chunk's box is found through `chunk_constraint`, from 2.28 on `dimension_slice` carries the chunk id;
- up to 2.25 a dropped chunk may leave a row with `dropped` set.

Every query is one round trip and none calls a size function per chunk: 50,000 chunks are a hash join.
"""

from __future__ import annotations

from typing import Final

from typing_extensions import LiteralString

from source_timescaledb.hypertables.model import Chunk, ServerVersion

OLDEST_SUPPORTED: Final = ServerVersion(2, 11)
_CHUNK_HAS_RELID: Final = ServerVersion(2, 29)
_SLICE_HAS_CHUNK: Final = ServerVersion(2, 28)
_CHUNK_LOST_DROPPED: Final = ServerVersion(2, 26)
_FUNCTIONS_SCHEMA: Final = ServerVersion(2, 12)

SERVER_FACTS: Final = """
SELECT current_setting('server_version_num')::int,
       d.datname::text, d.oid::int8, current_user::text,
       r.rolsuper, r.rolsuper OR r.rolbypassrls,
       pg_is_in_recovery(),
       pg_encoding_to_char(d.encoding)::text,
       (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
       coalesce(current_setting('timescaledb.license', true), '')
FROM pg_database d, pg_roles r
WHERE d.datname = current_database() AND r.rolname = current_user
"""

SYSTEM_IDENTIFIER: Final = "SELECT system_identifier::text FROM pg_control_system()"

INTERNAL_SCHEMA: Final = (
    "(n.nspname ~ '^(pg_|_timescaledb_|timescaledb_)'"
    " OR n.nspname IN ('information_schema', 'toolkit_experimental', 'catalog_history'))"
)

SCHEMAS: Final = """
SELECT nspname::text, has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = ANY(%(schemas)s)
"""

_RELATIONS: Final = """
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, c.reltuples::float8,
       has_table_privilege(c.oid, 'SELECT'), has_any_column_privilege(c.oid, 'SELECT'), row_security_active(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND has_schema_privilege(n.oid, 'USAGE')
  AND NOT {internal}
  AND (%(schemas)s::text[] IS NULL OR n.nspname = ANY(%(schemas)s))
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'){not_chunk}
ORDER BY n.nspname, c.relname
"""

_NOT_CHUNK_BY_NAME: Final = """
  AND NOT EXISTS (SELECT FROM _timescaledb_catalog.chunk k
                  WHERE k.schema_name = n.nspname AND k.table_name = c.relname)
  AND NOT EXISTS (SELECT FROM _timescaledb_catalog.hypertable h
                  WHERE h.schema_name = n.nspname AND h.table_name = c.relname AND h.compression_state = 2)
  AND NOT EXISTS (SELECT FROM _timescaledb_catalog.continuous_agg g
                  JOIN _timescaledb_catalog.hypertable h ON h.id = g.mat_hypertable_id
                  WHERE h.schema_name = n.nspname AND h.table_name = c.relname)"""

_NOT_CHUNK_BY_RELID: Final = """
  AND NOT EXISTS (SELECT FROM _timescaledb_catalog.chunk k WHERE k.relid = c.oid)
  AND NOT EXISTS (SELECT FROM _timescaledb_catalog.compression_settings s WHERE s.compress_relid = c.oid)
  AND NOT EXISTS (SELECT FROM _timescaledb_catalog.continuous_agg g
                  JOIN _timescaledb_catalog.hypertable h ON h.id = g.mat_hypertable_id
                  WHERE h.schema_name = n.nspname AND h.table_name = c.relname)"""

COLUMNS: Final = """
SELECT a.attrelid::int8, a.attname::text, a.atttypid::int8, a.atttypmod, a.attnum
FROM pg_attribute a
WHERE a.attrelid = ANY(%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
  AND (%(every)s OR has_column_privilege(a.attrelid, a.attnum, 'SELECT'))
ORDER BY a.attrelid, a.attnum
"""

COLUMN_TYPES: Final = """
SELECT attname::text, atttypid::int8 FROM pg_attribute
WHERE attrelid = %(oid)s::oid AND attnum > 0 AND NOT attisdropped
"""

_KEY_INDEXES: Final = """
SELECT i.indrelid::int8, i.indexrelid, i.indisprimary, i.indimmediate,
       array_agg(a.attname::text ORDER BY array_position(i.indkey::int2[], a.attnum)) AS columns
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey::int2[])
WHERE {of}
  AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND array_position(i.indkey::int2[], a.attnum) < i.indnkeyatts
GROUP BY i.indexrelid, i.indrelid, i.indisprimary, i.indimmediate, i.indisreplident, i.indnkeyatts
HAVING bool_and(a.attnotnull)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint u
                   WHERE u.conrelid = i.indrelid AND u.contype = 'n' AND NOT u.convalidated
                     AND u.conkey <@ array_agg(a.attnum))
ORDER BY i.indrelid, i.indisprimary DESC, i.indisreplident DESC, i.indnkeyatts, i.indexrelid
"""
"""Unique indexes over NOT NULL columns, the best of each relation first: the primary key, else the one by which the log
tells old rows, so that both have the same columns. PostgreSQL 18 marks a column NOT NULL even while the constraint is
NOT VALID (contype 'n'), so such columns are left out: a NULL would fall between two slices."""

KEYS: Final = _KEY_INDEXES.format(of="i.indrelid = ANY(%(oids)s::oid[])")

HYPERTABLES: Final = """
SELECT h.id, c.oid::int8, n.nspname::text, c.relname::text,
       EXISTS (SELECT FROM _timescaledb_catalog.chunk k WHERE k.osm_chunk AND k.hypertable_id = h.id),
       d.id, d.column_name::text, d.column_type::oid::int8, d.num_slices,
       d.partitioning_func_schema::text, d.partitioning_func::text, d.interval_length
FROM _timescaledb_catalog.hypertable h
JOIN pg_namespace n ON n.nspname = h.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = h.table_name
JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = h.id
ORDER BY h.id, (d.num_slices IS NOT NULL), d.id
"""

_CONTINUOUS_AGGREGATES: Final = """
SELECT g.user_view_schema::text, g.user_view_name::text, v.oid::int8, g.mat_hypertable_id, {finalized},
       has_table_privilege(m.oid, 'SELECT') AND NOT row_security_active(m.oid),
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
        WHERE a.attrelid = v.oid AND a.attnum > 0),
       (SELECT r.ev_action::text FROM pg_rewrite r
        JOIN pg_class w ON w.oid = r.ev_class JOIN pg_namespace x ON x.oid = w.relnamespace
        WHERE x.nspname = g.direct_view_schema AND w.relname = g.direct_view_name AND r.rulename = '_RETURN')
FROM _timescaledb_catalog.continuous_agg g
JOIN pg_namespace vn ON vn.nspname = g.user_view_schema
JOIN pg_class v ON v.relnamespace = vn.oid AND v.relname = g.user_view_name
JOIN _timescaledb_catalog.hypertable h ON h.id = g.mat_hypertable_id
JOIN pg_namespace mn ON mn.nspname = h.schema_name
JOIN pg_class m ON m.relnamespace = mn.oid AND m.relname = h.table_name
"""

_CHUNKS_BY_NAME: Final = """
SELECT k.id, c.oid::int8, n.nspname::text, c.relname::text, k.status,
       zn.nspname::text, zc.relname::text, zc.oid::int8, k.osm_chunk, c.reltuples::float8, c.relpages,
       c.relfilenode::int8, array_agg(s.dimension_id), array_agg(s.range_start), array_agg(s.range_end)
FROM _timescaledb_catalog.chunk k
JOIN pg_namespace n ON n.nspname = k.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = k.table_name
LEFT JOIN _timescaledb_catalog.chunk z ON z.id = k.compressed_chunk_id
LEFT JOIN pg_namespace zn ON zn.nspname = z.schema_name
LEFT JOIN pg_class zc ON zc.relnamespace = zn.oid AND zc.relname = z.table_name
{slices}
WHERE k.hypertable_id = %(hypertable)s AND k.id > %(after)s {only}{alive}
GROUP BY k.id, c.oid, n.nspname, c.relname, k.status, zn.nspname, zc.relname, zc.oid, k.osm_chunk
"""

_CHUNKS_BY_RELID: Final = """
SELECT k.id, c.oid::int8, n.nspname::text, c.relname::text, k.status,
       zn.nspname::text, z.relname::text, z.oid::int8, k.osm_chunk, c.reltuples::float8, c.relpages,
       c.relfilenode::int8, array_agg(s.dimension_id), array_agg(s.range_start), array_agg(s.range_end)
FROM _timescaledb_catalog.chunk k
JOIN pg_class c ON c.oid = k.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN _timescaledb_catalog.compression_settings g ON g.relid = k.relid
LEFT JOIN pg_class z ON z.oid = g.compress_relid
LEFT JOIN pg_namespace zn ON zn.oid = z.relnamespace
JOIN _timescaledb_catalog.dimension_slice s ON s.chunk_id = k.id
WHERE k.hypertable_id = %(hypertable)s AND k.id > %(after)s {only}
GROUP BY k.id, c.oid, n.nspname, c.relname, k.status, zn.nspname, z.relname, z.oid, k.osm_chunk
"""

_NEWEST_CHUNKS: Final = """
SELECT hypertable_id, max(id) FROM _timescaledb_catalog.chunk WHERE NOT osm_chunk{alive} GROUP BY hypertable_id
"""

_SLICES_BY_CONSTRAINT: Final = """
JOIN _timescaledb_catalog.chunk_constraint t ON t.chunk_id = k.id
JOIN _timescaledb_catalog.dimension_slice s ON s.id = t.dimension_slice_id"""

_SLICES_BY_CHUNK: Final = "JOIN _timescaledb_catalog.dimension_slice s ON s.chunk_id = k.id"

_ONLY_ONE: Final = "AND c.oid = %(oid)s::oid"

_FINGERPRINT: Final = """
SELECT (SELECT relfilenode::int8 FROM pg_class WHERE oid = {oid}),
       (SELECT status FROM _timescaledb_catalog.chunk WHERE id = {id}),
       {compressed}::int8,
       (SELECT relfilenode::int8 FROM pg_class WHERE oid = {compressed_oid}),
       {live}, pg_current_snapshot()::text
"""

_LIVE: Final = """pg_relation_filenode({oid})::int8, {functions}.chunk_status({oid}::oid::regclass),
       pg_relation_filenode({compressed_oid})::int8"""

_COMPRESSED_ID: Final = "(SELECT compressed_chunk_id FROM _timescaledb_catalog.chunk WHERE id = {id})"
"""Enough where there was none: any number at all tells that there is one now."""

_COMPRESSED_BY_ID: Final = """(SELECT z.oid FROM _timescaledb_catalog.chunk k
        JOIN _timescaledb_catalog.chunk y ON y.id = k.compressed_chunk_id
        JOIN pg_namespace n ON n.nspname = y.schema_name
        JOIN pg_class z ON z.relnamespace = n.oid AND z.relname = y.table_name WHERE k.id = {id})"""

_COMPRESSED_BY_RELID: Final = (
    "(SELECT compress_relid::oid FROM _timescaledb_catalog.compression_settings WHERE relid = {oid})"
)


def relations(extension: ServerVersion | None) -> str:
    """Every candidate for a stream in `%(schemas)s` (NULL: all but internal ones); chunks are never among them."""
    if extension is None:
        not_chunk = ""
    elif extension < _CHUNK_HAS_RELID:
        not_chunk = _NOT_CHUNK_BY_NAME
    else:
        not_chunk = _NOT_CHUNK_BY_RELID
    return _RELATIONS.format(internal=INTERNAL_SCHEMA, not_chunk=not_chunk)


def key_index(relation: LiteralString) -> str:
    """The index that a key is of: one row, or none, of a relation whose oid an expression tells."""
    return f"{_KEY_INDEXES.format(of=f'i.indrelid = {relation}')} LIMIT 1"


def continuous_aggregates(extension: ServerVersion) -> str:
    """Every continuous aggregate with the parse tree of its direct view, from which its GROUP BY columns follow."""
    has_finalized = extension < ServerVersion(2, 25)
    return _CONTINUOUS_AGGREGATES.format(finalized="g.finalized" if has_finalized else "true")


def chunks(extension: ServerVersion, *, one: bool = False) -> str:
    """The chunks of `%(hypertable)s` with ids past `%(after)s`; with `one`, only the chunk whose oid is `%(oid)s`."""
    only = _ONLY_ONE if one else ""
    if extension >= _CHUNK_HAS_RELID:
        return _CHUNKS_BY_RELID.format(only=only)
    return _CHUNKS_BY_NAME.format(
        slices=_SLICES_BY_CHUNK if extension >= _SLICE_HAS_CHUNK else _SLICES_BY_CONSTRAINT,
        only=only,
        alive=" AND NOT k.dropped" if extension < _CHUNK_LOST_DROPPED else "",
    )


def newest_chunks(extension: ServerVersion) -> str:
    """The highest id of a chunk of each hypertable, of those that `chunks` lists and that hold their rows here."""
    return _NEWEST_CHUNKS.format(alive=" AND NOT dropped" if extension < _CHUNK_LOST_DROPPED else "")


def fingerprint(extension: ServerVersion, chunk: Chunk) -> tuple[str, str]:
    """Two queries that prove a chunk was not rewritten while it was read: one before the rows, one after.

    `pg_relation_filenode` and `chunk_status` look at the live catalog even inside an old snapshot, so in a REPEATABLE
    READ transaction a difference from the snapshot's own rows tells that somebody rewrote, compressed or decompressed
    the chunk (30 cases measured on 2.29.2, every wrong read flagged; upstream issue #6842).

    Before: file number, status, compressed relation and its file number by the snapshot; then file number, status and
    compressed file number live; then the snapshot. After: the three live values again. Looked up by the ids that are
    known already: planning a join would take longer than reading a small chunk.
    """
    functions = "_timescaledb_functions" if extension >= _FUNCTIONS_SCHEMA else "_timescaledb_internal"
    known = {
        "oid": chunk.oid,
        "id": chunk.id,
        "compressed_oid": chunk.compressed.oid if chunk.compressed else 0,
    }
    live = _LIVE.format(functions=functions, **known)
    if chunk.status == 0 and chunk.compressed is None and extension < _CHUNK_HAS_RELID:
        compressed = _COMPRESSED_ID.format(**known)
    elif extension < _CHUNK_HAS_RELID:
        compressed = _COMPRESSED_BY_ID.format(**known)
    else:
        compressed = _COMPRESSED_BY_RELID.format(**known)
    return _FINGERPRINT.format(compressed=compressed, live=live, **known), f"SELECT {live}"
