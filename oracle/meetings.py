"""Meetings of two writers that chance hardly ever brings about, drawn from a seed: pure.

A *duel*: one writes a key; another inserts the same key and waits; the first deletes it and commits; the other one's row
stays, although it stands before the delete in the log. Whoever orders changes by their place there keeps the delete.

A *settling*: one makes a chunk; another writes to it before it is in the publication, stays while it is being added and
read, writes again and commits. Of these rows the log tells only the second, and a slice that is read before the commit
has neither.

The keys are of a device of which nobody else writes, so what a meeting leaves is there at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Final

from psycopg import sql

from oracle.tables import BASE, HYPERTABLES, KEYED, PARTS, Table
from oracle.workload import DAYS, DEVICES, HOURS, Step

DEVICE: Final = DEVICES
UNSETTLED: Final = BASE + timedelta(days=100)
"""From here on nobody else makes chunks."""
NUMBERS: Final = 8
"""Keys of a plain table for duels."""


@dataclass(frozen=True, slots=True)
class Duel:
    """`first`; then `second` in a transaction of its own, which waits; then `last` in the first one's; then commits."""

    first: Step
    second: Step
    last: Step
    after: float


@dataclass(frozen=True, slots=True)
class Settling:
    """`birth` is committed; `first` and `last` are one transaction, which stays open between them."""

    table: Table
    birth: Step
    first: Step
    last: Step
    stays: float
    """For so many seconds after the chunk was published."""
    after: float


def duels(seed: int) -> Iterator[Duel]:
    """Without end."""
    random = Random(f"{seed}/duels")
    while True:
        table = random.choice((*KEYED, PARTS))
        after = random.choice((0.02, 0.05, 0.1))
        values = random.randrange(1_000_000), random.randrange(1_000_000)
        if table is PARTS:
            key: tuple[object, ...] = (f"duel {random.randrange(NUMBERS)}",)
        else:
            hours = random.randrange(DAYS * HOURS)
            key = BASE + timedelta(hours=hours), DEVICE
        yield _duel(table, key, values, after)


def _duel(table: Table, key: tuple[object, ...], values: tuple[int, int], after: float) -> Duel:
    name = sql.Identifier(table.name)
    columns = sql.SQL(", ").join(map(sql.Identifier, table.key))
    insert = sql.SQL("INSERT INTO {} ({}, value) VALUES ({})").format(
        name, columns, sql.SQL(", ").join([sql.Placeholder()] * (len(key) + 1))
    )
    upsert = sql.SQL("{} ON CONFLICT ({}) DO UPDATE SET value = excluded.value").format(insert, columns)
    same = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(column)) for column in table.key)
    delete = sql.SQL("DELETE FROM {} WHERE {}").format(name, same)
    return Duel(Step(upsert, (*key, values[0])), Step(insert, (*key, values[1])), Step(delete, key), after)


def settlings(seed: int) -> Iterator[Settling]:
    """Without end, each in a day of its own."""
    random = Random(f"{seed}/settlings")
    time = UNSETTLED
    while True:
        table = random.choice(HYPERTABLES)
        time += timedelta(days=1)
        insert = sql.SQL("INSERT INTO {} (time, device, value) VALUES (%s, %s, %s)").format(
            sql.Identifier(table.name)
        )
        birth, first, last = (
            Step(insert, (time + timedelta(hours=hour), DEVICE, random.randrange(1_000_000)))
            for hour in range(3)
        )
        yield Settling(
            table, birth, first, last, random.choice((0.15, 0.25, 0.35)), random.choice((0.4, 0.6, 0.8))
        )
