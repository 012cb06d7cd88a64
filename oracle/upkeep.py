"""What is done to chunks without changing a row, drawn from a seed: pure.

Compression in all its forms, merges and splits, refreshes. What chunks there are is known only when it is done, so a
chunk is named by its place among them. Tables without a key are not merged or split: the rows of a chunk that is new to
the connector are read, and without a key a destination has them twice, which is documented. Nor is a table both merged
and split in one play: what is split off, written to and merged again between two looks is missed, and that is documented.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from random import Random
from typing import Any, Final

from oracle.tables import BASE, HOURLY, HYPERTABLES, KEYED
from oracle.workload import DAYS, HIDDEN_DEVICE


class Deed(Enum):
    """A statement with a place for each chunk, and how many chunks that are."""

    COMPRESS = "SELECT compress_chunk(%s)", 1
    DECOMPRESS = "SELECT decompress_chunk(%s)", 1
    REWRITE = "SELECT compress_chunk(%s, recompress => true)", 1
    MERGE = "CALL merge_chunks(%s, %s)", 2
    SPLIT = "CALL split_chunk(%s)", 1

    @property
    def statement(self) -> str:
        """The statement."""
        return self.value[0]

    @property
    def chunks(self) -> int:
        """How many neighbours it takes."""
        return self.value[1]


SEGMENTWISE: Final = "timescaledb.enable_segmentwise_recompression"
"""Whether a second `compress_chunk` rewrites the segments that have changed, or all of the chunk."""
TRUNCATION: Final = "timescaledb.compress_truncate_behaviour"
"""What becomes of rows that were compressed: to truncate their heap, a session waits for seconds with its locks held."""
UNTRUNCATED: Final = "truncate_disabled"
HIDES_DELETES: Final = "timescaledb.enable_compressed_direct_batch_delete"


@dataclass(frozen=True, slots=True)
class Chore:
    """A deed on the chunks at a place (0 to 1, first to last) among those of a table, with the values of settings."""

    deed: Deed
    table: str
    place: float
    segmentwise: bool
    truncation: str
    after: float


@dataclass(frozen=True, slots=True)
class Order:
    """A statement that needs no chunk."""

    statement: str
    parameters: tuple[Any, ...]
    after: float


_FORMS: Final = (Deed.COMPRESS, Deed.COMPRESS, Deed.DECOMPRESS, Deed.REWRITE)


def chores(seed: int, session: int) -> Iterator[Chore | Order]:
    """The chores of one session, without end."""
    random = Random(f"{seed}/chores/{session}")
    reshaping = {table.name: (Deed.MERGE, Deed.SPLIT)[(seed + at) % 2] for at, table in enumerate(KEYED)}
    while True:
        after = random.choice((0.05, 0.2, 0.5))
        match random.randrange(10):
            case 0:
                yield _refresh(random, after)
            case 1:
                name, deed = random.choice(list(reshaping.items()))
                yield _chore(random, deed, name, after)
            case _:
                table = random.choice((*HYPERTABLES, HOURLY))
                yield _chore(random, random.choice(_FORMS), table.name, after)


def hidden_deletes(seed: int) -> Iterator[Order]:
    """DELETEs of all that a device has in a day, which a compressed chunk keeps in batches of their own, without end."""
    random = Random(f"{seed}/hidden")
    while True:
        start = BASE + timedelta(days=random.randrange(DAYS))
        table = random.choice(KEYED).name
        yield Order(
            f"DELETE FROM {table} WHERE device = {HIDDEN_DEVICE} AND time >= %s AND time < %s",  # noqa: S608 - ours
            (start, start + timedelta(days=1)),
            random.choice((0.1, 0.3)),
        )


def _chore(random: Random, deed: Deed, table: str, after: float) -> Chore:
    truncation = random.choice((*(UNTRUNCATED,) * 8, "truncate_or_delete", "truncate_only"))
    return Chore(deed, table, random.random(), random.random() < 0.7, truncation, after)


def _refresh(random: Random, after: float) -> Order:
    if random.random() < 0.5:
        return Order(f"CALL refresh_continuous_aggregate('{HOURLY.name}', NULL, NULL)", (), after)
    start = BASE + timedelta(days=random.randrange(DAYS))
    window = start, start + timedelta(days=random.randint(1, 3))
    return Order(f"CALL refresh_continuous_aggregate('{HOURLY.name}', %s, %s)", window, after)
