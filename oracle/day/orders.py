"""What the writers of a day do, drawn from a seed: pure. Times count back from the moment of writing."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final

from oracle.upkeep import Order

DEVICES: Final = 5
DROPPED_AFTER_SECONDS: Final = 60
"""What is older goes; nothing is written half as old."""


def orders(seed: int, writer: int) -> Iterator[Order]:
    """What a writer does, without end: mostly new rows, some late ones, corrections of young and of compressed rows."""
    random = Random(f"{seed}/day/{writer}")
    while True:
        device, value = random.randrange(DEVICES), random.randrange(1_000)
        ago = random.uniform(0, 1) if random.random() < 0.7 else random.uniform(0, DROPPED_AFTER_SECONDS / 2)
        after = random.choice((0.0, 0.02, 0.05))
        match random.randrange(8):
            case 0:
                yield Order(_UPDATE, (value, device, ago, ago), after)
            case 1:
                yield Order(_DELETE, (device, ago, ago), after)
            case 2 | 3:
                yield Order(_EVENTS, (ago, device, value, random.choice((1, 5, 40))), after)
            case 4:
                yield Order(f"{_READINGS} {_OR_UPDATE}", (ago, device, value, 20), after)
            case _:
                yield Order(
                    f"{_READINGS} {_OR_NOTHING}", (ago, device, value, random.choice((1, 10, 100))), after
                )


_ROWS: Final = (
    "SELECT date_trunc('second', clock_timestamp() - %s * interval '1 second') + i * interval '20 milliseconds',"
    " %s::int, %s::int + i, 'row ' || i FROM generate_series(0, %s - 1) i"
)
_READINGS: Final = f"INSERT INTO readings (time, device, value, note) {_ROWS}"
_EVENTS: Final = f"INSERT INTO events (time, device, value, note) {_ROWS}"
_OR_NOTHING: Final = "ON CONFLICT DO NOTHING"
_OR_UPDATE: Final = "ON CONFLICT (device, time) DO UPDATE SET value = excluded.value, note = excluded.note"
_MOMENT: Final = (
    "time > clock_timestamp() - (%s + 0.3) * interval '1 second'"
    " AND time < clock_timestamp() - %s * interval '1 second'"
)
_UPDATE: Final = f"UPDATE readings SET value = %s WHERE device = %s AND {_MOMENT}"  # noqa: S608 - ours
_DELETE: Final = f"DELETE FROM readings WHERE device = %s AND {_MOMENT}"  # noqa: S608 - ours
