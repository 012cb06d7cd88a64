"""Keys are placed here where their order is certain, and asked for many at a time where it is not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from source_timescaledb.cdc.keys import MOST_KEYS, Placement, rankings
from source_timescaledb.cdc.route import Owner
from source_timescaledb.errors import DefectError
from source_timescaledb.hypertables.model import Column, QualifiedName, Relation, RelationKind
from source_timescaledb.pgoutput.messages import Delete, Insert, OldKind, Update
from source_timescaledb.snapshot.key_plan import KeyPlan
from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.state.model import Key
from source_timescaledb.types.model import Kind, PgType
from unit_tests.cdc.feed import INT, TABLE_OID, TEXT, Feed, MemoryCatalog, described, stream_of

SNAPSHOT = "100:110:105"


def keyed_by(*types: PgType) -> Relation:
    columns = tuple(Column(f"c{number}", type_, -1) for number, type_ in enumerate(types))
    name = QualifiedName("public", "t")
    return Relation(1, name, RelationKind.TABLE, columns, tuple(column.name for column in columns))


def never(_bounds: tuple[Key, ...], _keys: Sequence[Key]) -> list[int]:
    raise AssertionError


def test_a_domain_is_ordered_as_the_type_below_it_and_a_type_of_the_users_own_by_the_server() -> None:
    domain = PgType(9, "public", "sure", Kind.DOMAIN, base=INT)
    own = PgType(9, "public", "int4", Kind.BASE)

    assert rankings(keyed_by(domain, INT)) == (int, int)
    assert rankings(keyed_by(own)) is None
    assert rankings(keyed_by(INT, TEXT)) is None


def test_a_key_is_placed_above_the_bounds_that_it_equals() -> None:
    placement = Placement((("2", "5"), ("10", "-1")), never, (int, int))

    assert [placement.of(key) for key in (("2", "4"), ("2", "5"), ("9", "9"), ("10", "-1"))] == [0, 1, 1, 2]


@pytest.mark.parametrize(("bound", "key"), [("5", "x"), ("x", "5")])
def test_what_cannot_be_read_is_left_to_the_server(bound: str, key: str) -> None:
    placement = Placement(((bound,),), lambda _bounds, keys: [7] * len(keys), (int,))

    assert placement.of((key,)) == 7


def test_without_bounds_nobody_is_asked() -> None:
    placement = Placement((), never)

    assert placement.of(("x",)) == 0
    assert not placement.wants(("x",))


def partly_read() -> tuple[Feed, MemoryCatalog]:
    """A stream whose key only the server can compare, read up to 10."""
    plan = KeyPlan(("note",), Pace(limit=1.0), holding=True)
    stream = stream_of(key=("note",), plan=plan)
    slice_ = plan.take(lambda _lower, _upper, _rows: ("10",))
    assert slice_ is not None
    plan.confirm(slice_)
    stream.coverage.add(slice_, SNAPSHOT)
    catalog = MemoryCatalog({TABLE_OID: Owner(stream, None)})
    return Feed(stream, catalog=catalog), catalog


def inserted(number: int) -> Insert:
    return Insert(TABLE_OID, (b"0", b"%d" % number))


def test_the_keys_of_the_changes_at_hand_are_asked_for_together() -> None:
    feed, catalog = partly_read()
    feed.transaction(
        described(key=("note",)),
        inserted(3),
        Update(TABLE_OID, (None, b"4"), OldKind.KEY, (b"0", b"40")),
        inserted(30),
        Delete(TABLE_OID, (None, b"5"), OldKind.KEY),
        xid=105,
    )

    told = [record["data"]["note"] for record in feed.records()]

    assert told == ["3", "4", "5"]
    assert catalog.asked == [(("3",), ("4",), ("40",), ("30",), ("5",))]


def test_keys_behind_another_description_of_the_relation_are_asked_for_when_they_come() -> None:
    feed, catalog = partly_read()
    feed.transaction(
        described(key=("note",)),
        inserted(3),
        described(columns=("note", "id"), key=("note",)),
        Insert(TABLE_OID, (b"4", b"0")),
        xid=105,
    )

    told = [record["data"]["note"] for record in feed.records()]

    assert told == ["3", "4"]
    assert catalog.asked == [(("3",),), (("4",),)]


def test_no_question_grows_without_end() -> None:
    feed, catalog = partly_read()
    feed.transaction(described(key=("note",)), *map(inserted, range(20, 20 + 3 * MOST_KEYS)), xid=105)

    assert feed.records() == []
    assert 3 <= len(catalog.asked) <= 4
    assert max(map(len, catalog.asked)) <= MOST_KEYS + 1


def test_a_key_that_is_no_text_is_refused_and_not_told() -> None:
    feed, catalog = partly_read()
    feed.transaction(described(key=("note",)), Insert(TABLE_OID, (b"1", b"canary\xff")), xid=105)

    with pytest.raises(DefectError, match="sent a key in a form") as caught:
        feed.records()

    assert caught.value.__context__ is None
    assert catalog.asked == []
