from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.encoder import encode
from source_timescaledb.errors import FailureType
from source_timescaledb.lsn import Lsn
from source_timescaledb.pgoutput.decoder import MalformedMessage, decode
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
    Relation,
    ReplicaIdentity,
    Truncate,
    Type,
    Update,
)
from unit_tests.pgoutput.strategies import MESSAGES

TAGS = b"BCORYIUDTM"

SEEN = [
    (
        b"B\x00\x00\x00\x00\x01\xafO0\x00\x03\x03\xfb\x82)vu\x00\x00\x02\xf3",
        Begin(Lsn.parse("0/1AF4F30"), 848_803_685_561_973, 755),
    ),
    (b"Y\x00\x00B\xf5public\x00mood\x00", Type(17141, "public", "mood")),
    (
        b"R\0\0B\xf9public\0g\xc3\xa4st\0d\0\2\1id\0\0\0\0\x17\xff\xff\xff\xff\0n\0\0\0\6\xa4\0\5\0\6",
        Relation(
            17145,
            "public",
            "gäst",
            ReplicaIdentity.DEFAULT,
            (Column("id", True, 23, -1), Column("n", False, 1700, 327_686)),
        ),
    ),
    (
        b"I\x00\x00B\xf9N\x00\x04t\x00\x00\x00\x011nt\x00\x00\x00\x02okt\x00\x00\x00\x042.50",
        Insert(17145, (b"1", None, b"ok", b"2.50")),
    ),
    (
        b"U\x00\x00B\xf9N\x00\x04t\x00\x00\x00\x012ut\x00\x00\x00\x03sadt\x00\x00\x00\x041.00",
        Update(17145, None, OldKind.NONE, (b"2", UNCHANGED, b"sad", b"1.00")),
    ),
    (
        b"U\x00\x00B\xf9K\x00\x04t\x00\x00\x00\x011nnnN\x00\x04t\x00\x00\x00\x013nt\x00\x00\x00\x02okn",
        Update(17145, (b"1", None, None, None), OldKind.KEY, (b"3", None, b"ok", None)),
    ),
    (
        b"U\x00\x00C\x00O\x00\x02t\x00\x00\x00\x011t\x00\x00\x00\x00N\x00\x02t\x00\x00\x00\x011n",
        Update(17152, (b"1", b""), OldKind.FULL, (b"1", None)),
    ),
    (
        b"D\x00\x00B\xf9K\x00\x04t\x00\x00\x00\x013nnn",
        Delete(17145, (b"3", None, None, None), OldKind.KEY),
    ),
    (b"D\x00\x00C\x00O\x00\x02t\x00\x00\x00\x011n", Delete(17152, (b"1", None), OldKind.FULL)),
    (
        b"R\x00\x00C\x05public\x00nocol\x00d\x00\x00",
        Relation(17157, "public", "nocol", ReplicaIdentity.DEFAULT, ()),
    ),
    (b"I\x00\x00C\x05N\x00\x00", Insert(17157, ())),
    (b"T\x00\x00\x00\x02\x03\x00\x00B\xf9\x00\x00C\x00", Truncate((17145, 17152), True, True)),
    (
        b"M\x01\x00\x00\x00\x00\x01\xafw\x90::timescaledb-compression-start\x00\x00\x00\x00\x00",
        LogicalMessage(True, Lsn.parse("0/1AF7790"), "::timescaledb-compression-start", b""),
    ),
    (
        b"C\x00\x00\x00\x00\x00\x01\xafw\x90\x00\x00\x00\x00\x01\xafw\xc0\x00\x03\x03\xfb\x82)\x8f\xbc",
        Commit(Lsn.parse("0/1AF7790"), Lsn.parse("0/1AF77C0"), 848_803_685_568_444),
    ),
]
"""What PostgreSQL 17.11 sent, some of it shortened by a column."""


@pytest.mark.parametrize(("payload", "message"), SEEN, ids=lambda part: type(part).__name__)
def test_what_a_server_sent_is_understood(payload: bytes, message: Message) -> None:
    assert decode(payload) == message
    assert encode(message) == payload


@given(message=MESSAGES)
def test_a_message_survives_the_wire(message: Message) -> None:
    assert decode(encode(message)) == message


def test_what_is_built_in_gets_its_schema_back() -> None:
    assert decode(b"Y\0\0\0\x17\0int4\0") == Type(23, "pg_catalog", "int4")


@pytest.mark.parametrize("count", [0, 1, 1600])
def test_a_relation_has_as_many_columns_as_it_likes(count: int) -> None:
    columns = tuple(Column(f'"{number}" 列', False, 25, -1) for number in range(count))
    relation = Relation(1, "s", "wide", ReplicaIdentity.NOTHING, columns)
    row = Insert(1, (b"t",) * count)

    assert decode(encode(relation)) == relation
    assert decode(encode(row)) == row


