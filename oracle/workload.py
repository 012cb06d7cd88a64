"""What the writers do, drawn from a seed: pure, so that a seed always gives the same transactions.

Keys are few (six devices, one time an hour), so that writers meet: they wait for each other, repeat each other's keys,
delete what another has just written. Most times lie in the days that the tables begin with, some earlier (late data) and
some later, so chunks are born in old and new ranges all the time. Between its statements a transaction may sleep: then it
spans slices, fences and whole syncs. What the seed does not fix is how the server interleaves the writers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from random import Random
from typing import Any, Final

from psycopg import sql

from oracle.tables import BASE, EVENTS, HYPERTABLES, KEYED, PARTS, READINGS, TABLES, Table

DEVICES: Final = 6
HOURS: Final = 24
DAYS: Final = 6
"""With which the tables begin."""
PARTS_KEPT: Final = 120
DROPPED_BEFORE: Final = BASE + timedelta(days=2)
"""`drop_chunks` takes away what is older."""

HIDDEN_DEVICE: Final = 0
"""Of which rows may be deleted without a trace in the log."""
LARGE_DEVICE: Final = DEVICES + 1
"""Of which nobody else writes."""
LARGE_ROWS: Final = 5_000_000

Key = tuple[datetime, int]


class Policy(Enum):
    """What happens beside ordinary writing, and so what may be expected of a destination."""

    EVERYTHING = "everything equal"
    DROPS = "drop_chunks: history is kept"
    TRUNCATES = "TRUNCATE: rows are kept"
    HIDDEN = "DELETE of whole batches: rows are kept"
    LARGE = "everything equal, after a transaction of five million rows"


class Ending(Enum):
    """How a transaction ends."""

    COMMIT = "commit"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Step:
    """A statement, and how many seconds to wait after it."""

    statement: sql.Composable
    parameters: tuple[Any, ...] = ()
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Transaction:
    """Steps between BEGIN and its end; `after` is how many seconds to wait before it begins."""

    steps: tuple[Step, ...]
    ending: Ending = Ending.COMMIT
    after: float = 0.0


class Author:
    """The transactions of one writer, without end."""

    def __init__(self, seed: int, writer: int) -> None:
        self._random = Random(f"{seed}/{writer}")
        self._writer = writer
        self._written = 0

    def transactions(self) -> Iterator[Transaction]:
        """All of them."""
        while True:
            yield self.transaction()

    def transaction(self) -> Transaction:
        """The next one."""
        random = self._random
        steps: list[Step] = []
        if random.random() < 0.5:
            steps.append(Step(sql.SQL("SET LOCAL synchronous_commit = off")))
        for _ in range(random.choice((1, 1, 2, 3, 5))):
            steps += self._in_savepoint() if random.random() < 0.2 else self._operation()
        ending = Ending.ROLLBACK if random.random() < 0.12 else Ending.COMMIT
        return Transaction(tuple(steps), ending, random.choice((0.0, 0.002, 0.01)))

    def first_rows(self) -> tuple[Step, ...]:
        """What the tables hold before anybody follows them."""
        keys = [
            (BASE + timedelta(days=day, hours=hour), device)
            for day in range(DAYS)
            for hour in range(HOURS)
            for device in range(DEVICES)
            if self._random.random() < 0.4
        ]
        events = [self._event() for _ in keys]
        numbers = list(range(len(keys)))
        parts = [
            Step(_UPSERT_PART.format(sql.Identifier(PARTS.name)), (part_id(number), number, self._note()))
            for number in range(PARTS_KEPT)
        ]
        return (
            *(self._inserted(table, keys, _PLAINLY) for table in KEYED),
            Step(_INSERT.format(sql.Identifier(EVENTS.name)), _columns(keys, numbers, events)),
            *parts,
        )

    def _in_savepoint(self) -> list[Step]:
        """An operation, then another that is taken back or not."""
        kept, other = self._operation(), self._operation()
        save, back = sql.SQL("SAVEPOINT here"), sql.SQL("ROLLBACK TO here")
        if self._random.random() < 0.6:
            return [*kept, Step(save), *other, Step(back)]
        return [*kept, Step(save), *other, Step(sql.SQL("RELEASE here"))]

    def _operation(self) -> list[Step]:
        table = self._random.choice((*KEYED, *KEYED, EVENTS, EVENTS, PARTS))
        if table is EVENTS:
            return [self._appended()]
        if table is PARTS:
            return self._of_parts()
        return self._of_readings(table)

    def _of_readings(self, table: Table) -> list[Step]:
        return self._added(table) if self._random.random() < 0.45 else self._changed(table, self._key())

    def _added(self, table: Table) -> list[Step]:
        """Rows of keys that may be there: then the INSERT fails, does nothing, or updates."""
        random = self._random
        count, conflict = random.choice(
            ((1, _PLAINLY), (random.randint(40, 150), _OR_NOTHING), (3, _OR_NOTHING), (1, _OR_UPDATE))
        )
        return [self._inserted(table, [self._key() for _ in range(count)], conflict)]

    def _changed(self, table: Table, key: Key) -> list[Step]:
        random = self._random
        name = sql.Identifier(table.name)
        match random.randrange(5):
            case 0:
                return [self._step(_UPDATE.format(name), (self._number(), key[1], *self._day()))]
            case 1:
                return [self._step(_DELETE.format(name), key)]
            case 2:
                return [self._step(_MOVE_DEVICE.format(name), (random.randrange(DEVICES), *key))]
            case 3:
                return [self._step(_MOVE_TIME.format(name), (random.randint(1, 59), *key))]
            case _:
                again = self._inserted(table, [key], _PLAINLY)
                return [self._step(_DELETE.format(name), key), again, *self._perhaps_deleted(name, key)]

    def _perhaps_deleted(self, name: sql.Identifier, key: Key) -> list[Step]:
        return [self._step(_DELETE.format(name), key)] if self._random.random() < 0.25 else []

    def _of_parts(self) -> list[Step]:
        name = sql.Identifier(PARTS.name)
        part = part_id(self._random.randrange(PARTS_KEPT * 2))
        match self._random.randrange(5):
            case 0 | 1:
                return [self._step(_UPSERT_PART.format(name), (part, self._number(), self._note()))]
            case 2:
                return [self._step(_UPDATE_PART.format(name), (self._number(), part))]
            case 3:
                other = part_id(self._random.randrange(PARTS_KEPT * 2))
                return [self._step(_MOVE_PART.format(name), (other, part))]
            case _:
                return [self._step(_DELETE_PART.format(name), (part,))]

    def _appended(self) -> Step:
        """Events; now and then some that are alike in everything."""
        random = self._random
        keys = [self._key() for _ in range(random.choice((1, 3, 20, 100)))]
        notes = [self._event() for _ in keys]
        if random.random() < 0.3:
            keys.append(keys[0])
            notes.append(notes[0])
        numbers = [*range(len(keys) - 1), 0]
        return self._step(_INSERT.format(sql.Identifier(EVENTS.name)), _columns(keys, numbers, notes))

    def _event(self) -> str:
        self._written += 1
        return f"writer {self._writer}, event {self._written}"

    def _inserted(self, table: Table, keys: list[Key], conflict: sql.SQL) -> Step:
        statement = sql.SQL("{} {}").format(_INSERT.format(sql.Identifier(table.name)), conflict)
        once = list(dict.fromkeys(keys))
        numbers = [self._number() for _ in once]
        return self._step(statement, _columns(once, numbers, [self._note() for _ in once]))

    def _step(self, statement: sql.Composable, parameters: tuple[Any, ...]) -> Step:
        random = self._random
        pause = random.choice((0.01, 0.03, 0.1, 0.3)) if random.random() < 0.1 else 0.0
        return Step(statement, parameters, pause)

    def _key(self) -> Key:
        random = self._random
        return BASE + timedelta(days=self._day_number(), hours=random.randrange(HOURS)), random.randrange(
            DEVICES
        )

    def _day_number(self) -> int:
        random = self._random
        match random.randrange(16):
            case 0:
                return DAYS + random.randrange(8)
            case 1:
                return -1 - random.randrange(8)
            case _:
                return random.randrange(DAYS)

    def _day(self) -> tuple[datetime, datetime]:
        day = BASE + timedelta(days=self._day_number())
        return day, day + timedelta(days=1)

    def _number(self) -> int:
        return self._random.randrange(1_000_000)

    def _note(self) -> str | None:
        """A text; now and then one so large that an UPDATE of another column does not send it."""
        random = self._random
        match random.randrange(8):
            case 0:
                return None
            case 1:
                return random.randbytes(2500).hex()
            case _:
                return random.choice(("short", 'with "quotes"', "ключ", "back\\slash", "")) * random.randint(
                    1, 9
                )


_INSERT: Final = sql.SQL(
    "INSERT INTO {} (time, device, value, note)"
    " SELECT * FROM unnest(%s::timestamptz[], %s::int[], %s::int[], %s::text[])"
)
_INSERT_MANY: Final = sql.SQL(
    "INSERT INTO {} (device, time, value, note)"
    " SELECT %s, %s + i * (%s * interval '1 day' / %s), i, 'row ' || i FROM generate_series(0, %s - 1) i"
)
_DELETE_MANY: Final = sql.SQL("DELETE FROM {} WHERE device = %s AND time >= %s")
_PLAINLY: Final = sql.SQL("")
_OR_NOTHING: Final = sql.SQL("ON CONFLICT DO NOTHING")
_OR_UPDATE: Final = sql.SQL(
    "ON CONFLICT (device, time) DO UPDATE SET value = excluded.value, note = excluded.note"
)
_UPDATE: Final = sql.SQL("UPDATE {} SET value = %s WHERE device = %s AND time >= %s AND time < %s")
_DELETE: Final = sql.SQL("DELETE FROM {} WHERE time = %s AND device = %s")
_MOVE_DEVICE: Final = sql.SQL("UPDATE {} SET device = %s WHERE time = %s AND device = %s")
_MOVE_TIME: Final = sql.SQL(
    "UPDATE {} SET time = time + %s * interval '1 minute' WHERE time = %s AND device = %s"
)
_UPSERT_PART: Final = sql.SQL(
    "INSERT INTO {} VALUES (%s, %s, %s) ON CONFLICT (id) DO UPDATE SET value = excluded.value, note = excluded.note"
)
_UPDATE_PART: Final = sql.SQL("UPDATE {} SET value = %s WHERE id = %s")
_MOVE_PART: Final = sql.SQL("UPDATE {} SET id = %s WHERE id = %s")
_DELETE_PART: Final = sql.SQL("DELETE FROM {} WHERE id = %s")
_ADD_COLUMN: Final = sql.SQL("ALTER TABLE {} ADD COLUMN {} int DEFAULT 7")
_DROP_CHUNKS: Final = sql.SQL("SELECT drop_chunks({}, older_than => {})")
_TRUNCATE: Final = sql.SQL("TRUNCATE {}")
_TRUNCATE_CHUNK: Final = sql.SQL(
    "DO $do$ BEGIN EXECUTE (SELECT format('TRUNCATE %%s', chunk) FROM show_chunks({}) chunk"
    " ORDER BY chunk LIMIT 1); END $do$"
)


def part_id(number: int) -> str:
    """The key of a plain table's row: texts whose order by bytes, by length and by number all differ."""
    return f"{'äA b'[number % 4]}{number}'"


