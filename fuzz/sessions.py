"""What one session of a server sends: some transactions of one stream's relation, of others and of none.

Everything is drawn from the seed and the session's number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Final

from fuzz.encoder import encode
from fuzz.layouts import LAYOUTS, POOL, Layout
from fuzz.mutations import DAMAGES, Mutation, damaged
from source_timescaledb.lsn import Lsn
from source_timescaledb.pgoutput.messages import (
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
    Update,
)

_EXTREME_TIMES: Final = (-(2**63), 2**63 - 1, 10**18, -(10**18))
_MARKERS: Final = tuple(
    f"::timescaledb-{region}-{end}" for region in ("compression", "decompression") for end in ("start", "end")
)
_NAMES: Final = ("", "plain", "列 ' \" ; -- %s {}", "x" * 63, "source_timescaledb", *_MARKERS)


class Fate(Enum):
    """What becomes of the messages of a session on their way through the pump."""

    WHOLE = auto()
    MISPLACED = auto()
    DAMAGED = auto()


TRUNCATION_FAILS: Final = 97
"""Where the scene's number is a multiple of this, a TRUNCATE is an error."""


@dataclass(frozen=True, slots=True)
class Session:
    """The messages of a session as they are sent, each with what it was damaged by."""

    number: int
    place: int
    """Which of the scenes it is for, by a number of any size."""
    layout: Layout
    fate: Fate
    messages: tuple[Message, ...]
    """As they were made, in the same order as `valid`."""
    valid: tuple[bytes, ...]
    sent: tuple[bytes, ...]
    """As the pump gets them."""
    damages: tuple[Mutation, ...]
    """What each of those has gone through."""
    described_wrongly: bool
    """Whether a damaged message may describe a relation, so that values can stand where names do."""

    @property
    def refusable(self) -> bool:
        """Whether it may be refused although all is valid: for a time that no calendar has, or a TRUNCATE."""
        return self.place % TRUNCATION_FAILS == 0 or any(
            isinstance(message, Begin) and message.commit_time in _EXTREME_TIMES for message in self.messages
        )


def session(seed: int, number: int) -> Session:
    """The session with this number."""
    random = Random(f"{seed} {number}")
    layout = POOL[int(random.random() * LAYOUTS)]
    messages = tuple(_messages(layout, random))
    valid = tuple(map(encode, messages))
    fate = random.choice((Fate.WHOLE, Fate.MISPLACED, Fate.DAMAGED, Fate.DAMAGED))
    sent, damages = list(valid), [Mutation.NONE] * len(valid)
    if fate is Fate.MISPLACED:
        _misplace(sent, damages, random)
    elif fate is Fate.DAMAGED:
        for _ in range(random.choice((1, 1, 2, 4))):
            at = int(random.random() * len(sent))
            damages[at] = random.choice(DAMAGES)
            sent[at] = damaged(damages[at], sent[at] or b"I", valid, random)
    wrong = any(one[:1] == b"R" and how is not Mutation.NONE for one, how in zip(sent, damages, strict=True))
    return Session(
        number,
        random.getrandbits(16),
        layout,
        fate,
        messages,
        valid,
        tuple(sent),
        tuple(damages),
        wrong and fate is Fate.DAMAGED,
    )


def mutants(made: Session, seed: int, each: int) -> Iterator[tuple[Mutation, bytes]]:
    """So many damaged copies of each message, for the decoder alone."""
    random = Random(f"{seed} {made.number} mutants")
    for payload in made.valid:
        for _ in range(each):
            mutation = random.choice(DAMAGES)
            yield mutation, damaged(mutation, payload, made.valid, random)


def _misplace(sent: list[bytes], damages: list[Mutation], random: Random) -> None:
    """Move, leave out or repeat some."""
    for _ in range(random.choice((1, 1, 2, 5))):
        at, to = int(random.random() * len(sent)), int(random.random() * len(sent))
        what = random.random()
        if what < 0.4:
            sent[at], sent[to] = sent[to], sent[at]
        elif what < 0.7:
            sent.insert(to, sent[at])
            damages.insert(to, Mutation.ORDER)
        elif len(sent) > 1:
            del sent[at], damages[at]
            at = min(at, len(sent) - 1)
        damages[at] = Mutation.ORDER


def _messages(layout: Layout, random: Random) -> Iterator[Message]:
    at = random.getrandbits(40)
    yield from _transaction(layout, random, at, first=True)
    for _ in range(random.choice((0, 1, 2))):
        at += random.getrandbits(16)
        if random.random() < 0.1:
            yield LogicalMessage(False, Lsn(at), random.choice(_NAMES), random.randbytes(5))
        yield from _transaction(layout, random, at, first=False)


def _transaction(layout: Layout, random: Random, at: int, *, first: bool) -> Iterator[Message]:
    committed = 848_803_685_000_000 + random.getrandbits(40)
    if random.random() < 0.01:
        committed = random.choice(_EXTREME_TIMES)
    yield Begin(Lsn(at), committed, random.getrandbits(32))
    if random.random() < 0.1:
        yield Origin(Lsn(random.getrandbits(64)), random.choice(_NAMES))
    if first:
        yield layout.relation
    inside = random.random() < 0.15
    region = random.choice(("compression", "decompression"))
    if inside:
        yield LogicalMessage(True, Lsn(at), f"::timescaledb-{region}-start", b"")
    for _ in range(random.choice((1, 3, 6, 10))):
        yield from _changes(layout, random, at)
    if inside:
        yield LogicalMessage(True, Lsn(at), f"::timescaledb-{region}-end", b"")
    yield Commit(Lsn(at), Lsn(at + 8), committed)


def _changes(layout: Layout, random: Random, at: int) -> Iterator[Message]:
    oid, whole = layout.relation.oid, layout.relation.identity is ReplicaIdentity.FULL
    kind, old = (OldKind.FULL, layout.row) if whole else (OldKind.KEY, layout.key)
    what = random.random()
    if what < 0.55:
        for _ in range(random.choice((1, 2, 4))):
            yield Insert(oid, layout.row(random))
    elif what < 0.72:
        if whole or random.random() < 0.3:
            yield Update(oid, old(random), kind, layout.row(random, unchanged=0.1))
        else:
            yield Update(oid, None, OldKind.NONE, layout.row(random, unchanged=0.1))
    elif what < 0.87:
        yield Delete(oid, old(random), kind)
    elif what < 0.9:
        yield Truncate((oid,) * random.choice((1, 1, 3)), random.random() < 0.5, random.random() < 0.5)
    elif what < 0.94:
        yield LogicalMessage(True, Lsn(at), random.choice(_NAMES[:5]), random.randbytes(3))
    elif what < 0.97:
        yield Type(random.getrandbits(32), random.choice(_NAMES[1:4]), random.choice(_NAMES))
    else:
        yield _other_relation(random)


def _other_relation(random: Random) -> Relation:
    """One that nobody follows, or a chunk that is gone."""
    names = random.sample(_NAMES, k=random.choice((0, 1, 3)))
    columns = tuple(Column(name, random.random() < 0.5, random.getrandbits(32), -1) for name in names)
    schema, name = random.choice(
        (("public", "other"), ("_timescaledb_internal", "_hyper_9_4_chunk"), ("pg_catalog", "列"))
    )
    return Relation(77, schema, name, random.choice(list(ReplicaIdentity)), columns)
