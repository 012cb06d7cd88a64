"""What relations look like here, and what values stand in their rows.

Few layouts, because code is compiled for each and kept for the last ones only. Every value that could be told from
others says `canary` or holds 424242, so a sentence in which one turns up is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from fuzz.encoder import encode
from source_timescaledb.pgoutput import messages
from source_timescaledb.pgoutput.inserts import RowWriter, row_writer
from source_timescaledb.pgoutput.messages import ReplicaIdentity
from source_timescaledb.pgoutput.rows import Field
from source_timescaledb.types.model import Kind, PgType
from source_timescaledb.types.money import DOLLARS
from source_timescaledb.types.rendering import text_rendering
from source_timescaledb.types.row import key

CANARIES: Final = ("canary", "424242", "63616e617279")
"""The last is the first in hexadecimal digits."""


def _built_in(oid: int, name: str) -> PgType:
    return PgType(oid, "pg_catalog", name, Kind.BASE)


INT: Final = _built_in(20, "int8")
TEXT: Final = _built_in(25, "text")
_SAMPLES: Final[Mapping[PgType, tuple[bytes, ...]]] = {
    INT: (b"424242", b"-424242", b"4242421", b"0", b"9223372036854775807"),
    TEXT: (
        *(
            b"canary",
            b"",
            'canary "quoted" \\ \n 列 \u202e'.encode(),
            b"canary t\1\1\1\1nut",
            b"canary" * 40,
        )
        * 20,
        b"canary" * 11_000,
    ),
    _built_in(1184, "timestamptz"): (
        b"2042-04-24 02:42:42.424242+00",
        b"4242-04-24 02:42:42+00",
        b"0044-03-15 00:00:00.424242+00 BC",
        b"infinity",
    ),
    _built_in(1700, "numeric"): (b"424242.50", b"NaN", b"-0.424242", b"424242" * 40),
    _built_in(701, "float8"): (b"424242.5", b"Infinity", b"-Infinity", b"4.24242e+42"),
    _built_in(16, "bool"): (b"t", b"f"),
    _built_in(17, "bytea"): (b"\\x63616e617279", b"\\x"),
    _built_in(3802, "jsonb"): (b'{"canary": [424242, null]}', b"null"),
    _built_in(790, "money"): (b"$424,242.00", b"-$0.42"),
    _built_in(1266, "timetz"): (b"02:42:42.424242+05:30", b"24:00:00+00"),
    _built_in(1082, "date"): (b"2042-04-24", b"-infinity"),
    PgType(1016, "pg_catalog", "_int8", Kind.ARRAY, element=INT): (
        b"{424242,NULL}",
        b"[0:1]={{1},{2}}",
        b"{}",
    ),
    PgType(1009, "pg_catalog", "_text", Kind.ARRAY, element=TEXT): (b'{canary,"can\\"ary",NULL}', b"{}"),
    PgType(90_001, "public", "hstore", Kind.BASE): (b'"canary"=>"424242", "none"=>NULL', b""),
    PgType(90_002, "public", "mood", Kind.ENUM): (b"canary",),
}
SAMPLES: Final[Mapping[int, tuple[bytes, ...]]] = {type_.oid: texts for type_, texts in _SAMPLES.items()}
TYPES: Final[Mapping[int, PgType]] = {type_.oid: type_ for type_ in _SAMPLES}
_SOME: Final = tuple(TYPES)

LAYOUTS: Final = 16
FIRST_OID: Final = 1000


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a relation as a Relation message tells them; the first is `id`, an integer."""

    relation: messages.Relation
    fields: tuple[Field, ...]
    """Of a stream that selects most of them."""
    write: RowWriter
    """The fast path of its rows."""
    described: bytes

    def row(self, random: Random, unchanged: float = 0.0) -> messages.TupleData:
        """A row, in which texts may stand that the server did not send."""
        chance, choice = random.random, random.choice
        return tuple(
            None
            if at and chance() < 0.1
            else messages.UNCHANGED
            if at and unchanged and chance() < unchanged
            else choice(SAMPLES[column.type_oid])
            for at, column in enumerate(self.relation.columns)
        )

    def key(self, random: Random) -> messages.TupleData:
        """The row of which only the key is known."""
        return (random.choice(SAMPLES[INT.oid]), *(None,) * (len(self.relation.columns) - 1))


def _layout(number: int) -> Layout:
    """The one with this number, the same in every process. Odd ones send old rows whole."""
    random = Random(number)
    identity = ReplicaIdentity.FULL if number % 2 else ReplicaIdentity.DEFAULT
    types = [INT.oid, *random.choices(_SOME, k=(0, 1, 2, 3, 4, 6, 9, 14)[number // 2])]
    columns = tuple(
        messages.Column("id" if not at else f"c{at}", identity is ReplicaIdentity.FULL or not at, oid, -1)
        for at, oid in enumerate(types)
    )
    relation = messages.Relation(FIRST_OID + number, "public", f"parts_{number}", identity, columns)
    fields = tuple(
        Field(at, key(column.name).encode(), text_rendering(TYPES[column.type_oid], -1, DOLLARS))
        for at, column in enumerate(columns)
        if at % 5 != 4
    )
    return Layout(relation, fields, row_writer(relation, fields), encode(relation))


POOL: Final = tuple(map(_layout, range(LAYOUTS)))