@given(message=MESSAGES, data=st.data())
def test_no_part_of_a_message_is_a_message(message: Message, data: st.DataObject) -> None:
    payload = encode(message)
    length = data.draw(st.integers(0, len(payload) - 1))

    with pytest.raises(MalformedMessage):
        decode(payload[:length])


@given(message=MESSAGES, more=st.binary(min_size=1))
def test_nothing_may_follow_a_message(message: Message, more: bytes) -> None:
    with pytest.raises(MalformedMessage, match="goes on behind its end"):
        decode(encode(message) + more)


@given(tag=st.sampled_from([bytes([tag]) for tag in TAGS]), rest=st.binary())
def test_bytes_are_a_message_or_malformed(tag: bytes, rest: bytes) -> None:
    try:
        message = decode(tag + rest)
    except MalformedMessage:
        return
    assert decode(encode(message)) == message


@given(message=MESSAGES, data=st.data())
def test_a_damaged_message_is_another_message_or_malformed(message: Message, data: st.DataObject) -> None:
    payload = bytearray(encode(message))
    place = data.draw(st.integers(0, len(payload) - 1))
    payload[place] = data.draw(st.integers(0, 255))

    try:
        read = decode(bytes(payload))
    except MalformedMessage:
        return
    assert decode(encode(read)) == read


@pytest.mark.parametrize("tag", sorted(set(range(256)) - set(TAGS)))
def test_other_tags_are_not_known(tag: int) -> None:
    with pytest.raises(MalformedMessage, match="is not known") as caught:
        decode(bytes([tag]) + b"\0" * 8)

    assert caught.value.tag == bytes([tag])


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b"", "A replication message is empty."),
        (b"\xff", "A replication message of kind 0xff is not known."),
        (b"Z", "A replication message of kind 'Z' is not known."),
        (b"B\0", "A replication message of kind 'B' ends too early."),
        (b"C\1" + b"\0" * 24, "A replication message of kind 'C' has flags that are not known."),
        (b"T\0\0\0\0\4", "A replication message of kind 'T' has flags that are not known."),
        (b"T\xff\xff\xff\xff\0", "A replication message of kind 'T' ends too early."),
        (b"M\2", "A replication message of kind 'M' has flags that are not known."),
        (b"O" + b"\0" * 8 + b"origin", "A replication message of kind 'O' ends within a string."),
        (b"O" + b"\0" * 8 + b"\xc3\0", "A replication message of kind 'O' has a string that is not UTF-8."),
        (b"R\0\0\0\1s\0n\0x\0\0", "A replication message of kind 'R' has a part whose kind is not known."),
        (b"R\0\0\0\1s\0n\0d\0\1\2", "A replication message of kind 'R' has flags that are not known."),
        (b"I\0\0\0\1O\0\0", "A replication message of kind 'I' has a part whose kind is not known."),
        (b"U\0\0\0\1K\0\0K\0\0", "A replication message of kind 'U' has a part whose kind is not known."),
        (b"D\0\0\0\1N\0\0", "A replication message of kind 'D' has a part whose kind is not known."),
        (b"I\0\0\0\1N\0\1x", "A replication message of kind 'I' has a value whose kind is not known."),
        (b"I\0\0\0\1N\xff\xffn", "A replication message of kind 'I' ends within a row."),
        (b"I\0\0\0\1N\0\1t\0\0", "A replication message of kind 'I' ends within a row."),
        (b"I\0\0\0\1N\0\1t\0\0\0\3ab", "A replication message of kind 'I' ends within a row."),
        (b"I\0\0\0\1N\0\2t\xff\xff\xff\xffn", "A replication message of kind 'I' ends within a row."),
        (
            b"I\0\0\0\1N\0\1b\0\0\0\1x",
            "A replication message of kind 'I' has a value in binary form, which was not asked for.",
        ),
    ],
)
def test_the_sentence_tells_what_is_wrong(payload: bytes, sentence: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(payload)

    assert caught.value.message == sentence
    assert caught.value.failure_type is FailureType.SYSTEM


def test_no_relation_has_two_columns_of_one_name() -> None:
    relation = Relation(1, "s", "t", ReplicaIdentity.DEFAULT, (Column("a", False, 23, -1),) * 2)

    with pytest.raises(MalformedMessage, match="two columns of one name"):
        decode(encode(relation))


def test_no_relation_has_more_columns_than_a_table() -> None:
    columns = tuple(Column(str(number), False, 23, -1) for number in range(1601))

    with pytest.raises(MalformedMessage, match="more columns than a table"):
        decode(encode(Relation(1, "s", "t", ReplicaIdentity.DEFAULT, columns)))


def test_the_sentence_tells_no_value() -> None:
    payload = encode(Insert(1, (b"hunter2", b"secret")))
    damaged = [payload[:-1], payload + b"secret", payload.replace(b"t", b"b", 1)]
    damaged.append(b"O" + struct.pack(">Q", 0) + b"secret\xff\0")

    for one in damaged:
        with pytest.raises(MalformedMessage) as caught:
            decode(one)
        assert "secret" not in caught.value.sentence
        assert "hunter2" not in caught.value.sentence
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
