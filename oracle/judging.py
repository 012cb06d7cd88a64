"""The verdict: what a destination holds against what the source holds, as multisets. Pure.

A row of the source that is missing at a destination is never excused. A row too many is, where it is documented:
`drop_chunks`, TRUNCATE and a hidden DELETE of whole compressed batches name no rows, so destinations keep them; and where
a sync was killed, a table without a key may repeat rows that it has, but not invent any.

TimescaleDB itself may hold a key twice (2.21.4 does, where a unique index spans compressed rows and writers meet). Of
such twins a destination can have one only; which, and with which large values, nobody can say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from integration_tests.truth import Row, Rows
from oracle.tables import HYPERTABLES, KEYED, TABLES
from oracle.workload import DROPPED_BEFORE, HIDDEN_DEVICE, Policy

_HIDING: Final = {table.name for table in KEYED}
_DROPPED: Final = {table.name for table in HYPERTABLES}
_TRUNCATED: Final = {table.name for table in TABLES}

Key = tuple[Any, ...]
Period = tuple[datetime, datetime]

EXAMPLES: Final = 3
LONGEST_EXAMPLE: Final = 160


@dataclass(frozen=True, slots=True)
class Deviation:
    """How one table at one destination differs from the source."""

    table: str
    habit: str
    missing: int
    surplus: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.table} ({self.habit}): {self.missing} rows missing, {self.surplus} too many; "
            f"{'; '.join(self.examples)}"
        )


def compare(
    table: str,
    habit: str,
    stored: Rows,
    held: Rows,
    policy: Policy,
    *,
    may_repeat: bool,
    reshaped: Sequence[Period] = (),
) -> Deviation | None:
    """What is wrong with a copy, None if nothing is.

    `stored` are the rows of the source, `held` those of the copy, in the same columns. `reshaped` are the times
    of chunks that a sync has named as split or merged: nobody was told of deletes there until it had published them.
    """
    missing = stored - held
    surplus = Counter(
        {
            row: count
            for row, count in (held - stored).items()
            if not _excused(table, row, policy)
            and not (may_repeat and row in stored)
            and not any(lower <= row[0] < upper for lower, upper in reshaped)
        }
    )
    if not missing and not surplus:
        return None
    examples = [*_examples("missing", missing), *_examples("too many", surplus)]
    return Deviation(table, habit, missing.total(), surplus.total(), tuple(examples))


def named_periods(table: str, logged: Iterable[str]) -> list[Period]:
    """The times of the chunks that syncs have named as new ones with rows which others had before."""
    return [
        (_moment(lower), _moment(upper))
        for line in logged
        for chunks in re.findall(
            rf"Chunks of public\.{table} are new and hold .*?: (.*?)\. Rows of theirs", line
        )
        for lower, upper in re.findall(r"from (\S+ \S+) up to ([-0-9]+ [:.0-9]+)", chunks)
    ]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def without_twins(stored: Rows, held: Rows, key: Sequence[int]) -> tuple[Rows, Rows, int]:
    """Both without the keys that the source has twice, of which the copy has one row; and how many those are.

    `key` are the places of the key's columns.
    """

    def of(row: Row) -> Key:
        return tuple(row[place] for place in key)

    seen = Counter(map(of, stored.elements()))
    twins = {one for one, count in seen.items() if count > 1} if key else set()
    told = Counter(of(row) for row in held.elements() if of(row) in twins)
    settled = {one for one in twins if told[one] == 1}
    return (
        Counter({row: count for row, count in stored.items() if of(row) not in settled}),
        Counter({row: count for row, count in held.items() if of(row) not in settled}),
        len(twins),
    )


def _excused(table: str, row: Row, policy: Policy) -> bool:
    match policy:
        case Policy.EVERYTHING | Policy.LARGE:
            return False
        case Policy.HIDDEN:
            return table in _HIDING and row[1] == HIDDEN_DEVICE
        case Policy.DROPS:
            return table in _DROPPED and row[0] < DROPPED_BEFORE
        case Policy.TRUNCATES:
            return table in _TRUNCATED


def _examples(what: str, rows: Rows) -> list[str]:
    return [f"{what}: {repr(row)[:LONGEST_EXAMPLE]}" for row in list(rows)[:EXAMPLES]]
