"""Reads the registry from a live database: who is who, under which name, and in which chunks the rows lie.

Only facts leave this module. It asks a fixed number of questions whatever the size of the database, and loads the
chunks of one hypertable at a time, when somebody is about to read them: `discover` on 50,000 chunks never sees one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import psycopg

from source_timescaledb.errors import ConfigurationError
from source_timescaledb.hypertables import catalog
from source_timescaledb.hypertables.grouping import group_by_columns
from source_timescaledb.hypertables.model import (
    Chunk,
    ChunkStatus,
    Column,
    CompressedRelation,
    ContinuousAggregate,
    Dimension,
    Hypertable,
    QualifiedName,
    Registry,
    Relation,
    RelationKind,
    ServerFacts,
    ServerVersion,
    Span,
    TimeKind,
)
from source_timescaledb.types.model import TYPE_QUERY, PgType, types_from_rows

_KINDS: Final = {
    "r": RelationKind.TABLE,
    "p": RelationKind.PARTITIONED_TABLE,
    "v": RelationKind.VIEW,
    "m": RelationKind.MATERIALIZED_VIEW,
    "f": RelationKind.FOREIGN_TABLE,
}

_TIME_KINDS: Final = {
    1184: TimeKind.TIMESTAMPTZ,
    1114: TimeKind.TIMESTAMP,
    1082: TimeKind.DATE,
    20: TimeKind.INTEGER,
    21: TimeKind.INTEGER,
    23: TimeKind.INTEGER,
    2950: TimeKind.UUID,
}
"""By type oid, fixed in PostgreSQL's pg_type.dat."""

Connection = psycopg.Connection[tuple[Any, ...]]


def read_server_facts(connection: Connection) -> ServerFacts:
    """Ask the server who it is and who we are. Raises psycopg errors as they come."""
    row = connection.execute(catalog.SERVER_FACTS).fetchone()
    assert row is not None
    number, database, oid, role, superuser, bypasses, recovery, encoding, extension, license_ = row
    return ServerFacts(
        version_number=number,
        system_identifier=_system_identifier(connection),
        database=database,
        database_oid=oid,
        role=role,
        superuser=superuser,
        bypasses_row_security=bypasses,
        in_recovery=recovery,
        encoding=encoding,
        extension=ServerVersion.parse(extension) if extension else None,
        license=license_,
    )


def _system_identifier(connection: Connection) -> str:
    """The cluster's identity, or nothing where an administrator has closed pg_control to the role."""
    try:
        row = connection.execute(catalog.SYSTEM_IDENTIFIER).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        if not connection.autocommit:
            connection.rollback()
        return ""
    return row[0] if row else ""


def read_registry(
    connection: Connection, schemas: Sequence[str], *, unreadable_too: bool = False
) -> Registry:
    """Load every readable relation of `schemas` (empty: of every schema that is not internal).

    With `unreadable_too`, relations are listed whether the role may read them or not.

    Raises psycopg errors as they come.
    """
    server = read_server_facts(connection)
    chosen = list(schemas) or None
    usable: dict[str, bool] = dict(connection.execute(catalog.SCHEMAS, {"schemas": list(schemas)}).fetchall())
    rows = connection.execute(catalog.relations(server.extension), {"schemas": chosen}).fetchall()
    hypertables, aggregates, keys = _timescale(connection, server.extension)
    by_oid = {table.oid: table for table in hypertables}
    relations = [
        _relation(row, by_oid.get(row[0]), aggregates.get(row[0]), keys)
        for row in rows
        if row[6] or unreadable_too
    ]
    columns = _columns(connection, [relation.oid for relation in relations], unreadable_too=unreadable_too)
    keys |= _keys(connection, [relation.oid for relation in relations])
    complete = (
        replace(relation, columns=columns.get(relation.oid, ()), key=keys.get(relation.oid, ()))
        for relation in relations
    )
    return Registry(
        server=server,
        relations={relation.name: _with_usable_key(relation) for relation in complete},
        forbidden=tuple(QualifiedName(row[1], row[2]) for row in rows if not row[6]),
        missing_schemas=tuple(schema for schema in schemas if schema not in usable),
        unusable_schemas=tuple(schema for schema in schemas if usable.get(schema) is False),
    )


def read_chunks(
    connection: Connection, extension: ServerVersion, hypertable: Hypertable, *, after: int = 0
) -> list[Chunk]:
    """The chunks of a hypertable whose ids are greater than `after`, in no particular order; one query."""
    parameters = {"hypertable": hypertable.id, "after": after}
    rows = connection.execute(catalog.chunks(extension), parameters).fetchall()
    return [_chunk(hypertable, row) for row in rows]


def read_chunk(
    connection: Connection, extension: ServerVersion, hypertable: Hypertable, oid: int
) -> Chunk | None:
    """One chunk as the catalog has it now, or None if it is gone: the catalog alone decides that."""
    parameters = {"hypertable": hypertable.id, "after": 0, "oid": oid}
    row = connection.execute(catalog.chunks(extension, one=True), parameters).fetchone()
    return _chunk(hypertable, row) if row else None


def read_newest_chunks(connection: Connection, extension: ServerVersion) -> dict[int, int]:
    """The highest id of a chunk of each hypertable, tiered ones aside. Raises psycopg errors as they come."""
    return dict(connection.execute(catalog.newest_chunks(extension)).fetchall())


