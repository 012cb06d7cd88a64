"""From a relation of the stream to the stream of the user: whose rows these are, how they are written and judged.

The server sends a Relation message before the first change of a relation and again whenever its definition changed. Under
TimescaleDB that relation is a chunk. A route is made from the message, and so is right for exactly the rows that follow
it: columns are found by name, because chunks order them differently, and rendered by the type that the message tells, so
that rows from before an ALTER TABLE come out as what they were.

What the catalog says today may be newer than the row: a chunk can be unknown, because it was born since we looked, or
gone, because it was dropped since the row was written. The first is looked up. The second is known from before, or by the
name that TimescaleDB gives its chunks, which has the ids of its hypertable and its own (`_hyper_1_2_chunk`,
src/chunk.c@2.29.2). Nothing is ever emitted under an internal name: a relation without a stream is passed over if we can
say whose it is, and stops the sync if we cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from source_timescaledb.cdc.coverage import ChunkJudge, KeyJudge, Verdict, WholeJudge
from source_timescaledb.cdc.followed import FollowedStream
from source_timescaledb.errors import ConfigurationError, DefectError
from source_timescaledb.hypertables.bounds import internal_of
from source_timescaledb.hypertables.model import QualifiedName, TimeKind
from source_timescaledb.pgoutput import messages
from source_timescaledb.pgoutput.inserts import RowWriter, row_writer
from source_timescaledb.pgoutput.messages import TupleData
from source_timescaledb.pgoutput.rows import QUOTED, Field
from source_timescaledb.snapshot.query import CHUNK_COLUMN
from source_timescaledb.state.model import Key
from source_timescaledb.types.definition import Verbatim
from source_timescaledb.types.model import Kind, PgType
from source_timescaledb.types.money import MoneyFormat
from source_timescaledb.types.rendering import text_rendering
from source_timescaledb.types.row import key

CHUNK_NAME: Final = re.compile(r"_hyper_(\d+)_(\d+)_chunk")
COMPRESSED: Final = "compress"
"""In the name of every relation that holds compressed rows (`compress_hyper_5_7_chunk`; 2.29: `..._compressed`)."""
INTERNAL_SCHEMA: Final = re.compile(r"_?timescaledb_.*")

Judge = Verdict | ChunkJudge | KeyJudge | WholeJudge


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose rows a relation holds."""

    stream: FollowedStream
    chunk: int | None
    """The id of the chunk; None for a plain table or a partition, and for a hypertable's own, always empty table."""


class Catalog(Protocol):
    """What the router asks the database."""

    def owner(self, oid: int) -> Owner | None:
        """Whose rows a relation holds as the catalog has it now; None if they are nobody's that is followed."""

    def exists(self, oid: int) -> bool:
        """Whether there is such a relation."""

    def types(self, oids: Iterable[int]) -> Mapping[int, PgType]:
        """Types by their oids; those that are gone are missing."""

    def columns(self, stream: FollowedStream) -> frozenset[str]:
        """The columns that the stream's relation has now."""

    def position(self, stream: FollowedStream, bounds: tuple[Key, ...], key: Key) -> int:
        """How many of the bounds, which are keys in order, are not above a key."""


@dataclass(slots=True)
class Route:
    """The way of one relation's changes, until the server describes it anew."""

    owner: Owner
    relation: messages.Relation
    fields: tuple[Field, ...]
    insert: RowWriter
    start: bytes
    """What every record line begins with."""
    infix: bytes
    """What stands between a row's fields and those of the change."""
    time: int | None
    """Where the time dimension is among the relation's columns."""
    key: tuple[int, ...]
    """Where the columns of the stream's key are; empty where it has none, or the relation lacks one."""
    judge: Judge
    position: Callable[[tuple[Key, ...], Key], int]

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
                return judge.is_news(xid, self.key_of(row))
            case WholeJudge() as judge:
                return judge.is_news(xid)

    def key_of(self, row: TupleData) -> Key:
        """The values of the stream's key in a row."""
        return tuple(_text(row[position]).decode() for position in self.key)

    def rejudge(self) -> None:
        """Judge by what is read by now."""
        coverage = self.owner.stream.coverage
        chunk = self.owner.chunk
        self.judge = coverage.of_table(self.position) if chunk is None else coverage.of_chunk(chunk)

    def _time_of(self, row: TupleData) -> int:
        hypertable = self.owner.stream.hypertable
        assert hypertable is not None
        kind = hypertable.time.time
        if kind is None or kind is TimeKind.OPAQUE:
            return hypertable_floor(self)
        assert self.time is not None
        return internal_of(kind, _text(row[self.time]))


