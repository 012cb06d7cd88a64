"""Publications: whose changes the server sends, and how to add what is missing without hurting anybody.

A hypertable in a publication says nothing about its chunks. `FOR TABLE` lists those that exist at the moment, a later
one only where `timescaledb.enable_chunk_auto_publication` was on in the session that made it; a schema publishes the
chunks that lie in it, and chunks lie in `_timescaledb_internal`. So coverage is a question about each chunk, and it is
answered from `pg_publication_rel`, `pg_publication_namespace` and `puballtables` for any number of relations in one query
(`pg_publication_tables` expands the whole publication each time).

A table may be dropped, or added by somebody else, between our look and our ALTER. The statement then fails as a whole,
so it is cut in halves until the one table stands alone, and there it is no error.

We never create one that makes the application's own UPDATE and DELETE fail (`postgres.identity`).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import psycopg
from psycopg import errors, sql

from source_timescaledb.errors import ConfigurationError, ConnectorError, ContentionError
from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.hypertables.naming import listed
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.postgres.identity import ReplicaIdentity, unsafe_identities
from source_timescaledb.remedy import Statement
from source_timescaledb.sqlstates import connector_error

TABLES_AT_ONCE: Final = 500
TABLES_TO_READ: Final = 20
"""How many stand in one statement that a person is to read."""

_SCHEMA_FORM: Final = 150_000
"""PostgreSQL 15 brought schemas, row filters and column lists; older servers lack their catalogs."""

_FACTS: Final = """
SELECT p.oid::int8, p.pubname::text, pg_get_userbyid(p.pubowner)::text, pg_has_role(p.pubowner, 'USAGE'),
       p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot
FROM pg_catalog.pg_publication p WHERE p.pubname = {name}
"""

_MARKS: Final = """
SELECT p.oid::int8, r.prrelid::int8, r.oid::int8 FROM pg_catalog.pg_publication p
LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = ANY(%(tables)s::int8[]::oid[])
WHERE p.pubname = %(name)s
"""

_SCHEMAS: Final = """
SELECT n.nspname::text FROM pg_catalog.pg_publication_namespace s
JOIN pg_catalog.pg_namespace n ON n.oid = s.pnnspid WHERE s.pnpubid = %s ORDER BY 1
"""

_RESTRICTED: Final = """
SELECT n.nspname::text, c.relname::text, r.prqual IS NOT NULL, r.prattrs IS NOT NULL,
       coalesce((SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid LIMIT 1), c.oid)::int8
FROM pg_catalog.pg_publication_rel r
JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE r.prpubid = %s AND (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL) ORDER BY 1, 2
"""

_PUBLISHED: Final = """
SELECT c.oid::int8 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_publication p ON p.oid = %(publication)s
WHERE c.oid = ANY(%(oids)s::int8[]::oid[]) AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
  AND (p.puballtables
       OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid)
       OR c.relispartition AND EXISTS (
            SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) a
            JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = a.relid){by_schema})
"""

_BY_SCHEMA: Final = """
       OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s
                  WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)
       OR c.relispartition AND EXISTS (
            SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) a JOIN pg_catalog.pg_class ac ON ac.oid = a.relid
            JOIN pg_catalog.pg_publication_namespace s ON s.pnpubid = p.oid AND s.pnnspid = ac.relnamespace)"""

_CHUNKS: Final = """
SELECT c.oid::int8, i.inhparent::int8, n.nspname::text, c.relname::text, pg_has_role(c.relowner, 'USAGE')
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = ANY(%s::int8[]::oid[]) AND c.relkind = 'r' AND NOT c.relispartition
ORDER BY c.oid
"""


_TIERED: Final = """
SELECT DISTINCT i.inhparent::int8 FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = ANY(%s::int8[]::oid[]) AND c.relkind = 'f' AND NOT c.relispartition
"""


@dataclass(frozen=True, slots=True)
class Restricted:
    """A table of which a publication publishes only some rows, or only some columns."""

    name: QualifiedName
    family: int
    """The oid of the hypertable whose chunk it is, else its own."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication as the catalog has it."""

    oid: int
    name: str
    owner: str
    owned: bool
    """Whether our role may alter it."""
    all_tables: bool
    inserts: bool
    updates: bool
    deletes: bool
    truncates: bool
    via_root: bool
    """Whether a partition's changes are sent as its root's."""
    schemas: tuple[str, ...] = ()
    filtered: tuple[Restricted, ...] = ()
    """Tables of which only some rows are published."""
    narrowed: tuple[Restricted, ...] = ()
    """Tables of which only some columns are published."""


@dataclass(frozen=True, slots=True)
class PublicationMarks:
    """By what a publication, and a table's place in it, are known to be the ones they were: made again they differ."""

    publication: int
    """Its oid."""
    entries: Mapping[int, int]
    """By the oids of tables, those of the entries that list them; none where they are published in another way."""


