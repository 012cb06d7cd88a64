"""A standby takes over: the sync goes on where its log is the one that the state knows, and says why where it is not.

Fault row 21 of the list of faults that a sync has to survive: failover to standby.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integration_tests.cdc.conftest import Followed, fill, make_tables
from integration_tests.inprocess import Acts, Ended, InProcess
from source_timescaledb.airbyte.ground import LOST_LOG
from testkit.connector import Connector
from testkit.database import Database
from testkit.proxy import Proxy
from testkit.roots import Root
from testkit.run import Result
from testkit.server import Server, Standby

TABLES = ("metrics", "events", "parts")
SYNCED = {"sync_replication_slots": "on", "hot_standby_feedback": "on"}
WAITING_SECONDS = 40.0


def ending_well(ended: Ended) -> Ended:
    assert ended.failure is None, (ended.errors, ended.logged)
    return ended


def refused(ended: Ended, *words: str) -> None:
    """One config error with these words, and no record."""
    assert ended.records == {}
    assert [error["failure_type"] for error in ended.errors] == ["config_error"], ended.errors
    for word in words:
        assert word in ended.errors[0]["message"]


@dataclass
class Behind(Followed):
    """A followed database behind a door that leads to one server or to another."""

    door: Proxy | None = None

    def source(self) -> InProcess:
        assert self.door is not None
        return InProcess({**self.config, "port": self.door.port})


@dataclass
class Pair:
    """A primary and its standby, and the database that is followed on whichever the door leads to."""

    primary: Server
    standby: Standby
    followed: Behind
    door: Proxy

    def sync(self, acts: Acts | None = None) -> Ended:
        return self.followed.sync(*TABLES, acts=acts)

    def run(self, workdir: Path) -> Result:
        """Sync with the connector in a process of its own."""
        return self.followed.run(workdir, *TABLES, config={"port": self.door.port})

    def promote(self) -> None:
        """Let the standby become a primary, with all that its own has written by now."""
        self.standby.caught_up()
        self.standby.promote()

    def turn_to(self, server: Server) -> Database:
        """Lead everybody to a server; the database there."""
        self.door.lead_to(server.address.host, server.address.port)
        self.door.reset()
        database = self.followed.database
        there = Database(server, database.name, template=database.template)
        there.passwords.update(database.passwords)
        return there

    def fail_over(self) -> Database:
        """Let the standby take over; the database there."""
        self.promote()
        return self.turn_to(self.standby)


@contextmanager
def pair_of(root: Root, **settings: Any) -> Iterator[Pair]:
    with (
        Server(root) as primary,
        Proxy(primary.address.host, primary.address.port) as door,
        primary.database() as database,
    ):
        make_tables(database)
        fill(database)
        followed = Behind(database, f"slot_{database.name}", door=door)
        followed.settings["manage_publication"] = "full"
        with primary.standby(settings=settings) as standby:
            yield Pair(primary, standby, followed, door)
            followed.database.disconnect()


@pytest.fixture
def synced(root: Root) -> Iterator[Pair]:
    """A pair whose standby has the slot that the connector made."""
    with pair_of(root, **SYNCED) as pair:
        ending_well(pair.sync())
        eventually(lambda: is_ready(pair))
        yield pair


@pytest.fixture
def unsynced(root: Root) -> Iterator[Pair]:
    """A pair whose standby copies no slots."""
    with pair_of(root) as pair:
        ending_well(pair.sync())
        yield pair


def is_ready(pair: Pair) -> bool:
    """Whether the standby's copy of the slot would outlive a failover; the server needs the slot to move for that."""
    pair.followed.database.as_superuser().execute("SELECT pg_log_standby_snapshot()")
    ending_well(pair.sync())
    with pair.standby.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_replication_slots WHERE synced AND NOT temporary AND failover"
        ).fetchone()
    return row == (1,)


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WAITING_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def change(database: Database, number: int) -> None:
    """Change something in every table, and add a chunk."""
    database.execute(f"UPDATE metrics SET value = -{number} WHERE device = {number}".encode())
    database.execute(f"DELETE FROM parts WHERE id = {number}".encode())
    database.execute(
        f"INSERT INTO events VALUES ('2024-01-02', 'late {number}'), ('202{number}-05-05', 'new')".encode()
    )


