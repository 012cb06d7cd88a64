"""Messages, rows and relations of every kind, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

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
    Type,
    Unchanged,
    Update,
)

UNSIGNED = st.integers(0, 2**32 - 1)
LSNS = st.integers(0, 2**64 - 1).map(Lsn)
TIMES = st.integers(-(2**63), 2**63 - 1)
TYPMODS = st.integers(-(2**31), 2**31 - 1)
STRINGS = st.text(st.characters(exclude_characters="\0", codec="utf-8"))
NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1)

TRICKY = st.text(st.sampled_from("tnub\0\1t"), max_size=12).map(str.encode)
"""Texts of which each part could be mistaken for the start of a value."""
LONG = st.builds(
    lambda size, end: b"x" * size + end,
    st.sampled_from([0x73, 0x74, 0x75, 0xFF, 0x100, 4095, 4096, 0x7400, 0x7474, 65_535, 65_536, 0x74000]),
    TRICKY,
)
TEXTS = st.one_of(st.just(b""), TRICKY, LONG, st.binary())

VALUES: st.SearchStrategy[bytes | Unchanged | None] = TEXTS | st.none() | st.just(UNCHANGED)
ROWS = st.lists(VALUES, max_size=6).map(tuple)

COLUMNS = st.builds(Column, NAMES, st.booleans(), UNSIGNED, TYPMODS)
RELATIONS = st.builds(
    Relation,
    UNSIGNED,
    NAMES,
    NAMES,
    st.sampled_from(ReplicaIdentity),
    st.lists(COLUMNS, max_size=6, unique_by=lambda column: column.name).map(tuple),
)
OLD_KINDS = st.sampled_from([OldKind.KEY, OldKind.FULL])

MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Begin, LSNS, TIMES, UNSIGNED),
    st.builds(Commit, LSNS, LSNS, TIMES),
    st.builds(Origin, LSNS, STRINGS),
    RELATIONS,
    st.builds(Type, UNSIGNED, NAMES, NAMES),
    st.builds(Insert, UNSIGNED, ROWS),
    st.builds(Update, UNSIGNED, st.none(), st.just(OldKind.NONE), ROWS),
    st.builds(Update, UNSIGNED, ROWS, OLD_KINDS, ROWS),
    st.builds(Delete, UNSIGNED, ROWS, OLD_KINDS),
    st.builds(Truncate, st.lists(UNSIGNED, max_size=6).map(tuple), st.booleans(), st.booleans()),
    st.builds(LogicalMessage, st.booleans(), LSNS, STRINGS, st.binary()),
)
