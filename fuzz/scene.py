"""The path of a sync from messages to lines, without a server: a catalog in memory and one stream, read to some point.

The plain path is the fast one with its writer of rows taken out: each row is decoded and written by itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from fuzz.layouts import TYPES, Layout
from fuzz.sessions import TRUNCATION_FAILS
from source_timescaledb.cdc.changes import Changes
from source_timescaledb.cdc.clock import OrderClock
from source_timescaledb.cdc.columns import Attribute
from source_timescaledb.cdc.coverage import Coverage, Skipped
from source_timescaledb.cdc.followed import FollowedStream
from source_timescaledb.cdc.route import Owner, Route
from source_timescaledb.cdc.routing import Router
from source_timescaledb.cdc.unsent import Wanted
from source_timescaledb.hypertables.model import (
    OPEN_ABOVE,
    OPEN_BELOW,
    Chunk,
    ChunkStatus,
    Column,
    ContinuousAggregate,
    Dimension,
    Hypertable,
    QualifiedName,
    Relation,
    RelationKind,
    Span,
    TimeKind,
)
from source_timescaledb.lsn import Lsn
from source_timescaledb.pgoutput import messages
from source_timescaledb.pgoutput.decoder import decode
from source_timescaledb.pgoutput.inserts import FRAME_BYTES
from source_timescaledb.pgoutput.messages import Insert
from source_timescaledb.pgoutput.rows import write_row
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.snapshot.held import record_start
from source_timescaledb.snapshot.key_plan import KeyPlan
from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.snapshot.plan import Plan, WholePlan
from source_timescaledb.state.model import Key
from source_timescaledb.types.model import PgType
from source_timescaledb.types.money import DOLLARS

SNAPSHOT: Final = "2147483648:2147483648:"
"""Sees half of all transactions."""
CHUNK: Final = 4
_NAME: Final = QualifiedName("public", "parts")
_TABLE: Final = Hypertable(1, 500, _NAME, (Dimension(1, "id", TimeKind.INTEGER, None),))


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a session: lines up to where it was refused, if it was."""

    lines: bytes
    position: int
    error: Exception | None

    @property
    def told(self) -> tuple[object, ...]:
        """What two paths must agree on."""
        return (self.lines, self.position) if self.error is None else (type(self.error), str(self.error))


def pumped(place: int, layout: Layout, payloads: Sequence[bytes], *, plain: bool) -> Ended:
    """Let a stream follow a session in one of the scenes. Whatever is raised is told."""
    owner = _SCENES[place % len(_SCENES)](layout)
    catalog = _Catalog(owner, layout)
    router = (_PlainRouter if plain else Router)(
        catalog, (owner.stream,), lambda _: record_start(_NAME, 0), DOLLARS, lambda _: None
    )
    source = _Source([framed(payload, at) for at, payload in enumerate(payloads) if payload])
    changes = Changes(
        source, router, OrderClock(), _found, position=Lsn(0), truncation_fails=place % TRUNCATION_FAILS == 0
    )
    lines: list[bytes] = []
    try:
        for batch in changes.until(b"never comes"):
            if not batch.records and source.ended:
                break
            lines.append(batch.lines)
    except Exception as error:  # noqa: BLE001 - which exceptions there are is what we are here for
        return Ended(b"".join(lines), changes.position, error)
    return Ended(b"".join(lines), changes.position, None)


def framed(payload: bytes, at: int) -> bytes:
    """A message as it comes: in XLogData."""
    return struct.pack(">cQQQ", b"w", at, at, 0) + payload


class _Source:
    """Everything at once, then nothing."""

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = messages
        self.ended = False

    def drain(self) -> list[bytes]:
        """What has come."""
        come, self._messages = self._messages, []
        self.ended = not come
        return come


@dataclass(frozen=True, slots=True)
class _Catalog:
    """One relation has an owner; another exists and has none."""

    main: Owner
    layout: Layout

    def owner(self, oid: int) -> Owner | None:
        return self.main if oid == self.layout.relation.oid else None

    def exists(self, oid: int, xid: int) -> bool:  # noqa: ARG002 - all is visible here
        return oid % 2 == 0

    def chunk_prefix(self, stream: FollowedStream) -> tuple[str, str] | None:  # noqa: ARG002 - there is one
        return None

    def attributes(self, stream: FollowedStream, oid: int) -> tuple[Attribute, ...]:  # noqa: ARG002 - as above
        return tuple(Attribute(column.name) for column in self.layout.relation.columns)

    def types(self, oids: Iterable[int]) -> Mapping[int, PgType]:
        return {oid: TYPES[oid] for oid in oids if oid in TYPES}

    def positions(
        self,
        stream: FollowedStream,  # noqa: ARG002 - as above
        bounds: tuple[Key, ...],
        keys: Sequence[Key],
    ) -> list[int]:
        return [sum(bound <= key for bound in bounds) for key in keys]