def test_fault_21_a_sync_goes_on_after_a_failover_to_a_standby_that_has_the_slot(
    synced: Pair, tmp_path: Path
) -> None:
    change(synced.followed.database, 5)
    there = synced.fail_over()
    change(there, 6)

    ended = synced.run(tmp_path)

    assert ended.exit_code == 0, ended.errors
    synced.followed.database = there
    synced.followed.mirrors(*TABLES)
    assert len(ended.rows("events")) == 4
    assert [row["id"] for row in ended.rows("parts")] == [5, 6]
    position = ended.state()[0]["global"]["shared_state"]
    assert position["timeline"] == 2
    assert position["clock"] < LOST_LOG
    assert ending_well(synced.sync()).records == {}


def test_fault_21_a_sync_that_meets_the_failover_ends_and_the_next_one_goes_on(synced: Pair) -> None:
    change(synced.followed.database, 5)
    later: list[Database] = []

    def begin_failover() -> None:
        synced.standby.caught_up()
        later.append(synced.turn_to(synced.standby))
        threading.Timer(0.5, synced.standby.promote).start()

    interrupted = synced.sync(acts={("STATE", 1): begin_failover})
    change(later[0], 6)
    ended = ending_well(synced.sync())

    assert any("a failover seems to be under way" in line for line in interrupted.logged)
    assert [error["failure_type"] for error in interrupted.errors] == ["transient_error"]
    assert "changed its timeline from 1 to 2 while the sync ran" in interrupted.errors[0]["message"]
    synced.followed.database = later[0]
    synced.followed.mirrors(*TABLES)
    position = ended.state()[0]["global"]["shared_state"]
    assert position["timeline"] == 2
    assert position["clock"] > LOST_LOG, "what the interrupted sync may have told later is outbid"


def test_a_sync_tells_nothing_that_a_standby_named_to_the_primary_does_not_have(synced: Pair) -> None:
    superuser = synced.followed.database.as_superuser()
    physical = "SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'physical'"
    (slot,) = superuser.execute(physical).fetchone() or ("",)
    superuser.execute(f"ALTER SYSTEM SET synchronized_standby_slots = '{slot}'".encode())
    superuser.execute("SELECT pg_reload_conf()")
    synced.standby.stop()
    change(synced.followed.database, 5)

    with ThreadPoolExecutor() as executor:
        syncing = executor.submit(synced.sync)
        time.sleep(1.5)
        waited = not syncing.done()
        synced.standby.start()
        ended = ending_well(syncing.result())

    assert waited
    assert len(ended.rows("events")) == 2
    synced.followed.mirrors(*TABLES)


def test_fault_21_a_state_that_a_failover_has_left_behind_is_refused_and_told_why(unsynced: Pair) -> None:
    """A state past the point where the standby left; one before it, but no slot; one of the new server at the old."""
    followed = unsynced.followed
    before = list(followed.state)
    unsynced.promote()
    change(followed.database, 5)
    ending_well(unsynced.sync())
    there = unsynced.turn_to(unsynced.standby)

    refused(unsynced.sync(), "from 1 to 2 at", "without changes that were told already")
    followed.state = before
    refused(unsynced.sync(), "from 1 to 2", "did not come with it", "sync_replication_slots")
    assert followed.state == before

    followed.method["invalid_cdc_cursor_position_behavior"] = "Re-sync data"
    followed.destinations.clear()
    ending_well(unsynced.sync())
    followed.database = there
    followed.mirrors(*TABLES)
    unsynced.turn_to(unsynced.primary)
    refused(unsynced.sync(), "from 2 to 1, which does not come from it")


def test_a_standby_is_refused_by_check_and_read_with_what_to_do(unsynced: Pair, tmp_path: Path) -> None:
    source = unsynced.followed.source()
    catalog = source.catalog("incremental", list(TABLES))
    unsynced.standby.caught_up()
    unsynced.turn_to(unsynced.standby)

    status = Connector(source.config, tmp_path).check().connection_status
    refused(source.read(catalog, unsynced.followed.state), "standby", "Connect to the primary")

    assert status["status"] == "FAILED"
    assert "The server is a standby: changes are followed on the primary." in status["message"]
    assert "Connect to the primary" in status["message"]
