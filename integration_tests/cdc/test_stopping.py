"""A sync that is told to stop ends where a STATE can say all that it has told, so the next one repeats nothing."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from integration_tests.cdc.conftest import Followed, fill
from integration_tests.cdc.impatient import run_that_stops_at_once
from testkit.protocol import Output
from testkit.run import At, signalled

pytestmark = pytest.mark.any_server

TABLES = ("metrics", "events", "parts")
ROWS = 20_000
STOP = signalled(signal.SIGTERM)


@pytest.fixture
def published(followed: Followed) -> Followed:
    """Three tables of many rows, of which nothing was read yet."""
    fill(followed.database, rows=ROWS)
    followed.publish(*TABLES)
    return followed


def left_open(ended: Output) -> bool:
    """Whether the last STATE says that records may have been told that it does not count."""
    is_open: bool = ended.states[-1].message["global"]["shared_state"]["open"]
    return is_open


def count(ended: Output) -> int:
    return sum(map(len, ended.records.values()))


@pytest.mark.parametrize("record", [1, ROWS, 2 * ROWS])
def test_fault_04_a_signal_in_the_middle_of_a_first_load_leaves_nothing_open(
    published: Followed, tmp_path: Path, record: int
) -> None:
    database = published.database

    stopped = published.run(tmp_path, *TABLES, at=[At("RECORD", record, STOP)])

    assert stopped.exit_code == -signal.SIGTERM
    assert stopped.errors == []
    assert {status for _, _, status in stopped.statuses[-3:]} == {"INCOMPLETE"}
    assert stopped.states[-1].records_before == count(stopped) < 3 * ROWS
    assert not left_open(stopped)
    database.execute("UPDATE metrics SET note = 'changed' WHERE device = 1")
    database.execute("DELETE FROM parts WHERE id % 3 = 0")
    database.execute("INSERT INTO events SELECT time, 'new' FROM metrics WHERE device = 2")
    published.run(tmp_path, *TABLES)
    published.mirrors(*TABLES)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_fault_04_what_a_signal_cuts_in_two_is_told_once(
    published: Followed, tmp_path: Path, number: signal.Signals
) -> None:
    stopped = published.run(tmp_path, *TABLES, at=[At("RECORD", ROWS // 2, signalled(number))])

    resumed = published.run(tmp_path, *TABLES)

    assert stopped.exit_code == -number
    assert resumed.exit_code == 0
    assert count(stopped) + count(resumed) == 3 * ROWS
    published.mirrors(*TABLES)


def test_fault_04_a_signal_in_the_middle_of_a_transaction_waits_for_its_end(
    published: Followed, tmp_path: Path
) -> None:
    published.sync(*TABLES)
    published.database.execute("UPDATE parts SET note = 'one'")
    published.database.execute("UPDATE parts SET note = 'two'")

    stopped = published.run(tmp_path, *TABLES, at=[At("RECORD", ROWS // 2, STOP)])
    resumed = published.run(tmp_path, *TABLES)

    assert [row["note"] for row in stopped.rows("parts")] == ["one"] * ROWS
    assert not left_open(stopped)
    assert [row["note"] for row in resumed.rows("parts")] == ["two"] * ROWS
    published.mirrors(*TABLES)


def test_fault_04_a_signal_where_there_is_no_time_leaves_the_state_open_and_loses_nothing(
    published: Followed, tmp_path: Path
) -> None:
    published.sync(*TABLES)
    published.database.execute("UPDATE parts SET note = 'one'")

    stopped = published.run(
        tmp_path, *TABLES, at=[At("RECORD", ROWS // 4, STOP)], entry=run_that_stops_at_once
    )
    resumed = published.run(tmp_path, *TABLES)

    assert stopped.exit_code == -signal.SIGTERM
    assert left_open(stopped)
    assert stopped.states[-1].records_before == count(stopped) < ROWS
    assert count(resumed) == ROWS
    published.mirrors(*TABLES)


def test_a_signal_in_the_middle_of_a_backlog_keeps_what_was_told_of_it(
    published: Followed, tmp_path: Path
) -> None:
    published.sync(*TABLES)
    database = published.database
    for number in range(100):
        database.execute("UPDATE parts SET note = %s WHERE id <= 300", [f"round {number}"])

    stopped = published.run(tmp_path, *TABLES, at=[At("RECORD", 10_000, STOP)])
    resumed = published.run(tmp_path, *TABLES)

    assert 10_000 < count(stopped) < 20_000
    assert not left_open(stopped)
    assert count(stopped) + count(resumed) == 30_000
    published.mirrors(*TABLES)
