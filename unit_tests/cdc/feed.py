"""Streams without a server: messages in the frame of XLogData, a catalog in memory, and the records that come out."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from fuzz.encoder import encode
from source_timescaledb.cdc.changes import Changes
from source_timescaledb.cdc.clock import OrderClock
from source_timescaledb.cdc.columns import Attribute
from source_timescaledb.cdc.coverage import Coverage, Skipped
from source_timescaledb.cdc.followed import FollowedStream
from source_timescaledb.cdc.lines import Batch
from source_timescaledb.cdc.route import Owner
from source_timescaledb.cdc.routing import Router
from source_timescaledb.cdc.unsent import Wanted
from source_timescaledb.errors import UnavailableError
from source_timescaledb.hypertables.model import (
    Column,
    Dimension,
    Hypertable,
    QualifiedName,
    Relation,
    RelationKind,
    TimeKind,
)
from source_timescaledb.lsn import Lsn
from source_timescaledb.pgoutput import messages
from source_timescaledb.pgoutput.messages import Begin, Commit, LogicalMessage, Message, ReplicaIdentity
from source_timescaledb.snapshot.plan import Plan
from source_timescaledb.state.model import Key
from source_timescaledb.types.model import Kind, PgType
from source_timescaledb.types.money import DOLLARS

INT: Final = PgType(23, "pg_catalog", "int4", Kind.BASE)
TEXT: Final = PgType(25, "pg_catalog", "text", Kind.BASE)
TYPES: Final = {type_.oid: type_ for type_ in (INT, TEXT)}
TABLE_OID: Final = 500


def stream_of(
    name: str = "parts",
    *,
    key: tuple[str, ...] = ("id",),
    chunked: bool = False,
    plan: Plan | None = None,
    metadata: bool = False,
    exposed: bool = False,
) -> FollowedStream:
    """A stream of `id int, note text`; as a hypertable, `id` is its time."""
    columns = (Column("id", INT, -1), Column("note", TEXT, -1))
    where = QualifiedName("public", name)
    dimension = Dimension(1, "id", TimeKind.INTEGER, None)
    relation = Relation(
        oid=TABLE_OID,
        name=where,
        kind=RelationKind.HYPERTABLE if chunked else RelationKind.TABLE,
        columns=columns,
        key=key,
        hypertable=Hypertable(1, TABLE_OID, where, (dimension,)) if chunked else None,
    )
    return FollowedStream(relation, columns, metadata, Coverage(plan, Skipped(), exposed=exposed))


def described(
    oid: int = TABLE_OID,
    name: str = "parts",
    *,
    schema: str = "public",
    columns: Sequence[str] = ("id", "note"),
    identity: ReplicaIdentity = ReplicaIdentity.DEFAULT,
    key: Sequence[str] = ("id",),
) -> messages.Relation:
    """A Relation message; `id` is an integer and all else text."""
    return messages.Relation(
        oid,
        schema,
        name,
        identity,
        tuple(
            messages.Column(
                column,
                identity is ReplicaIdentity.FULL or column in key,
                INT.oid if column == "id" else TEXT.oid,
                -1,
            )
            for column in columns
        ),
    )


@dataclass
class MemoryCatalog:
    """The catalog as a test says it is."""

    owners: dict[int, Owner] = field(default_factory=dict)
    existing: set[int] = field(default_factory=set)
    prefix: tuple[str, str] | None = None
    today: tuple[Attribute, ...] = (Attribute("id"), Attribute("note"))
    late: dict[int, Owner] = field(default_factory=dict)
    """Owners of relations whose transaction is visible only once that was waited for."""
    asked: list[tuple[Key, ...]] = field(default_factory=list)
    """The keys of each question about positions."""

    def owner(self, oid: int) -> Owner | None:
        return self.owners.get(oid)

    def exists(self, oid: int, xid: int) -> bool:  # noqa: ARG002 - which of them is waited for, `late` says
        if oid in self.late:
            self.owners[oid] = self.late.pop(oid)
        return oid in self.existing or oid in self.owners

    def chunk_prefix(self, stream: FollowedStream) -> tuple[str, str] | None:  # noqa: ARG002 - there is one
        return self.prefix

    def attributes(self, stream: FollowedStream, oid: int) -> tuple[Attribute, ...]:  # noqa: ARG002 - as above
        return self.today

    def types(self, oids: Iterable[int]) -> Mapping[int, PgType]:
        return {oid: TYPES[oid] for oid in oids if oid in TYPES}

    def positions(
        self,
        stream: FollowedStream,  # noqa: ARG002 - as above
        bounds: tuple[Key, ...],
        keys: Sequence[Key],
    ) -> list[int]:
        self.asked.append(tuple(keys))
        return [sum(int(bound[0]) <= int(key[0]) for bound in bounds) for key in keys]


class Feed:
    """Changes fed by hand."""

    def __init__(
        self, *streams: FollowedStream, catalog: MemoryCatalog | None = None, fails: bool = False
    ) -> None:
        self.catalog = catalog or MemoryCatalog({TABLE_OID: Owner(streams[0], None)})
        self.ignored: list[str] = []
        self.wanted: list[Wanted] = []
        self.found: dict[int, bytes | None] | None = {1: b"looked up"}
        self.unreachable = False
        """Whether no value can be looked up for the moment."""
        self.router = Router(
            self.catalog,
            streams,
            lambda stream: b'{"type":"RECORD","record":{"stream":"%b","data":' % stream.name.name.encode(),
            DOLLARS,
            lambda name: self.ignored.append(str(name)),
        )
        self._queue: list[list[bytes]] = []
        self._at = 1000
        self._xid = 700
        self._fences = 0
        self.changes = Changes(
            self, self.router, OrderClock(), self._look_up, position=Lsn(0), truncation_fails=fails
        )

    def drain(self) -> list[bytes]:
        """What was fed since."""
        return self._queue.pop(0) if self._queue else []

    def _look_up(self, wanted: Sequence[Wanted]) -> Sequence[Mapping[int, bytes | None] | None]:
        if self.unreachable:
            raise UnavailableError("Nobody there.")
        self.wanted += wanted
        return [self.found] * len(wanted)

    def transaction(self, *changes: Message, xid: int | None = None) -> None:
        """A transaction commits."""
        self._xid += 1
        final = Lsn(self._at + 50)
        begin = Begin(final, 0, xid or self._xid)
        lines = [self._framed(begin), *map(self._framed, changes)]
        self._queue.append([*lines, self._framed(Commit(final, Lsn(self._at + 8), 0))])

    def come_as_they_are(self, messages: Iterable[Message]) -> None:
        """Messages come without a transaction around them."""
        self._queue.append([*map(self._framed, messages)])

    def come_at_once(self) -> None:
        """Let all that was fed so far come in one piece."""
        self._queue = [[line for piece in self._queue for line in piece]]

    def _framed(self, message: Message) -> bytes:
        self._at += 10
        return struct.pack(">cQQQ", b"w", self._at, self._at, 0) + encode(message)

    def batches(self) -> Iterator[Batch]:
        """The batches up to a new fence."""
        self._fences += 1
        content = b"%d" % self._fences
        self.transaction(LogicalMessage(True, Lsn(1), "source_timescaledb", content))
        return self.changes.until(content)

    def records(self) -> list[dict[str, Any]]:
        """The records up to a new fence."""
        lines = b"".join(batch.lines for batch in self.batches())
        return [orjson.loads(line)["record"] for line in lines.splitlines()]
