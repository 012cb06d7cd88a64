"""What the router and the changes ask the database, each in one short question that is tried again if it fails.

Whose rows a relation holds is asked of `pg_inherits`, which is the same in every version of TimescaleDB: a chunk inherits
from its hypertable, a partition from its table.

Unchanged large values are looked up by key, all of a batch in one message. The first statement tells the snapshot: while
a commit waits for a synchronous standby it is decoded already, and a look-up that does not see it would find the value
from before it and keep that for good. Each statement after the first sees at least as much.

A row that its chunk does not have is looked for in the hypertable: another chunk may have taken the chunk in, or the
statement took its snapshot before it had its turn behind a decompression, and saw nothing of what that wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Protocol, TypeVar

import psycopg
from psycopg import sql

from source_timescaledb.cdc.columns import Attribute
from source_timescaledb.cdc.followed import FollowedStream
from source_timescaledb.cdc.route import Owner
from source_timescaledb.cdc.unsent import Wanted
from source_timescaledb.cdc.visibility import Snapshot
from source_timescaledb.errors import ContentionError, DefectError
from source_timescaledb.hypertables.model import QualifiedName, ServerVersion
from source_timescaledb.hypertables.registry import read_chunk
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.postgres.durability import ensure_durable
from source_timescaledb.postgres.streaming import stream
from source_timescaledb.snapshot.query import compare, positions_query, relation_name
from source_timescaledb.state.model import Key
from source_timescaledb.types.model import TYPE_QUERY, PgType, types_from_rows
from source_timescaledb.types.money import MONEY_QUERY, MoneyFormat, money_format_from_row

Answer = TypeVar("Answer")

_ANCESTORS: Final = """
WITH RECURSIVE up AS (
  SELECT %(oid)s::oid AS oid
  UNION
  SELECT inhparent FROM pg_catalog.pg_inherits JOIN up ON inhrelid = up.oid
)
SELECT oid::int8 FROM up
"""
_EXISTS: Final = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = %s), pg_catalog.pg_current_snapshot()::text
"""
_PREFIX: Final = """
SELECT associated_schema_name::text, associated_table_prefix::text FROM _timescaledb_catalog.hypertable WHERE id = %s
"""
_ATTRIBUTES: Final = """
SELECT CASE WHEN NOT attisdropped THEN attname::text END, attgenerated <> '' FROM pg_catalog.pg_attribute
 WHERE attrelid = %s::int8::oid AND attnum > 0 ORDER BY attnum
"""
_NAME: Final = """
SELECT nspname::text, relname::text FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
 WHERE pg_class.oid = %s
"""

Values = Mapping[int, "bytes | None"]


class Ask(Protocol):
    """Puts a question to the database, with retries; the text is the subject of an error's sentence."""

    def __call__(self, question: Callable[[Connection], Answer], doing: str) -> Answer:
        """Raises ConnectorError."""


@dataclass(slots=True)
class LiveCatalog:
    """The catalog as it is now."""

    ask: Ask
    streams: Sequence[FollowedStream]
    extension: ServerVersion | None

    def owner(self, oid: int) -> Owner | None:
        """Whose rows a relation holds; None if they are nobody's that is followed."""
        return self.ask(
            lambda connection: self._owner(connection, oid), "Looking up a relation of the stream"
        )

    def _owner(self, connection: Connection, oid: int) -> Owner | None:
        above = {row[0] for row in connection.execute(_ANCESTORS, {"oid": oid}).fetchall()}
        for followed in self.streams:
            hypertable = followed.hypertable
            if hypertable is None and followed.relation.oid in above:
                return Owner(followed, None)
            if hypertable is not None and hypertable.oid in above:
                assert self.extension is not None
                chunk = read_chunk(connection, self.extension, hypertable, oid)
                return Owner(followed, chunk.id if chunk is not None else None)
        return None

    def exists(self, oid: int, xid: int) -> bool:
        """Whether there is such a relation.

        The transaction that tells of it may have made it, and be decoded before it is visible: that is waited for.
        """

        def question(connection: Connection) -> bool:
            row = connection.execute(_EXISTS, [oid]).fetchone()
            assert row is not None
            if not row[0]:
                _check_seen(Snapshot.parse(row[1]), [xid])
            return bool(row[0])

        return self.ask(question, "Looking up a relation of the stream")

    def chunk_prefix(self, followed: FollowedStream) -> tuple[str, str] | None:
        """The schema and the prefix of the names that a hypertable's chunks get."""
        assert followed.hypertable is not None
        hypertable = followed.hypertable.id

        def question(connection: Connection) -> tuple[str, str] | None:
            row = connection.execute(_PREFIX, [hypertable]).fetchone()
            return (row[0], row[1]) if row else None

        return self.ask(question, f"Looking up the chunks' names of {followed.name}")

    def attributes(self, followed: FollowedStream, oid: int) -> tuple[Attribute, ...]:
        """The places for columns of a relation, or where it is gone, of the stream's."""

        def question(connection: Connection) -> tuple[Attribute, ...]:
            rows = connection.execute(_ATTRIBUTES, [oid]).fetchall()
            rows = rows or connection.execute(_ATTRIBUTES, [followed.relation.oid]).fetchall()
            return tuple(Attribute(name, generated=generated) for name, generated in rows)

        return self.ask(question, f"Looking up the columns of {followed.name}")

    def types(self, oids: Iterable[int]) -> Mapping[int, PgType]:
        """Types by their oids; those that are gone are missing."""
        wanted = {"oids": list(oids)}
        return self.ask(
            lambda connection: types_from_rows(connection.execute(TYPE_QUERY, wanted).fetchall()),
            "Looking up the types of columns",
        )

    def positions(
        self, followed: FollowedStream, bounds: tuple[Key, ...], keys: Sequence[Key]
    ) -> Sequence[int]:
        """For each key, how many of the bounds, which are keys in order, are not above it."""
        query = positions_query(followed.relation, bounds, keys)
        return self.ask(
            lambda connection: [int(row[0]) for row in connection.execute(query).fetchall()],
            f"Comparing keys of {followed.name}",
        )


