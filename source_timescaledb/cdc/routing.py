"""From a relation of the stream to the stream of the user: whose rows these are, how they are written and judged.

The server sends a Relation message before the first change of a relation and again whenever its definition changed. Under
TimescaleDB that relation is a chunk. A route is made from the message, and so is right for exactly the rows that follow
it: columns are found by name, because chunks order them differently, under an older name where they were renamed
(`cdc.columns`), and rendered by the type that the message tells, so that rows from before an ALTER TABLE come out as what
they were. What cannot be told rightly stops the sync when it is to be told, not before: a stream that is read anew passes
over all of it.

What the catalog says today may be newer than the row: a chunk can be unknown, because it was born since we looked, or
gone, because it was dropped since the row was written. The first is looked up. The second is known from before, or by the
name that TimescaleDB gives its chunks: the prefix of the hypertable, by default with its id, and the chunk's own id
(`_hyper_1_2_chunk`, src/chunk.c@2.29.2). Nothing is ever emitted under an internal name: a relation without a stream is
passed over if we can say whose it is, and stops the sync if we cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from psycopg import sql

from source_timescaledb.cdc.columns import Attribute, Places, places
from source_timescaledb.cdc.coverage import ChunkJudge, KeyJudge, Placing, Verdict, WholeJudge
from source_timescaledb.cdc.followed import FollowedStream
from source_timescaledb.cdc.keys import Placement, rankings
from source_timescaledb.errors import ConfigurationError, DefectError
from source_timescaledb.hypertables.bounds import internal_of
from source_timescaledb.hypertables.model import QualifiedName, TimeKind
from source_timescaledb.pgoutput import messages
from source_timescaledb.pgoutput.inserts import RunWriter, run_writer
from source_timescaledb.pgoutput.messages import TupleData
from source_timescaledb.pgoutput.rows import Field
from source_timescaledb.snapshot.query import CHUNK_COLUMN
from source_timescaledb.state.model import Key
from source_timescaledb.types.definition import Verbatim
from source_timescaledb.types.model import Kind, PgType
from source_timescaledb.types.money import MoneyFormat
from source_timescaledb.types.rendering import text_rendering
from source_timescaledb.types.row import key

CHUNK_NAME: Final = re.compile(r"(.+)_(\d+)_chunk")
DEFAULT_PREFIX: Final = re.compile(r"_hyper_(\d+)")
CHUNK_SCHEMA: Final = "_timescaledb_internal"
NO_CHUNK: Final = re.compile(r".*compress.*|_materialized_hypertable_\d+|bgw_.*|job_.*")
"""What else can be dropped from that schema: relations of compressed rows (`compress_hyper_5_7_chunk`; 2.29:
`..._compressed`), the tables of continuous aggregates, and tables that an update of the extension makes anew."""

Judge = Verdict | ChunkJudge | KeyJudge | WholeJudge


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose rows a relation holds."""

    stream: FollowedStream
    chunk: int | None
    """The id of the chunk; None for a plain table or a partition, and for a hypertable's own, always empty table."""
    gone: bool = False
    """Whether the chunk had been dropped when the stream told of it."""


class Catalog(Protocol):
    """What the router asks the database."""

    def owner(self, oid: int) -> Owner | None:
        """Whose rows a relation holds as the catalog has it now; None if they are nobody's that is followed."""

    def exists(self, oid: int, xid: int) -> bool:
        """Whether there is such a relation, asked once the transaction that tells of it is visible."""

    def chunk_prefix(self, stream: FollowedStream) -> tuple[str, str] | None:
        """The schema and the prefix of the names that a hypertable's chunks get."""

    def attributes(self, stream: FollowedStream, oid: int) -> tuple[Attribute, ...]:
        """The places for columns of a relation, or where it is gone, of the stream's."""

    def types(self, oids: Iterable[int]) -> Mapping[int, PgType]:
        """Types by their oids; those that are gone are missing."""

    def positions(
        self, stream: FollowedStream, bounds: tuple[Key, ...], keys: Sequence[Key]
    ) -> Sequence[int]:
        """For each key, how many of the bounds, which are keys in order, are not above it."""