def hypertable_floor(route: Route) -> int:
    """A time that lies in the chunk: behind a custom partitioning function a chunk is one slice, so any will do."""
    judge = route.judge
    assert isinstance(judge, ChunkJudge)
    spans = [span for span, _ in judge.fresh] or list(judge.unread)
    return spans[0].lower


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

    def remember(self, oid: int, owner: Owner) -> None:
        """Whose a relation is, as the catalog has just said."""
        self._owners[oid] = owner

    def describe(self, relation: messages.Relation) -> None:
        """Take note of a Relation message. Raises ConnectorError if its rows can be given to nobody."""
        owner = self._owner(relation)
        route = None if owner is None else self._route(owner, relation)
        self._routes[relation.oid.to_bytes(4, "big")] = route

    def route(self, oid: bytes) -> Route | None:
        """The route of a relation, by the four bytes of its oid; None where nobody follows it.

        Raises DefectError if the stream has not described it.
        """
        try:
            return self._routes[oid]
        except KeyError:
            raise DefectError("The server sent a change of a relation that it had not described.") from None

    def owner_of(self, oid: int) -> Owner | None:
        """Whose a relation is, of those that the stream has described."""
        route = self._routes.get(oid.to_bytes(4, "big"))
        return route.owner if route is not None else None

    def rejudge(self) -> None:
        """Judge all routes by what is read by now, and date their records by the clock on the wall."""
        for route in self._routes.values():
            if route is not None:
                route.start = self.line_start(route.owner.stream)
                route.rejudge()

    def forget(self) -> None:
        """A new session of the server describes every relation anew."""
        self._routes.clear()

    def _owner(self, relation: messages.Relation) -> Owner | None:
        known = self._owners.get(relation.oid) or self.catalog.owner(relation.oid)
        if known is not None:
            self._owners[relation.oid] = known
            return known
        if self.catalog.exists(relation.oid):
            return None
        return self._owner_of_the_gone(relation)

    def _owner_of_the_gone(self, relation: messages.Relation) -> Owner | None:
        """Whose a relation was that has been dropped since."""
        name = QualifiedName(relation.schema, relation.name)
        parts = CHUNK_NAME.fullmatch(relation.name)
        if parts is not None:
            hypertable, chunk = map(int, parts.groups())
            for stream in self.streams:
                if stream.hypertable is not None and stream.hypertable.id == hypertable:
                    return Owner(stream, chunk)
            return None
        if INTERNAL_SCHEMA.fullmatch(relation.schema) and COMPRESSED not in relation.name:
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
        positions = {column.name: index for index, column in enumerate(relation.columns)}
        self._check_missing(stream, positions)
        fields = tuple(
            self._field(relation, positions.get(column.name), name)
            for column, name in zip(stream.columns, stream.keys, strict=True)
        )
        keys = stream.relation.key
        hypertable = stream.hypertable

        def position(bounds: tuple[Key, ...], row_key: Key) -> int:
            return self.catalog.position(stream, bounds, row_key)

        route = Route(
            owner=owner,
            relation=relation,
            fields=fields,
            insert=row_writer(relation, fields),
            start=self.line_start(stream),
            infix=(b"," if fields else b"") + _metadata(stream, owner, relation),
            time=positions.get(hypertable.time.column) if hypertable is not None else None,
            key=tuple(positions[name] for name in keys) if positions.keys() >= set(keys) else (),
            judge=Verdict.NEWS,
            position=position,
        )
        route.rejudge()
        return route

    def _check_missing(self, stream: FollowedStream, positions: Mapping[str, int]) -> None:
        """A column that the row lacks was added later, or was dropped; only the first is null rightly."""
        missing = [column.name for column in stream.columns if column.name not in positions]
        gone = sorted(set(missing) - self.catalog.columns(stream)) if missing else []
        if gone:
            raise ConfigurationError(
                f"These columns of {stream.name} were dropped or renamed: {', '.join(gone)}.",
                remedy="Refresh the source schema in the connection, and sync again.",
            )

    def _field(self, relation: messages.Relation, position: int | None, name: bytes) -> Field:
        if position is None:
            return Field(None, name, None)
        column = relation.columns[position]
        if column.type_oid not in self._types:
            wanted = {column.type_oid for column in relation.columns} - self._types.keys()
            self._types.update(self.catalog.types(wanted))
        type_ = self._types.get(column.type_oid, _FORGOTTEN)
        rendering = text_rendering(type_, column.typmod, self.currency)
        match rendering:
            case Verbatim.BARE:
                return Field(position, name, None)
            case Verbatim.QUOTED:
                return Field(position, name, QUOTED)
            case _:
                return Field(position, name, rendering)


def _metadata(stream: FollowedStream, owner: Owner, relation: messages.Relation) -> bytes:
    if not stream.metadata:
        return b""
    chunk = key(f"{relation.schema}.{relation.name}") if owner.chunk is not None else "null"
    return f"{key(CHUNK_COLUMN)}:{chunk},".encode()


_FORGOTTEN: Final = PgType(0, "", "", Kind.BASE)
"""A type that has been dropped since: its values are passed on as text."""
