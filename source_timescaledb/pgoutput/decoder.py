"""Reads one message of pgoutput, and accepts nothing but a whole one.

The format has no redundancy: a tag, then fields whose lengths stand before them or in a zero byte behind them. It is
read once from left to right, so a message has one reading or none. A message is refused that ends before its last
field or goes on behind it, that has a flag, kind or letter that the protocol does not know, or a name that is not
UTF-8. Only the
count of columns is bounded: what any other promises is not there, and the first missing item ends the reading.

No state is kept. Whether a row has as many values as its relation has columns is for whoever knows the relation.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from source_timescaledb.errors import REPORT_VERSIONS, DefectError
from source_timescaledb.lsn import Lsn
from source_timescaledb.pgoutput.messages import (
    UNCHANGED,
    Begin,
    Column,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    OldKind,
    Origin,
    Relation,
    ReplicaIdentity,
    Truncate,
    TupleData,
    Type,
    Unchanged,
    Update,
)

MOST_COLUMNS: Final = 1600
"""Of a table (MaxHeapAttributeNumber). Code is made for each relation (`pgoutput.inserts`), of which more would take
seconds and gigabytes."""

_CASCADE: Final = 1
_RESTART_IDENTITY: Final = 2

_SIZE: Final = struct.Struct(">I")
_BEGIN: Final = struct.Struct(">QqI")
_TYPE_AND_TYPMOD: Final = struct.Struct(">Ii")
_COMMIT: Final = struct.Struct(">QQq")
_WHOLE_BEGIN: Final = struct.Struct(">cQqI")
_WHOLE_COMMIT: Final = struct.Struct(">2sQQq")

_NULL, _TEXT, _UNCHANGED, _BINARY = b"ntub"


class MalformedMessage(DefectError):  # noqa: N818 - it names what was met
    """The server sent what is no message of the protocol; `tag` is its first byte, empty where there was none."""

    def __init__(self, tag: bytes, reason: str) -> None:
        kind = repr(tag.decode("ascii")) if tag.isalnum() else f"0x{tag.hex()}"
        super().__init__(
            f"A replication message of kind {kind} {reason}." if tag else "A replication message is empty.",
            remedy=REPORT_VERSIONS,
        )
        self.tag = tag


def decode(payload: bytes) -> Message:
    """Read one message: what a walsender puts into XLogData, without that frame.

    A relation or type of pg_catalog, which the server sends without a schema, gets its schema back.

    Raises:
        MalformedMessage: it is none, or holds a value in binary form. The sentence tells its tag and no content.
    """
    whole = _WHOLE.get(len(payload))
    if whole is not None and (frame := whole(payload)) is not None:
        return frame
    reader = _Reader(payload)
    read = _READERS.get(reader.tag)
    if read is None:
        raise reader.malformed("is not known")
    message = read(reader)
    reader.finish()
    return message


class _Reader:
    """The bytes of one message behind its tag, and how far they have been read."""

    __slots__ = ("_at", "_payload", "tag")

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 1
        self.tag = payload[:1]

    def malformed(self, reason: str) -> MalformedMessage:
        """The error to raise."""
        return MalformedMessage(self.tag, reason)

    def finish(self) -> None:
        """Make sure that nothing is left."""
        if self._at != len(self._payload):
            raise self.malformed("goes on behind its end")

    def take(self, size: int) -> bytes:
        """The next bytes, so many of them."""
        start, self._at = self._at, self._at + size
        if self._at > len(self._payload):
            raise self.malformed("ends too early")
        return self._payload[start : self._at]

    def numbers(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Numbers laid out like this."""
        return layout.unpack(self.take(layout.size))

    def unsigned(self, size: int) -> int:
        """A number of so many bytes."""
        return int.from_bytes(self.take(size), "big")

    def lsn(self) -> Lsn:
        """A position in the WAL."""
        return Lsn(self.unsigned(8))

    def flags(self, known: int) -> int:
        """A byte of flags, of which these are known."""
        flags = self.unsigned(1)
        if flags & ~known:
            raise self.malformed("has flags that are not known")
        return flags

    def letter(self, known: str) -> str:
        """One of these letters."""
        letter = chr(self.unsigned(1))
        if letter not in known:
            raise self.malformed("has a part whose kind is not known")
        return letter

    def text(self) -> str:
        """A string that a zero byte ends."""
        start, end = self._at, self._payload.find(b"\0", self._at)
        if end < 0:
            raise self.malformed("ends within a string")
        self._at = end + 1
        try:
            return self._payload[start:end].decode()
        except UnicodeDecodeError:
            raise self.malformed("has a string that is not UTF-8") from None

    def schema(self) -> str:
        """The name of a schema."""
        return self.text() or "pg_catalog"

    def values(self) -> TupleData:
        """A row. Written for speed: every update and every row that the fast path declines comes through here."""
        count = self.unsigned(2)
        payload, at, size_at = self._payload, self._at, _SIZE.unpack_from
        values: list[bytes | Unchanged | None] = []
        try:
            for _ in range(count):
                kind = payload[at]
                at += 1
                if kind == _TEXT:
                    start = at + 4
                    at = start + size_at(payload, at)[0]
                    values.append(payload[start:at])
                elif kind == _NULL:
                    values.append(None)
                elif kind == _UNCHANGED:
                    values.append(UNCHANGED)
                elif kind == _BINARY:
                    raise self.malformed("has a value in binary form, which was not asked for")
                else:
                    raise self.malformed("has a value whose kind is not known")
        except (IndexError, struct.error):
            at = len(payload) + 1
        if at > len(payload):
            raise self.malformed("ends within a row")
        self._at = at
        return tuple(values)