def check_columns(connection: Connection, relation: Relation, names: Iterable[str]) -> None:
    """Refuse to go on with columns that are gone or have another type than the relation was read with.

    Rendered as what they were their values would be rounded, cut or no JSON. Raises ConfigurationError, and psycopg
    errors as they come.
    """
    types: dict[str, int] = dict(connection.execute(catalog.COLUMN_TYPES, {"oid": relation.oid}).fetchall())
    known = {column.name: column.type.oid for column in relation.columns}
    changed = [name for name in names if types.get(name) != known[name]]
    if changed:
        raise ConfigurationError(
            f"Columns of {relation.name} were dropped, or have another type than when this sync began: "
            f"{', '.join(changed)}.",
            remedy="Refresh the source schema in the connection, and sync again.",
        )


def _relation(
    row: Sequence[Any],
    hypertable: Hypertable | None,
    aggregate: ContinuousAggregate | None,
    keys: dict[int, tuple[str, ...]],
) -> Relation:
    oid, schema, name, kind_letter, estimate, selectable, _, row_security = row
    kind = _KINDS[kind_letter]
    if hypertable is not None:
        kind = RelationKind.HYPERTABLE
    if aggregate is not None:
        kind = RelationKind.CONTINUOUS_AGGREGATE
        hypertable = aggregate.materialization if aggregate.finalized and aggregate.readable else None
    return Relation(
        oid=oid,
        name=QualifiedName(schema, name),
        kind=kind,
        columns=(),
        key=keys.get(oid, ()),
        guarded=row_security or not selectable,
        selectable=selectable,
        rows=estimate,
        hypertable=hypertable,
        aggregate=aggregate,
    )


def _with_usable_key(relation: Relation) -> Relation:
    """A key is only a key if every column of it can be read."""
    readable = {column.name for column in relation.columns}
    return relation if readable.issuperset(relation.key) else replace(relation, key=())


def _columns(
    connection: Connection, oids: list[int], *, unreadable_too: bool
) -> dict[int, tuple[Column, ...]]:
    rows = connection.execute(catalog.COLUMNS, {"oids": oids, "every": unreadable_too}).fetchall()
    types = _types(connection, {row[2] for row in rows})
    grouped: dict[int, list[Column]] = {}
    for relation, name, type_oid, typmod, number in rows:
        grouped.setdefault(relation, []).append(Column(name, types[type_oid], typmod, number))
    return {relation: tuple(columns) for relation, columns in grouped.items()}


def _types(connection: Connection, oids: Iterable[int]) -> dict[int, PgType]:
    return types_from_rows(connection.execute(TYPE_QUERY, {"oids": sorted(oids)}).fetchall())


def _keys(connection: Connection, oids: list[int]) -> dict[int, tuple[str, ...]]:
    best: dict[int, tuple[str, ...]] = {}
    for relation, *_, columns in connection.execute(catalog.KEYS, {"oids": oids}).fetchall():
        best.setdefault(relation, tuple(columns))
    return best


def _timescale(
    connection: Connection, extension: ServerVersion | None
) -> tuple[list[Hypertable], dict[int, ContinuousAggregate], dict[int, tuple[str, ...]]]:
    """Hypertables, continuous aggregates by the oid of their view, and the latter's keys."""
    if extension is None:
        return [], {}, {}
    hypertables = _hypertables(connection)
    by_id = {table.id: table for table in hypertables}
    aggregates: dict[int, ContinuousAggregate] = {}
    keys: dict[int, tuple[str, ...]] = {}
    for schema, name, oid, materialization, finalized, readable, columns, parse_tree in connection.execute(
        catalog.continuous_aggregates(extension)
    ).fetchall():
        aggregates[oid] = ContinuousAggregate(
            QualifiedName(schema, name), by_id[materialization], finalized, readable
        )
        keys[oid] = group_by_columns(parse_tree or "", columns)
    return hypertables, aggregates, keys


def _hypertables(connection: Connection) -> list[Hypertable]:
    tables: dict[int, Hypertable] = {}
    for row in connection.execute(catalog.HYPERTABLES).fetchall():
        id_, oid, schema, name, tiered, *dimension = row
        known = tables.get(id_) or Hypertable(id_, oid, QualifiedName(schema, name), (), tiered=tiered)
        tables[id_] = replace(known, dimensions=(*known.dimensions, _dimension(*dimension)))
    return list(tables.values())


def _dimension(
    id_: int,
    column: str,
    type_oid: int,
    slices: int | None,
    schema: str | None,
    function: str | None,
    interval: int | None,
) -> Dimension:
    named = QualifiedName(schema, function) if schema and function else None
    if slices is not None:
        return Dimension(id_, column, None, named)
    kind = TimeKind.OPAQUE if named else _TIME_KINDS.get(type_oid, TimeKind.OPAQUE)
    return Dimension(id_, column, kind, named, interval)


def _chunk(hypertable: Hypertable, row: Sequence[Any]) -> Chunk:
    id_, oid, schema, name, status, inner_schema, inner_name, inner_oid, tiered, rows, pages, file, *box = row
    inner = CompressedRelation(inner_oid, QualifiedName(inner_schema, inner_name)) if inner_oid else None
    spans = {dimension: Span(lower, upper) for dimension, lower, upper in zip(*box, strict=True)}
    return Chunk(
        id=id_,
        oid=oid,
        name=QualifiedName(schema, name),
        status=ChunkStatus(status),
        box=tuple(spans[dimension.id] for dimension in hypertable.dimensions if dimension.id in spans),
        compressed=inner,
        tiered=tiered,
        rows=rows,
        pages=pages,
        file=file,
    )
