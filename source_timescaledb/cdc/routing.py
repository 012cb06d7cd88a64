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

from source_timescaledb.cdc.columns import Attribute, Places, places
from source_timescaledb.cdc.coverage import Verdict
from source_timescaledb.cdc.followed import FollowedStream
from source_timescaledb.cdc.keys import Placement, rankings
from source_timescaledb.cdc.route import Owner, Route
from source_timescaledb.errors import ConfigurationError, DefectError
from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.pgoutput import messages
from source_timescaledb.pgoutput.inserts import RunWriter, run_writer
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
        owner = self._owners.get(relation.oid) or self.catalog.owner(relation.oid)
        if owner is None:
            if not self.catalog.exists(relation.oid, xid):
                return self._owner_of_the_gone(relation)
            owner = self.catalog.owner(relation.oid)  # the transaction that made it may be visible only now
        if owner is not None:
            self._owners[relation.oid] = owner
        return owner

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


def _metadata(stream: FollowedStream, owner: Owner, relation: messages.Relation) -> bytes:
    if not stream.metadata:
        return b""
    chunk = key(f"{relation.schema}.{relation.name}") if owner.chunk is not None else "null"
    return f"{key(CHUNK_COLUMN)}:{chunk},".encode()


_FORGOTTEN: Final = PgType(0, "", "", Kind.BASE)
"""A type that has been dropped since: its values are passed on as text."""