@dataclass(frozen=True, slots=True)
class MissingChunk:
    """A chunk of a hypertable that a publication does not publish."""

    oid: int
    hypertable: int
    """The oid of its hypertable."""
    name: QualifiedName
    owned: bool = True
    """Whether our role may add it."""


def read_publication(connection: Connection, name: str) -> Publication | None:
    """The facts of a publication, None where there is none. Raises psycopg errors as they come."""
    row = connection.execute(sql.SQL(_FACTS).format(name=sql.Literal(name))).fetchone()
    if row is None:
        return None
    publication = Publication(*row)
    if connection.info.server_version < _SCHEMA_FORM:
        return publication
    schemas = connection.execute(_SCHEMAS, [publication.oid]).fetchall()
    restricted = connection.execute(_RESTRICTED, [publication.oid]).fetchall()
    return replace(
        publication,
        schemas=tuple(schema for (schema,) in schemas),
        filtered=tuple(Restricted(QualifiedName(*row[:2]), row[4]) for row in restricted if row[2]),
        narrowed=tuple(Restricted(QualifiedName(*row[:2]), row[4]) for row in restricted if row[3]),
    )


def read_marks(connection: Connection, name: str, tables: Iterable[int]) -> PublicationMarks | None:
    """The marks of a publication and of its entries for tables, None where there is none.

    Raises psycopg errors as they come.
    """
    rows = connection.execute(_MARKS, {"name": name, "tables": list(tables)}).fetchall()
    if not rows:
        return None
    return PublicationMarks(rows[0][0], {table: entry for _, table, entry in rows if table is not None})


def published(connection: Connection, publication: Publication, oids: Iterable[int]) -> set[int]:
    """Which of the given tables have their changes published; a hypertable's answer is not that of its chunks.

    Raises psycopg errors as they come.
    """
    by_schema = _BY_SCHEMA if connection.info.server_version >= _SCHEMA_FORM else ""
    parameters = {"publication": publication.oid, "oids": list(oids)}
    rows = connection.execute(_PUBLISHED.format(by_schema=by_schema).encode(), parameters).fetchall()
    return {oid for (oid,) in rows}


def missing_chunks(
    connection: Connection, publication: Publication, hypertables: Iterable[int]
) -> list[MissingChunk]:
    """The chunks of hypertables, given by oid, whose changes are not published, in the order of their making.

    Chunks in object storage are foreign tables, which nobody writes and no publication takes. Raises psycopg errors as
    they come.
    """
    rows = connection.execute(_CHUNKS, [list(hypertables)]).fetchall()
    covered = published(connection, publication, (row[0] for row in rows))
    return [
        MissingChunk(oid, hypertable, QualifiedName(schema, name), owned)
        for oid, hypertable, schema, name, owned in rows
        if oid not in covered
    ]


def add_tables(
    connection: Connection,
    publication: str,
    tables: Sequence[QualifiedName],
    *,
    at_once: int = TABLES_AT_ONCE,
) -> None:
    """Add tables, each without what inherits from it; those already there or gone meanwhile are no error.

    Rows that were written before the ALTER commits are not decoded: the caller waits for the barrier and reads them.

    Args:
        connection: a `Session.WRITING` one, in autocommit mode.
        publication: its name.
        tables: which.
        at_once: how many in one statement, which locks them against maintenance, not against reads and writes.

    Raises:
        ConfigurationError: the role may not, with the SQL for somebody who may.
        TransientError: maintenance holds a lock on one of them.
        ConnectorError: as the server's reason deserves.
    """
    for first in range(0, len(tables), at_once):
        _add(connection, publication, tables[first : first + at_once])


def create_publication(
    connection: Connection,
    name: str,
    tables: Sequence[tuple[int, QualifiedName]],
    *,
    inserts_only: bool = False,
) -> None:
    """Make a publication of tables and all that inherits from them: for a hypertable, its chunks of this moment.

    One with a chunk in tiered storage, which is a foreign table, comes without its chunks (`missing_chunks`).

    Args:
        connection: a `Session.WRITING` one.
        name: the publication's name.
        tables: each by oid and name, at least one.
        inserts_only: publish neither updates nor deletes, which is safe whatever the replica identities.

    Raises:
        ConfigurationError: the application's UPDATE or DELETE would fail on some of them, with the SQL that mends it;
            or the role may not, with the SQL for somebody who may.
        ContentionError: there is one of that name by now.
        ConnectorError: as the server's reason deserves.
    """
    doing = f"Creating the publication {name}"
    try:
        alone = read_tiered(connection, [oid for oid, _ in tables])
        statement = sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish = {})").format(
            sql.Identifier(name),
            sql.SQL(", ").join(_listing(table, whole=oid not in alone) for oid, table in tables),
            sql.SQL("'insert, truncate'" if inserts_only else "'insert, update, delete, truncate'"),
        )
        unsafe = [] if inserts_only else unsafe_identities(connection, [oid for oid, _ in tables])
        if unsafe:
            raise _would_break(name, unsafe)
        connection.execute(statement)
    except errors.DuplicateObject:
        raise ContentionError(f"{doing} failed: somebody else has made it meanwhile.") from None
    except errors.InsufficientPrivilege as error:
        raise _forbidden(error, doing, [Statement.of(statement)]) from None
    except psycopg.Error as error:
        raise connector_error(error, doing) from None


