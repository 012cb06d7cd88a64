"""Destinations, each with another habit; what each of them holds at the end must be what the source holds.

A destination that deduplicates keeps, of each key, the record with the greatest `_ab_cdc_lsn`, whatever came first. One
that applies records as they come needs no clock, but only syncs that run to their end give it a key's changes in order.
After a kill, or where a STATE is lost on its way, records stand behind the last STATE that no state counts. One
destination has written them already and one has thrown them away: the connector is told nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from source_timescaledb.cdc.followed import CDC_COLUMNS, DELETED_AT, LSN
from testkit.protocol import Json, Output

Key = tuple[str, ...]


class Habit(Enum):
    """How a destination treats what it hears."""

    CLOCK = "greatest clock wins, keeps all it hears"
    COUNTED = "greatest clock wins, drops what no STATE counts"
    ARRIVAL = "last to come wins"


@dataclass(slots=True)
class Copy:
    """One table at a destination: by key its newest record, or all records where there is no key."""

    key: Sequence[str]
    by_clock: bool
    newest: dict[Key, Json] = field(default_factory=dict)
    appended: list[Json] = field(default_factory=list)

    def apply(self, records: Iterable[Json]) -> None:
        """Take records as they come. Two with the same clock are a loss: the later of them is not taken."""
        for record in records:
            if not self.key:
                self.appended.append(record)
                continue
            key = tuple(str(record[column]) for column in self.key)
            known = self.newest.get(key)
            if known is None or not self.by_clock or record[LSN] > known[LSN]:
                self.newest[key] = record

    def rows(self) -> list[Json]:
        """Its living rows, without the fields of the change."""
        records = self.appended if not self.key else self.newest.values()
        return [
            {name: value for name, value in record.items() if name not in CDC_COLUMNS}
            for record in records
            if record[DELETED_AT] is None
        ]


class Destination:
    """All tables at one destination; `keys` are theirs by name, empty where there is none."""

    def __init__(self, habit: Habit, keys: Mapping[str, Sequence[str]]) -> None:
        self.habit = habit
        self.copies = {name: Copy(key, habit is not Habit.ARRIVAL) for name, key in keys.items()}

    def hear(self, output: Output, kept: int | None = None) -> None:
        """Take the output of a sync, however it ended, of which so many STATEs were kept (all by default)."""
        counted = counted_records(output, kept)
        for name, copy in self.copies.items():
            records = output.rows(name)
            copy.apply(records[: counted.get(name, 0)] if self.habit is Habit.COUNTED else records)


def counted_records(output: Output, kept: int | None = None) -> dict[str, int]:
    """Of each stream, how many of its records stand before the last STATE that was kept."""
    seen: dict[str, int] = {}
    counted: dict[str, int] = {}
    left = len(output.states) if kept is None else kept
    for message in output.messages:
        if message["type"] == "RECORD":
            stream = message["record"]["stream"]
            seen[stream] = seen.get(stream, 0) + 1
        elif message["type"] == "STATE" and left:
            left -= 1
            counted = dict(seen)
    return counted
