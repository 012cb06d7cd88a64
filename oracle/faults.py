"""What may befall a sync under way, drawn from a seed: pure, so that a seed always deals the same blows.

A blow comes when its time has come: while a sync begins, while rows are read, while changes are followed, between two
syncs. Most are over in a moment; some last for a second or two, in which others cannot come. How it meets the sync the
seed does not fix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Final


class Fault(Enum):
    """A kind of blow."""

    CUT = "all connections are closed in order"
    RESET = "all connections are reset"
    CUT_SHORT = "all connections end after some more bytes of the server"
    REFUSED = "the network refuses connections for a while"
    SWALLOWED = "the network swallows everything for a while"
    SILENT = "the network swallows everything until that is noticed, then resets all connections"
    SLOW = "the network is slow for a while"
    DELAYED = "the network delays everything for a while"
    TERMINATED = "a session of the connector is terminated"
    CANCELLED = "a query of the connector is cancelled"
    FULL = "the server takes no new connection of the role for a while"
    LOCKED = "somebody locks a hypertable exclusively for a while"
    BACKEND_KILLED = "a server process of the connector is killed, and the server recovers by itself"
    CRASHED = "the server crashes and is started again"


FREQUENCY: Final = {
    Fault.CUT: 3,
    Fault.RESET: 3,
    Fault.CUT_SHORT: 5,
    Fault.REFUSED: 2,
    Fault.SWALLOWED: 2,
    Fault.SILENT: 0.1,
    Fault.SLOW: 2,
    Fault.DELAYED: 2,
    Fault.TERMINATED: 6,
    Fault.CANCELLED: 3,
    Fault.FULL: 2,
    Fault.LOCKED: 2,
    Fault.BACKEND_KILLED: 2,
    Fault.CRASHED: 2,
}
"""How often each comes, in proportion."""
SILENT_SECONDS: Final = 17.0
"""A connection whose server is gone without a word is noticed within 15 s."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One of them: when it comes, in seconds after the last one, for how long, and whom or how far it hits."""

    fault: Fault
    after: float
    lasts: float
    share: float
    """At least 0 and below 1: the place of the victim among those there are, or a part of the most that may be."""


def blows(seed: int) -> Iterator[Blow]:
    """The blows of a seed, without end."""
    random = Random(f"{seed}/blows")
    kinds, weights = list(FREQUENCY), list(FREQUENCY.values())
    while True:
        (fault,) = random.choices(kinds, weights)
        lasts = SILENT_SECONDS if fault is Fault.SILENT else random.choice((0.05, 0.3, 0.8, 1.5))
        yield Blow(fault, random.uniform(0.05, 0.8), lasts, random.random())
