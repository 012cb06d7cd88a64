"""What may be played: which tables there are, what happens to them beside ordinary writing, and on which page it stands.

Three programmes, because they ask different things of a server and of a machine: rows and chunks on any edition; all that
compression, columnstore and continuous aggregates move about, on the Community edition; and transactions so large that
a seed takes minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from oracle.syncs import Manner
from oracle.tables import HOURLY, HYPERTABLES, PARTS, TABLES, Table, compressible
from oracle.workload import Policy


@dataclass(frozen=True, slots=True)
class Programme:
    """A programme; `policies` are dealt out to seeds in turn."""

    page: str
    """The name of the page's file."""
    about: str
    """What the page says of the writers."""
    policies: Sequence[Policy]
    tables: Sequence[Table] = TABLES
    manners: Sequence[Manner] = (Manner.CUT, Manner.WHOLE)
    """How syncs end, dealt out to seeds in turn."""
    upkeep: bool = False
    """Whether sessions and policies compress, merge, split and refresh all the time."""

    def policy(self, seed: int) -> Policy:
        """The policy of a seed."""
        return self.policies[seed % len(self.policies)]

    def manner(self, seed: int) -> Manner:
        """How the syncs of a seed end."""
        return self.manners[seed % len(self.manners)]

    def has_policies(self, seed: int) -> bool:
        """Whether the server's own jobs run, with half of the seeds of each policy."""
        return self.upkeep and (seed + self.turn(seed) // 2) % 2 == 0

    def turn(self, seed: int) -> int:
        """The number of the round that deals out a policy to the seed."""
        return seed // len(self.policies)


_WRITERS: Final = (
    "Four writers change five tables at random (a hypertable with a primary key, one with a unique index as replica"
    " identity, one with REPLICA IDENTITY FULL, one without a key, a plain table), and two pairs bring about what chance"
    " hardly does (a key that two write in one order and commit in the other, a chunk that is written to while it joins"
    " the publication)."
)
PROGRAMMES: Final[Mapping[str, Programme]] = {
    "rows": Programme("oracle.md", _WRITERS, (*(Policy.EVERYTHING,) * 6, Policy.DROPS, Policy.TRUNCATES)),
    "compression": Programme(
        "oracle-compression.md",
        f"{_WRITERS} All hypertables may be compressed, and a sixth stream is a continuous aggregate. Two more sessions"
        " compress, decompress and recompress chunks, merge and split those of tables with a key, and refresh the"
        " aggregate all the time; with every other seed policies of the server's own do the same every second, and"
        " drop chunks where that is in the programme.",
        (*(Policy.EVERYTHING,) * 5, Policy.HIDDEN, Policy.DROPS, Policy.TRUNCATES),
        (*map(compressible, HYPERTABLES), PARTS, HOURLY),
        manners=(Manner.CUT, Manner.WHOLE, Manner.KILLED),
        upkeep=True,
    ),
    "large": Programme(
        "oracle-large.md",
        f"{_WRITERS} Meanwhile one transaction writes five million rows, updates and deletes some of them, and takes"
        " others back.",
        (Policy.LARGE,) * 2,
        manners=(Manner.KILLED, Manner.STOPPED),
    ),
}