def disturbances(seed: int, policy: Policy) -> tuple[Transaction, ...]:
    """What else is done to the tables, one after the other."""
    random = Random(f"{seed}/{policy.name}")
    steps = [
        Step(_ADD_COLUMN.format(sql.Identifier(table.name), sql.Identifier(f"added_{number}")))
        for number, table in enumerate(random.sample(TABLES, 2))
    ]
    match policy:
        case Policy.DROPS:
            limit = sql.Literal(DROPPED_BEFORE)
            steps += [Step(_DROP_CHUNKS.format(sql.Literal(table.name), limit)) for table in HYPERTABLES]
        case Policy.TRUNCATES:
            steps += [Step(_TRUNCATE.format(sql.Identifier(random.choice(TABLES).name)))]
            steps += [
                Step(_TRUNCATE_CHUNK.format(sql.Literal(table.name))) for table in random.sample(KEYED, 2)
            ]
        case Policy.LARGE:
            return (_large(random.choice((READINGS, EVENTS))), *(Transaction((step,)) for step in steps))
        case Policy.EVERYTHING | Policy.HIDDEN:
            pass
    random.shuffle(steps)
    return tuple(Transaction((step,), after=random.uniform(0.1, 0.6)) for step in steps)


def _large(table: Table) -> Transaction:
    """Millions of rows in the first days' chunks; of a table with a key some are changed, deleted, changed in vain."""
    name = sql.Identifier(table.name)
    steps = [Step(_INSERT_MANY.format(name), (LARGE_DEVICE, BASE, DAYS, LARGE_ROWS, LARGE_ROWS))]
    if table.key:
        steps += [
            Step(_UPDATE.format(name), (1, LARGE_DEVICE, BASE, BASE + timedelta(hours=6))),
            Step(sql.SQL("SAVEPOINT here")),
            Step(_UPDATE.format(name), (2, LARGE_DEVICE, BASE, BASE + timedelta(hours=12))),
            Step(sql.SQL("ROLLBACK TO here")),
            Step(_DELETE_MANY.format(name), (LARGE_DEVICE, BASE + timedelta(days=DAYS, hours=-2))),
        ]
    return Transaction(tuple(steps), after=0.1)


def _columns(keys: list[Key], numbers: list[int], notes: list[Any]) -> tuple[Any, ...]:
    return [time for time, _ in keys], [device for _, device in keys], numbers, notes