@dataclass(slots=True)
class Route:
    """The way of one relation's changes, until the server describes it anew."""

    owner: Owner
    relation: messages.Relation
    fields: tuple[Field, ...]
    insert: RunWriter
    start: bytes
    """What every record line begins with."""
    infix: bytes
    """What stands between a row's fields and those of the change."""
    time: int | None
    """Where the time dimension is among the relation's columns."""
    key: tuple[int, ...]
    """Where the columns of the stream's key are; empty where it has none, or the relation lacks one."""
    tells_key: bool
    """Whether an old row has the stream's key: the replica identity holds it."""
    refreshed: bool
    """Whether a transaction may insert its deleted rows again (`FollowedStream.refreshed`), and tells which they are."""
    trouble: ConfigurationError | None
    """Why its rows cannot be told rightly."""
    judge: Judge
    placing: Placing

    def is_news(self, xid: int, row: TupleData) -> bool:
        """Whether a change of this row, of which at least the replica identity is known, is to be emitted."""
        match self.judge:
            case Verdict.NEWS:
                return True
            case Verdict.UNREAD:
                self.owner.stream.coverage.skipped.add(xid)
                return False
            case ChunkJudge() as judge:
                return judge.is_news(xid, self._time_of(row))
            case KeyJudge() as judge:
                if not self.key:
                    self.check()
                return judge.is_news(xid, self.key_of(row))
            case WholeJudge() as judge:
                return judge.is_news(xid)

    def key_of(self, row: TupleData) -> Key:
        """The values of the stream's key in a row."""
        return tuple(_text(row[position]).decode() for position in self.key)

    def name_of(self, row: TupleData) -> bytes:
        """The values of the stream's key in a row as one, by which rows are told apart; no text holds a zero byte."""
        values = (row[position] for position in self.key)
        return b"\0".join(b"n" if value is None else b"t" + _text(value) for value in values)

    def moves(self, old: TupleData, new: TupleData) -> bool:
        """Whether an UPDATE takes a row from its key; without a key the whole row is one, so it always does."""
        return not self.key or any(old[position] != new[position] for position in self.key)

    def loses(self, xid: int) -> bool:
        """Whether a TRUNCATE by this transaction took rows that were read or told.

        A hypertable's own table has none; it is truncated when `create_hypertable` has moved its rows into chunks.
        """
        stream, chunk = self.owner.stream, self.owner.chunk
        if chunk is None and stream.hypertable is not None:
            return False
        match self.judge:
            case Verdict() as verdict:
                return verdict is Verdict.NEWS
            case ChunkJudge():
                assert chunk is not None
                return stream.coverage.has_read(chunk, xid)
            case KeyJudge() as judge:
                return judge.has_read(xid)
            case WholeJudge() as judge:
                return judge.is_news(xid)

    def check(self, *, old: bool = False) -> None:
        """Refuse to tell a row that cannot be told rightly; with `old`, one that was there before.

        Raises ConfigurationError.
        """
        if self.trouble is not None:
            raise self.trouble
        if old and not self.tells_key:
            relation = self.owner.stream.relation
            name, table, columns = relation.name, _quoted(relation.table), ", ".join(relation.key)
            raise ConfigurationError(
                f"The replica identity of {name} leaves out columns of its key ({columns}), so the server does not tell "
                "which rows were changed or deleted.",
                remedy=f"ALTER TABLE {table} REPLICA IDENTITY DEFAULT, or FULL; then refresh the stream.",
            )

    def rejudge(self) -> None:
        """Judge by what is read by now."""
        coverage, owner = self.owner.stream.coverage, self.owner
        if owner.chunk is None:
            self.judge = coverage.of_table(self.placing)
        elif owner.gone:
            self.judge = coverage.of_dropped_chunk(owner.chunk)
        else:
            self.judge = coverage.of_chunk(owner.chunk)

    def _time_of(self, row: TupleData) -> int:
        hypertable = self.owner.stream.hypertable
        assert hypertable is not None
        kind = hypertable.time.time
        if kind is None or kind is TimeKind.OPAQUE:
            return hypertable_floor(self)
        if self.time is None:
            self.check()
        assert self.time is not None
        return internal_of(kind, _text(row[self.time]))


