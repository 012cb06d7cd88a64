"""Pairs of writers do on a server what their meetings say."""

from __future__ import annotations

import time
from itertools import islice

import pytest

from oracle.meetings import DEVICE, duels, settlings
from oracle.tables import HYPERTABLES, KEYED, make_tables
from oracle.together import meet
from oracle.writers import Tally
from testkit.database import Database

pytestmark = pytest.mark.any_server


@pytest.fixture
def tables(database: Database) -> Database:
    make_tables(database)
    return database


def values(database: Database, tables: list[str]) -> list[int]:
    rows = " UNION ALL ".join(f"SELECT value FROM {table} WHERE device = {DEVICE}" for table in tables)
    return sorted(value for (value,) in database.rows(rows.encode()))


def test_of_a_duel_the_row_of_the_one_who_waited_stays(tables: Database) -> None:
    fought = list(islice(duels(1), 20))

    tally = Tally()
    meet(tables, fought, lambda: False, time.sleep, tally)

    last = {
        (one.second.statement.as_string(None), one.second.parameters[:-1]): one.second.parameters[-1]
        for one in fought
    }
    assert tally.committed == 40
    assert values(tables, [table.name for table in KEYED]) == sorted(
        value for (_, key), value in last.items() if DEVICE in key
    )


def test_a_settling_ends_although_nobody_publishes_its_chunk(tables: Database) -> None:
    settled = list(islice(settlings(1), 2))

    tally = Tally()
    meet(tables, settled, lambda: False, time.sleep, tally)

    assert tally.committed == 4
    assert values(tables, [table.name for table in HYPERTABLES]) == sorted(
        step.parameters[-1] for one in settled for step in (one.birth, one.first, one.last)
    )