@dataclass(slots=True)
class LiveLookup:
    """Looks values up in the tables as they are now."""

    ask: Ask

    def __call__(self, wanted: Sequence[Wanted]) -> Sequence[Values | None]:
        """For each row its unchanged values by position, as the server writes them; None for a row that is gone.

        Raises ConnectorError, a passing one while the server does not see the transactions yet.
        """
        return self.ask(lambda connection: _look_up(connection, wanted), "Looking up large values")


def _look_up(connection: Connection, wanted: Sequence[Wanted]) -> list[Values | None]:
    found: list[Values | None] = []
    for oid, rows in groupby(wanted, key=lambda one: one.route.relation.oid):
        name = connection.execute(_NAME, [oid]).fetchone()
        group = list(rows)
        here = [None] * len(group) if name is None else _rows_of(connection, QualifiedName(*name), group)
        found += _found_elsewhere(connection, group, here)
    ensure_durable(connection)
    return found


def _found_elsewhere(
    connection: Connection, wanted: Sequence[Wanted], here: Sequence[Values | None]
) -> Iterator[Values | None]:
    """The same, with what the chunk does not have, of one hypertable, from the hypertable."""
    missing = [one for one, values in zip(wanted, here, strict=True) if values is None]
    hypertable = wanted[0].route.owner.stream.hypertable
    elsewhere = iter(_rows_of(connection, hypertable.name, missing) if missing and hypertable else ())
    return (next(elsewhere, None) if values is None else values for values in here)


def _rows_of(connection: Connection, table: QualifiedName, wanted: Sequence[Wanted]) -> list[Values | None]:
    positions = [one.positions for one in wanted]
    statements = ["SELECT pg_catalog.pg_current_snapshot()"]
    statements += [
        _statement(table, one, missing).as_string(None)
        for one, missing in zip(wanted, positions, strict=True)
    ]
    answers: list[list[tuple[bytes | None, ...]]] = [[]]
    try:
        for result in stream(connection, ";".join(statements).encode(), len(statements)):
            if not result.ntuples:
                answers.append([])
            else:
                answers[-1] += [
                    tuple(result.get_value(row, column) for column in range(result.nfields))
                    for row in range(result.ntuples)
                ]
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        return [None] * len(wanted)
    (snapshot,) = answers[0][0]
    assert snapshot is not None
    _check_seen(Snapshot.parse(snapshot.decode()), [one.xid for one in wanted])
    return [
        dict(zip(missing, rows[0], strict=True)) if rows else None
        for missing, rows in zip(positions, answers[1:], strict=False)
    ]


def _statement(table: QualifiedName, wanted: Wanted, positions: Sequence[int]) -> sql.Composed:
    """Ask for a row's missing values; for none where its key is not known."""
    today = {field.position: field.key for field in wanted.route.fields}
    names = sql.SQL(", ").join(sql.Identifier(json.loads(today[position])) for position in positions)
    return sql.SQL("SELECT {} FROM {} WHERE {}").format(names, relation_name(table), _condition(wanted))


def _condition(wanted: Wanted) -> sql.Composable:
    try:
        key = wanted.route.key_of(wanted.row)
    except DefectError:
        key = ()
    if not key:
        return sql.SQL("false")
    return compare(wanted.route.owner.stream.relation, "=", key)


def _check_seen(snapshot: Snapshot, xids: Iterable[int]) -> None:
    if not all(snapshot.sees(xid) for xid in xids):
        raise ContentionError(
            "Transactions that the stream has shown are not visible yet, which synchronous replication delays.",
            remedy="What they have changed is looked up again in a moment.",
        )


def read_currency(connection: Connection) -> MoneyFormat:
    """How the database writes money, which no setting of ours changes. Raises psycopg errors."""
    row = connection.execute(MONEY_QUERY).fetchone()
    assert row is not None
    return money_format_from_row((int(row[0]), str(row[1])))