def read_tiered(connection: Connection, hypertables: Iterable[int]) -> set[int]:
    """Which hypertables, by oid, have a chunk in tiered storage, with which no publication takes them.

    Raises psycopg errors as they come.
    """
    return {oid for (oid,) in connection.execute(_TIERED, [list(hypertables)]).fetchall()}


def creation(
    publication: str, tables: Sequence[QualifiedName], *, tiered: Container[QualifiedName] = ()
) -> Statement:
    """The statement that makes a publication of tables and all that inherits from them.

    Those with a chunk in tiered storage, which no publication takes, come alone: their other chunks are added by a sync.
    """
    return Statement.of(
        sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(
            sql.Identifier(publication), _listed_in(tables, whole=True, tiered=tiered)
        ),
        unless=sql.SQL("EXISTS (SELECT FROM pg_publication WHERE pubname = {})").format(publication),
    )


def addition(
    publication: str,
    names: Sequence[QualifiedName],
    *,
    whole: bool = False,
    tiered: Container[QualifiedName] = (),
) -> list[Statement]:
    """The statements that add tables, as a person may run them; with `whole`, with all that inherits from them.

    Those with a chunk in tiered storage, which no publication takes, come alone: their other chunks are added by a sync.
    """
    return [
        _addition(publication, names[first : first + TABLES_TO_READ], whole=whole, tiered=tiered)
        for first in range(0, len(names), TABLES_TO_READ)
    ]


def widening(publication: str, names: Sequence[QualifiedName]) -> list[Statement]:
    """The statements after which all rows and columns of tables are published."""
    return [
        Statement.of(
            sql.SQL("ALTER PUBLICATION {} {} TABLE {}").format(sql.Identifier(publication), verb, tables)
        )
        for first in range(0, len(names), TABLES_TO_READ)
        for tables in [_listed_in(names[first : first + TABLES_TO_READ])]
        for verb in (sql.SQL("DROP"), sql.SQL("ADD"))
    ]


def publishing(publication: str) -> Statement:
    """The statement after which it publishes every kind of change."""
    statement = sql.SQL("ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate')")
    return Statement.of(statement.format(sql.Identifier(publication)))


def _add(connection: Connection, publication: str, tables: Sequence[QualifiedName]) -> None:
    try:
        connection.execute(_addition(publication, tables).text.encode())
    except (errors.DuplicateObject, errors.UndefinedTable, errors.InvalidSchemaName):
        if len(tables) > 1:
            middle = len(tables) // 2
            _add(connection, publication, tables[:middle])
            _add(connection, publication, tables[middle:])
    except errors.InsufficientPrivilege as error:
        doing = f"Adding tables to the publication {publication}"
        raise _forbidden(error, doing, addition(publication, tables)) from None
    except psycopg.Error as error:
        raise connector_error(error, f"Adding tables to the publication {publication}") from None


def _addition(
    publication: str,
    tables: Sequence[QualifiedName],
    *,
    whole: bool = False,
    tiered: Container[QualifiedName] = (),
) -> Statement:
    """For a script, the first of them stands for all."""
    each = _listed_in(tables, whole=whole, tiered=tiered)
    return Statement.of(
        sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(sql.Identifier(publication), each),
        unless=sql.SQL(
            "EXISTS (SELECT FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid"
            " WHERE p.pubname = {} AND r.prrelid = to_regclass({}))"
        ).format(publication, _table(tables[0]).as_string(None)),
    )


def _listed_in(
    tables: Sequence[QualifiedName], *, whole: bool = False, tiered: Container[QualifiedName] = ()
) -> sql.Composed:
    return sql.SQL(", ").join(_listing(name, whole=whole and name not in tiered) for name in tables)


def _table(name: QualifiedName) -> sql.Identifier:
    return sql.Identifier(*name)


def _listing(name: QualifiedName, *, whole: bool) -> sql.Composed:
    """A table as a publication lists it, with all that inherits from it or alone."""
    return sql.SQL("{}" if whole else "ONLY {}").format(_table(name))


def _forbidden(error: psycopg.Error, doing: str, statements: Sequence[Statement]) -> ConnectorError:
    plain = connector_error(error, doing)
    return ConfigurationError(
        plain.message,
        remedy="Run that as the owner of the publication and its tables, or as a superuser.",
        detail=plain.detail,
        statements=statements,
    )


def _would_break(name: str, unsafe: Sequence[ReplicaIdentity]) -> ConfigurationError:
    return ConfigurationError(
        f"The publication {name} was not created: UPDATE and DELETE would then fail on tables without a usable replica "
        f"identity: {listed([identity.name for identity in unsafe])}.",
        remedy="Run that as their owner.",
        statements=[identity.remedy for identity in unsafe],
    )
