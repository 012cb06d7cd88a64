"""How a message is damaged. Each takes bytes and gives others; what comes of it may be a message again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from random import Random
from typing import Final

TAGS: Final = b"BCORYIUDTM"
_EXTREMES: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_MOST_RANDOM: Final = 200


class Mutation(Enum):
    """The kinds of damage; `NONE` leaves a message as it is."""

    NONE = "none: a valid message"
    BITS = "bits turned over"
    BYTES = "bytes replaced by those that mean something"
    LENGTH = "a length or count replaced by an extreme"
    CUT = "the end cut off"
    LONGER = "bytes behind its end"
    HOLE = "a part left out"
    TWICE = "a part twice"
    SPLICE = "the head of one and the tail of another"
    TAG = "the letter of another kind"
    RANDOM = "random bytes behind a letter"
    NOISE = "random bytes"
    ORDER = "a place that is not its own"


def damaged(mutation: Mutation, payload: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """The payload damaged; `others` are there to be spliced with."""
    if mutation is Mutation.SPLICE:
        other = random.choice(others)
        return payload[: _place(payload, random)] + other[_place(other, random) :]
    return _DAMAGES[mutation](payload, random)


def _place(payload: bytes, random: Random) -> int:
    return int(random.random() * (len(payload) + 1))


def _bits(payload: bytes, random: Random) -> bytes:
    changed = bytearray(payload)
    for _ in range(random.choice((1, 1, 2, 8))):
        changed[int(random.random() * len(changed))] ^= 1 << random.getrandbits(3)
    return bytes(changed)


def _bytes(payload: bytes, random: Random) -> bytes:
    changed = bytearray(payload)
    for _ in range(random.choice((1, 1, 2, 4))):
        changed[int(random.random() * len(changed))] = random.choice(b"\0\1\x7f\x80\xfftnubKONdfi{}\"\\',:wI")
    return bytes(changed)


def _length(payload: bytes, random: Random) -> bytes:
    """At the head of a text where there is one, else anywhere."""
    size = random.choice((2, 4))
    text = payload.find(b"t\0", _place(payload, random))
    at = text + 1 if text >= 0 and size == 4 else _place(payload, random)
    extreme = random.choice(_EXTREMES) & ((1 << 8 * size) - 1)
    return payload[:at] + extreme.to_bytes(size, "big") + payload[at + size :]


def _cut(payload: bytes, random: Random) -> bytes:
    return payload[: int(random.random() * len(payload))]


def _longer(payload: bytes, random: Random) -> bytes:
    return payload + random.choice((b"\0", b"n", b"t\0\0\0\0", payload, random.randbytes(4)))


def _hole(payload: bytes, random: Random) -> bytes:
    at = _place(payload, random)
    return payload[:at] + payload[at + random.choice((1, 2, 4, 8)) :]


def _twice(payload: bytes, random: Random) -> bytes:
    at = _place(payload, random)
    return payload[:at] + payload[max(0, at - random.choice((1, 4, 16))) :]


def _tag(payload: bytes, random: Random) -> bytes:
    return bytes((random.choice(TAGS),)) + payload[1:]


def _random(_payload: bytes, random: Random) -> bytes:
    return bytes((random.choice(TAGS),)) + _noise(_payload, random)


def _noise(_payload: bytes, random: Random) -> bytes:
    return random.randbytes(int(random.random() ** 2 * _MOST_RANDOM))


_DAMAGES: Final[Mapping[Mutation, Callable[[bytes, Random], bytes]]] = {
    Mutation.BITS: _bits,
    Mutation.BYTES: _bytes,
    Mutation.LENGTH: _length,
    Mutation.CUT: _cut,
    Mutation.LONGER: _longer,
    Mutation.HOLE: _hole,
    Mutation.TWICE: _twice,
    Mutation.TAG: _tag,
    Mutation.RANDOM: _random,
    Mutation.NOISE: _noise,
}
DAMAGES: Final = (*_DAMAGES, Mutation.SPLICE)