def hypertable_floor(route: Route) -> int:
    """A time that lies in the chunk: behind a custom partitioning function a chunk is one slice, so any will do."""
    judge = route.judge
    assert isinstance(judge, ChunkJudge)
    return judge.spans[0].lower


def _text(value: bytes | messages.Unchanged | None) -> bytes:
    if not isinstance(value, bytes):
        raise DefectError("A row came without the value of its time or key column.")
    return value


@dataclass(slots=True)
class Router:
    """Knows the route of every relation that the stream has described; not thread-safe."""

    catalog: Catalog
    streams: tuple[FollowedStream, ...]
    line_start: Callable[[FollowedStream], bytes]
    currency: MoneyFormat
    on_ignored: Callable[[QualifiedName], None]
    _routes: dict[bytes, Route | None] = field(default_factory=dict)
    _owners: dict[int, Owner] = field(default_factory=dict)
    """Remembered for chunks that are dropped while the stream still tells of them."""
    _types: dict[int, PgType] = field(default_factory=dict)

    def describe(self, relation: messages.Relation, xid: int) -> Owner | None:
        """Take note of a Relation message of a transaction; whose it is.

        Raises ConnectorError if its rows can be given to nobody.
        """
        owner = self._owner(relation, xid)
        route = None if owner is None else self._route(owner, relation)
        self._routes[relation.oid.to_bytes(4, "big")] = route
        return owner

    def route(self, oid: bytes) -> Route | None:
        """The route of a relation, by the four bytes of its oid; None where nobody follows it.

        Raises DefectError if the stream has not described it.
        """
        try:
            return self._routes[oid]
        except KeyError:
            raise DefectError("The server sent a change of a relation that it had not described.") from None

    def rejudge(self) -> None:
        """Judge all routes by what is read by now, and date their records by the clock on the wall."""
        for route in self._routes.values():
            if route is not None:
                route.start = self.line_start(route.owner.stream)
                route.rejudge()

    def forget(self) -> None:
        """A new session of the server describes every relation anew."""
        self._routes.clear()

    def _owner(self, relation: messages.Relation, xid: int) -> Owner | None:
        known = self._owners.get(relation.oid) or self.catalog.owner(relation.oid)
        if known is not None:
            self._owners[relation.oid] = known
            return known
        if self.catalog.exists(relation.oid, xid):
            return None
        return self._owner_of_the_gone(relation)

    def _owner_of_the_gone(self, relation: messages.Relation) -> Owner | None:
        """Whose a relation was that has been dropped since."""
        name = QualifiedName(relation.schema, relation.name)
        parts = CHUNK_NAME.fullmatch(relation.name)
        if parts is not None:
            prefix, chunk = parts[1], int(parts[2])
            for stream in self.streams:
                if stream.hypertable is not None and (
                    self.catalog.chunk_prefix(stream) == (relation.schema, prefix)
                    or prefix == f"_hyper_{stream.hypertable.id}"
                ):
                    return Owner(stream, chunk, gone=True)
            if DEFAULT_PREFIX.fullmatch(prefix):
                return None
        if relation.schema == CHUNK_SCHEMA and not NO_CHUNK.fullmatch(relation.name):
            raise ConfigurationError(
                f"The stream holds rows of {name}, which has been dropped since, and its name does not tell to which "
                "hypertable it belonged.",
                remedy="Clear the state of the connection, so that everything is read again; or drop the chunk's changes "
                "by advancing the slot (pg_replication_slot_advance) past them.",
            )
        self.on_ignored(name)
        return None

    def _route(self, owner: Owner, relation: messages.Relation) -> Route:
        stream = owner.stream
        keys = stream.relation.key
        found, trouble = self._places(stream, relation)
        positions = found.positions
        fields = tuple(
            self._field(relation, positions.get(column.name), name)
            for column, name in zip(stream.columns, stream.keys, strict=True)
        )
        key_positions = tuple(positions[name] for name in keys) if positions.keys() >= set(keys) else ()
        hypertable = stream.hypertable

        ask = partial(self.catalog.positions, stream)
        rank = rankings(stream.relation)

        tells_key = _tells_key(relation, keys, key_positions)
        route = Route(
            owner=owner,
            relation=relation,
            fields=fields,
            insert=run_writer(relation, fields) if trouble is None else _refusing(trouble),
            start=self.line_start(stream),
            infix=(b"," if fields else b"") + _metadata(stream, owner, relation),
            time=positions.get(hypertable.time.column) if hypertable is not None else None,
            key=key_positions,
            tells_key=tells_key,
            refreshed=stream.refreshed and tells_key,
            trouble=trouble,
            judge=Verdict.NEWS,
            placing=lambda bounds: Placement(bounds, ask, rank),
        )
        route.rejudge()
        return route

    def _places(
        self, stream: FollowedStream, relation: messages.Relation
    ) -> tuple[Places, ConfigurationError | None]:
        """Where the stream's columns are in a row, and why that cannot be said."""
        told = [column.name for column in relation.columns]
        wanted = {column.name for column in stream.columns} | set(stream.relation.key)
        if stream.hypertable is not None:
            wanted.add(stream.hypertable.time.column)
        if wanted <= set(told):
            return places(told, ()), None
        today = self.catalog.attributes(stream, relation.oid)
        found = places(told, today)
        missing = wanted - found.positions.keys()
        existing = {one.name for one in today}
        if gone := sorted(missing - existing):
            return found, ConfigurationError(
                f"These columns of {stream.name} were dropped or renamed: {', '.join(gone)}.",
                remedy="Refresh the source schema in the connection, and sync again.",
            )
        if any(name in missing - found.uncertain for name in stream.relation.key):
            return found, ConfigurationError(
                f"The stream tells of rows of {stream.name} from before it got the columns of its key.",
                remedy="Refresh the stream, so that it is read again.",
            )
        if uncertain := sorted(missing & found.uncertain):
            return found, ConfigurationError(
                f"Columns of {stream.name} were dropped and others renamed or added since the last sync, and the stream "
                f"does not tell which values belong to: {', '.join(uncertain)}.",
                remedy="Refresh the stream, so that it is read again.",
            )
        return found, None

    def _field(self, relation: messages.Relation, position: int | None, name: bytes) -> Field:
        if position is None:
            return Field(None, name, Verbatim.BARE)
        column = relation.columns[position]
        if column.type_oid not in self._types:
            wanted = {column.type_oid for column in relation.columns} - self._types.keys()
            self._types.update(self.catalog.types(wanted))
        type_ = self._types.get(column.type_oid, _FORGOTTEN)
        return Field(position, name, text_rendering(type_, column.typmod, self.currency))


def _tells_key(relation: messages.Relation, names: tuple[str, ...], positions: tuple[int, ...]) -> bool:
    if not names:
        return True
    return bool(positions) and all(relation.columns[position].is_key for position in positions)


def _refusing(trouble: ConfigurationError) -> RunWriter:
    def refuse(
        _run: Sequence[bytes], _now: int, _start: bytes, _infix: bytes, _tail: bytes
    ) -> tuple[list[bytes], int]:
        raise trouble

    return refuse


def _quoted(name: QualifiedName) -> str:
    return sql.Identifier(*name).as_string(None)


def _metadata(stream: FollowedStream, owner: Owner, relation: messages.Relation) -> bytes:
    if not stream.metadata:
        return b""
    chunk = key(f"{relation.schema}.{relation.name}") if owner.chunk is not None else "null"
    return f"{key(CHUNK_COLUMN)}:{chunk},".encode()


_FORGOTTEN: Final = PgType(0, "", "", Kind.BASE)
"""A type that has been dropped since: its values are passed on as text."""
