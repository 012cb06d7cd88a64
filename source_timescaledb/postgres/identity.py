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

from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.remedy import Statement

_IDENTITIES: Final = """
WITH RECURSIVE family AS (
    SELECT o::oid AS oid, NULL::oid AS parent FROM unnest(%s::int8[]) o
    UNION
    SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i JOIN family f ON f.oid = i.inhparent),
identity AS (
    SELECT f.oid, f.parent, n.nspname::text AS schema, c.relname::text AS name, c.relreplident,
           CASE c.relreplident
                WHEN 'f' THEN true
                WHEN 'n' THEN false
                ELSE EXISTS (SELECT FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid AND x.indimmediate
                             AND (x.indisvalid OR c.relkind = 'p')
                             AND CASE c.relreplident WHEN 'd' THEN x.indisprimary ELSE x.indisreplident END)
           END AS usable,
           (SELECT min(ic.relname)::text
            FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class ic ON ic.oid = x.indexrelid
            WHERE x.indrelid = c.oid AND x.indisunique AND x.indimmediate AND x.indisvalid
              AND x.indpred IS NULL AND x.indexprs IS NULL
              AND NOT EXISTS (SELECT FROM unnest((x.indkey::int2[])[0:x.indnkeyatts - 1]) k
                              JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k
                              WHERE NOT a.attnotnull)) AS candidate,
           (SELECT array_agg(a.attname::text)
            FROM pg_catalog.pg_index x JOIN pg_catalog.pg_attribute a
              ON a.attrelid = c.oid AND a.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1])
            WHERE x.indrelid = c.oid
              AND CASE c.relreplident WHEN 'd' THEN x.indisprimary ELSE x.indisreplident END) AS columns
    FROM family f JOIN pg_catalog.pg_class c ON c.oid = f.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p'))
SELECT DISTINCT ON (oid) oid::int8, schema, name, relreplident::text, usable, candidate,
       coalesce(columns, '{}'), parent::int8
FROM identity i
WHERE parent IS NULL OR (NOT usable AND NOT EXISTS (SELECT FROM identity p WHERE p.oid = i.parent AND NOT p.usable))
ORDER BY oid, parent NULLS FIRST
"""
"""The relations asked for, and those below them that are worse off than their parents."""


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
    """A unique index over NOT NULL columns that could serve."""
    columns: frozenset[str] = frozenset()
    """Those of the index by which rows are told apart; none under FULL, which has them all."""
    parent: int | None = None
    """The oid of the relation it inherits from, for one that was not asked for itself."""

    def tells(self, key: Iterable[str]) -> bool:
        """Whether an old row has these columns; without any, whether it is whole."""
        names = set(key)
        whole = self.identity is Identity.FULL
        return self.usable and (whole or (bool(names) and names <= self.columns))

    @property
    def remedy(self) -> Statement:
        """The SQL that makes it usable; TimescaleDB (2.12 and later) passes it on to all chunks."""
        if self.candidate is None:
            return identification(self.name)
        statement = sql.SQL("ALTER TABLE {} REPLICA IDENTITY USING INDEX {}")
        return Statement.of(statement.format(sql.Identifier(*self.name), sql.Identifier(self.candidate)))


def identification(table: QualifiedName) -> Statement:
    """The statement after which the log tells old rows in whole."""
    return Statement.of(sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(sql.Identifier(*table)))


def replica_identities(connection: Connection, oids: Iterable[int]) -> list[ReplicaIdentity]:
    """The replica identities of tables, and of those below them that are unusable where the parent's is not.

    Raises psycopg errors as they come.
    """
    rows = connection.execute(_IDENTITIES, [list(oids)]).fetchall()
    return [
        ReplicaIdentity(
            oid, QualifiedName(schema, name), Identity(setting), usable, candidate, frozenset(columns), parent
        )
        for oid, schema, name, setting, usable, candidate, columns, parent in rows
    ]


def unsafe_identities(connection: Connection, oids: Iterable[int]) -> list[ReplicaIdentity]:
    """Those tables, and their chunks, on which UPDATE and DELETE would fail under a publication of them.

    Raises psycopg errors as they come.
    """
    return [identity for identity in replica_identities(connection, oids) if not identity.usable]
