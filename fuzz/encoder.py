"""Writes messages as pgoutput does (proto.c of PostgreSQL 14 to 18): the other half of the decoder."""

from __future__ import annotations

import struct

from source_timescaledb.pgoutput.messages import (
    UNCHANGED,
    Begin,
    Column,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    Origin,
    Relation,
    Truncate,
    TupleData,
    Type,
    Unchanged,
    Update,
)


def encode(message: Message) -> bytes:  # noqa: C901, PLR0911 - one case for each message
    """The payload of a message."""
    match message:
        case Begin(final_lsn, commit_time, xid):
            return struct.pack(">cQqI", b"B", final_lsn, commit_time, xid)
        case Commit(lsn, end_lsn, commit_time):
            return struct.pack(">cBQQq", b"C", 0, lsn, end_lsn, commit_time)
        case Origin(commit_lsn, name):
            return struct.pack(">cQ", b"O", commit_lsn) + string(name)
        case Relation(oid, schema, name, identity, columns):
            names = struct.pack(">cI", b"R", oid) + named(schema, name)
            count = struct.pack(">cH", identity.value.encode(), len(columns))
            return names + count + b"".join(map(column, columns))
        case Type(oid, schema, name):
            return struct.pack(">cI", b"Y", oid) + named(schema, name)
        case Insert(relation, new):
            return struct.pack(">cIc", b"I", relation, b"N") + values(new)
        case Update(relation, old, old_kind, new):
            before = b"" if old is None else old_kind.value.encode() + values(old)
            return struct.pack(">cI", b"U", relation) + before + b"N" + values(new)
        case Delete(relation, old, old_kind):
            return struct.pack(">cIc", b"D", relation, old_kind.value.encode()) + values(old)
        case Truncate(relations, cascade, restart_identity):
            head = struct.pack(">cIB", b"T", len(relations), cascade | restart_identity << 1)
            return head + b"".join(struct.pack(">I", oid) for oid in relations)
        case LogicalMessage(transactional, lsn, prefix, content):
            head = struct.pack(">cBQ", b"M", transactional, lsn) + string(prefix)
            return head + struct.pack(">I", len(content)) + content


def string(text: str) -> bytes:
    """A text that a zero byte ends."""
    return text.encode() + b"\0"


def named(schema: str, name: str) -> bytes:
    """The names of a relation or type; what is built in has no schema on the wire."""
    return string("" if schema == "pg_catalog" else schema) + string(name)


def column(column: Column) -> bytes:
    """A column of a relation."""
    flags = struct.pack(">B", column.is_key)
    return flags + string(column.name) + struct.pack(">Ii", column.type_oid, column.typmod)


def values(row: TupleData) -> bytes:
    """A row."""
    return struct.pack(">H", len(row)) + b"".join(map(value, row))


def value(text: bytes | Unchanged | None) -> bytes:
    """A value of a row."""
    if text is None:
        return b"n"
    if text is UNCHANGED:
        return b"u"
    return struct.pack(">cI", b"t", len(text)) + text
