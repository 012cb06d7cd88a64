"""The verdict: what a destination holds against what the source holds, as multisets. Pure.

A row of the source that is missing at a destination is never excused. A row too many is, where it is documented:
`drop_chunks`, TRUNCATE and a hidden DELETE of whole compressed batches name no rows, so destinations keep them; and where
a sync was killed, a table without a key may repeat rows that it has, but not invent any.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from integration_tests.truth import Row, Rows
from oracle.tables import HYPERTABLES, KEYED, TABLES
from oracle.workload import DROPPED_BEFORE, HIDDEN_DEVICE, Policy

_HIDING: Final = {table.name for table in KEYED}
_DROPPED: Final = {table.name for table in HYPERTABLES}
_TRUNCATED: Final = {table.name for table in TABLES}

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
    table: str, habit: str, stored: Rows, held: Rows, policy: Policy, *, may_repeat: bool
) -> Deviation | None:
    """What is wrong with a copy, None if nothing is.

    `stored` are the rows of the source, `held` those of the copy, in the same columns.
    """
    missing = stored - held
    surplus = Counter(
        {
            row: count
            for row, count in (held - stored).items()
            if not _excused(table, row, policy) and not (may_repeat and row in stored)
        }
    )
    if not missing and not surplus:
        return None
    examples = [*_examples("missing", missing), *_examples("too many", surplus)]
    return Deviation(table, habit, missing.total(), surplus.total(), tuple(examples))


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