def _begin(reader: _Reader) -> Begin:
    final_lsn, commit_time, xid = reader.numbers(_BEGIN)
    return Begin(Lsn(final_lsn), commit_time, xid)


def _commit(reader: _Reader) -> Commit:
    reader.flags(0)
    lsn, end_lsn, commit_time = reader.numbers(_COMMIT)
    return Commit(Lsn(lsn), Lsn(end_lsn), commit_time)


def _origin(reader: _Reader) -> Origin:
    return Origin(reader.lsn(), reader.text())


def _relation(reader: _Reader) -> Relation:
    oid, schema, name = reader.unsigned(4), reader.schema(), reader.text()
    identity = ReplicaIdentity(reader.letter("dnfi"))
    count = reader.unsigned(2)
    if count > MOST_COLUMNS:
        raise reader.malformed("has more columns than a table can have")
    columns = tuple(_column(reader) for _ in range(count))
    if len({column.name for column in columns}) < len(columns):
        raise reader.malformed("has two columns of one name")
    return Relation(oid, schema, name, identity, columns)


def _column(reader: _Reader) -> Column:
    is_key = bool(reader.flags(1))
    return Column(reader.text(), is_key, *reader.numbers(_TYPE_AND_TYPMOD))


def _type(reader: _Reader) -> Type:
    return Type(reader.unsigned(4), reader.schema(), reader.text())


def _insert(reader: _Reader) -> Insert:
    relation = reader.unsigned(4)
    reader.letter("N")
    return Insert(relation, reader.values())


def _update(reader: _Reader) -> Update:
    relation, kind, old = reader.unsigned(4), OldKind(reader.letter("KON")), None
    if kind is not OldKind.NONE:
        old = reader.values()
        reader.letter("N")
    return Update(relation, old, kind, reader.values())


def _delete(reader: _Reader) -> Delete:
    relation, kind = reader.unsigned(4), OldKind(reader.letter("KO"))
    return Delete(relation, reader.values(), kind)


def _truncate(reader: _Reader) -> Truncate:
    count, flags = reader.unsigned(4), reader.flags(_CASCADE | _RESTART_IDENTITY)
    relations = tuple(reader.unsigned(4) for _ in range(count))
    return Truncate(relations, bool(flags & _CASCADE), bool(flags & _RESTART_IDENTITY))


def _logical_message(reader: _Reader) -> LogicalMessage:
    transactional = bool(reader.flags(1))
    return LogicalMessage(transactional, reader.lsn(), reader.text(), reader.take(reader.unsigned(4)))


def _whole_begin(payload: bytes) -> Begin | None:
    tag, final_lsn, commit_time, xid = _WHOLE_BEGIN.unpack(payload)
    return Begin(Lsn(final_lsn), commit_time, xid) if tag == b"B" else None


def _whole_commit(payload: bytes) -> Commit | None:
    start, lsn, end_lsn, commit_time = _WHOLE_COMMIT.unpack(payload)
    return Commit(Lsn(lsn), Lsn(end_lsn), commit_time) if start == b"C\0" else None


_WHOLE: Final[Mapping[int, Callable[[bytes], Begin | Commit | None]]] = {
    _WHOLE_BEGIN.size: _whole_begin,
    _WHOLE_COMMIT.size: _whole_commit,
}
"""By the size of the message: where transactions are small, two of three messages are of these kinds, and this reads
them in half the time."""

_READERS: Final[Mapping[bytes, Callable[[_Reader], Message]]] = {
    b"B": _begin,
    b"C": _commit,
    b"O": _origin,
    b"R": _relation,
    b"Y": _type,
    b"I": _insert,
    b"U": _update,
    b"D": _delete,
    b"T": _truncate,
    b"M": _logical_message,
}