class _PlainRouter(Router):
    """Gives out routes whose rows are decoded and written one by one."""

    def describe(self, relation: messages.Relation, xid: int) -> Owner | None:
        owner = super().describe(relation, xid)
        route = self.route(relation.oid.to_bytes(4, "big"))
        if route is not None and route.trouble is None:
            route.insert = partial(_plainly, route)
        return owner


def _plainly(
    route: Route, run: Sequence[bytes], now: int, start: bytes, infix: bytes, tail: bytes
) -> tuple[list[bytes], int]:
    """What `RunWriter` promises, in the simplest way."""
    lines = []
    for message in run:
        now = max(now + 1, int.from_bytes(message[1:9], "big"))
        insert = decode(message[FRAME_BYTES:])
        assert isinstance(insert, Insert)
        route.expect(insert.new)
        row = write_row(route.fields, insert.new)
        lines.append(b"".join((start, row, infix, b"%d" % now, tail)))
    return lines, now


def _found(wanted: Sequence[Wanted]) -> list[Mapping[int, bytes | None] | None]:
    """Large values that were not sent: some are there, some are gone with their rows."""
    return [None if at % 3 == 2 else dict.fromkeys(one.positions) for at, one in enumerate(wanted)]


def _stream(
    layout: Layout,
    plan: Plan | None = None,
    *,
    key: tuple[str, ...] = ("id",),
    table: Hypertable | None = None,
    refreshed: bool = False,
) -> FollowedStream:
    columns = tuple(
        Column(column.name, TYPES[column.type_oid], -1)
        for at, column in enumerate(layout.relation.columns)
        if at % 5 != 4
    )
    aggregate = ContinuousAggregate(_NAME, _TABLE, finalized=True, readable=True, followed=True)
    relation = Relation(
        oid=500,
        name=_NAME,
        kind=RelationKind.TABLE if table is None else RelationKind.HYPERTABLE,
        columns=columns,
        key=key,
        hypertable=table,
        aggregate=aggregate if refreshed else None,
    )
    return FollowedStream(
        relation, columns, metadata=False, coverage=Coverage(plan, Skipped(), exposed=False)
    )


def _all_read(layout: Layout) -> Owner:
    return Owner(_stream(layout), None)


def _without_key(layout: Layout) -> Owner:
    return Owner(_stream(layout, key=()), None)


def _unread(layout: Layout) -> Owner:
    return Owner(_stream(layout, WholePlan(Pace(limit=1.0))), None)


def _half_of_the_keys(layout: Layout) -> Owner:
    plan = KeyPlan(("id",), Pace(limit=1.0), holding=True)
    stream = _stream(layout, plan)
    first = plan.take(lambda _lower, _upper, _rows: ("424242",))
    assert first is not None
    plan.confirm(first)
    stream.coverage.add(first, SNAPSHOT)
    return Owner(stream, None)


def _half_of_the_chunks(layout: Layout) -> Owner:
    chunks = (_chunk(CHUNK, OPEN_BELOW, 424_242), _chunk(CHUNK + 1, 424_242, OPEN_ABOVE))
    plan = ChunkPlan(_TABLE, chunks, Pace(limit=1.0))
    stream = _stream(layout, plan, table=_TABLE)
    first = plan.take(lambda _lower, _upper, _rows: None)
    assert first is not None
    plan.confirm(first)
    stream.coverage.add(first, SNAPSHOT)
    return Owner(stream, CHUNK)


def _refreshed(layout: Layout) -> Owner:
    return Owner(_stream(layout, table=_TABLE, refreshed=True), CHUNK)


def _chunk(number: int, lower: int, upper: int) -> Chunk:
    name = QualifiedName("_timescaledb_internal", f"_hyper_1_{number}_chunk")
    return Chunk(
        number, 100, name, ChunkStatus(0), (Span(lower, upper),), None, tiered=False, rows=0, pages=0
    )


_SCENES: Final[Sequence[Callable[[Layout], Owner]]] = (
    _all_read,
    _without_key,
    _unread,
    _half_of_the_keys,
    _half_of_the_chunks,
    _refreshed,
)
