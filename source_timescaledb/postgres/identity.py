"""Replica identities: by which columns the write-ahead log tells the old rows of a table.

A publication of updates or deletes makes the application's own UPDATE and DELETE fail (55000) on every table in it that
has no usable one: for example a hypertable without a primary key, or the hypertable behind a continuous aggregate, whose
refresh deletes. A hypertable passes its identity on to its chunks, so one can only be worse off than its parent where
somebody has meddled with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from psycopg import sql

from source_timescaledb.hypertables.catalog import key_index
from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.remedy import Statement

_QUERY: Final = """
WITH RECURSIVE family AS (
    SELECT o::oid AS oid, NULL::oid AS parent, o::oid AS head FROM unnest(%s::int8[]) o
    UNION
    SELECT i.inhrelid, i.inhparent, f.head FROM pg_catalog.pg_inherits i JOIN family f ON f.oid = i.inhparent),
identity AS (
    SELECT f.oid, f.parent, f.head, n.nspname::text AS schema, c.relname::text AS name, c.relreplident,
           c.relreplident = 'f' OR x.columns IS NOT NULL AS usable, x.columns
    FROM family f JOIN pg_catalog.pg_class c ON c.oid = f.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN LATERAL (
        SELECT array_agg(a.attname::text ORDER BY a.attname) AS columns
        FROM pg_catalog.pg_index x CROSS JOIN LATERAL unnest((x.indkey::int2[])[0:x.indnkeyatts - 1]) number
        JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = number
        WHERE x.indrelid = c.oid AND x.indimmediate AND (x.indisvalid OR c.relkind = 'p')
          AND CASE c.relreplident WHEN 'd' THEN x.indisprimary WHEN 'i' THEN x.indisreplident ELSE false END) x ON true
    WHERE c.relkind IN ('r', 'p')),
told AS MATERIALIZED (
    SELECT DISTINCT ON (i.oid) i.*
    FROM identity i LEFT JOIN identity p ON p.oid = i.parent
    WHERE i.parent IS NULL
       OR i.relreplident <> 'f' AND (i.usable, i.columns) IS DISTINCT FROM (p.usable, p.columns)
    ORDER BY i.oid, i.parent NULLS FIRST)
SELECT t.oid::int8, t.schema, t.name, t.relreplident::text, t.usable,
       CASE WHEN k.indimmediate THEN (SELECT relname::text FROM pg_catalog.pg_class WHERE oid = k.indexrelid) END,
       coalesce(k.indisprimary, false), coalesce(t.columns, '{{}}'), CASE WHEN t.parent IS NOT NULL THEN t.head::int8 END
FROM told t LEFT JOIN LATERAL ({key_index}) k ON true
ORDER BY 1
"""
"""The relations asked for, and those below them that tell less of an old row than their parents, or something else."""

_IDENTITIES: Final = _QUERY.format(key_index=key_index("t.oid"))


class Identity(Enum):
    """How rows are told apart in the write-ahead log (`pg_class.relreplident`)."""

    DEFAULT = "d"
    NOTHING = "n"
    FULL = "f"
    INDEX = "i"


@dataclass(frozen=True, slots=True)
class ReplicaIdentity:
    """A relation's replica identity, and whether an UPDATE of it survives a publication of updates."""

    oid: int
    name: QualifiedName
    identity: Identity
    usable: bool
    candidate: str | None
    """The index that the key of its stream is of, where it could serve."""
    primary: bool = False
    """Whether that is the primary key."""
    columns: frozenset[str] = frozenset()
    """Those of the index by which rows are told apart; none under FULL, which has them all."""
    family: int | None = None
    """The oid of the relation above it that was asked for; None for one that was asked for itself."""

    def tells(self, key: Iterable[str]) -> bool:
        """Whether an old row has these columns; without any, whether it is whole."""
        names = set(key)
        whole = self.identity is Identity.FULL
        return self.usable and (whole or (bool(names) and names <= self.columns))

    @property
    def remedy(self) -> Statement:
        """The SQL after which it tells the key, or all; TimescaleDB (2.12 and later) passes it on to all chunks."""
        if self.candidate is None:
            return identification(self.name)
        table, index = sql.Identifier(*self.name), sql.Identifier(self.candidate)
        if self.primary:
            return Statement.of(sql.SQL("ALTER TABLE {} REPLICA IDENTITY DEFAULT").format(table))
        return Statement.of(sql.SQL("ALTER TABLE {} REPLICA IDENTITY USING INDEX {}").format(table, index))


def identification(table: QualifiedName) -> Statement:
    """The statement after which the log tells old rows in whole."""
    return Statement.of(sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(sql.Identifier(*table)))


def replica_identities(connection: Connection, oids: Iterable[int]) -> list[ReplicaIdentity]:
    """The replica identities of tables, and of those below them that have another one than their parents and no better.

    Raises psycopg errors as they come.
    """
    rows = connection.execute(_IDENTITIES, [list(oids)]).fetchall()
    return [
        ReplicaIdentity(
            oid=oid,
            name=QualifiedName(schema, name),
            identity=Identity(setting),
            usable=usable,
            candidate=candidate,
            primary=primary,
            columns=frozenset(columns),
            family=family,
        )
        for oid, schema, name, setting, usable, candidate, primary, columns, family in rows
    ]


def unsafe_identities(connection: Connection, oids: Iterable[int]) -> list[ReplicaIdentity]:
    """Those tables, and their chunks, on which UPDATE and DELETE would fail under a publication of them.

    Raises psycopg errors as they come.
    """
    return [identity for identity in replica_identities(connection, oids) if not identity.usable]
