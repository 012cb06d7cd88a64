"""Slots: made without waiting for ever, refused for every reason that would lose changes, dropped without a fuss."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest

from integration_tests.postgres.test_connection import settings
from source_timescaledb.errors import ConfigurationError, ContentionError, TransientError
from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.connection import Connection, Session, open_connection
from source_timescaledb.postgres.fitness import slot_problems
from source_timescaledb.postgres.slot import (
    ChangesGoneError,
    Slot,
    SlotActiveError,
    SlotInvalidatedError,
    create_slot,
    drop_slot,
    read_slot,
)
from source_timescaledb.postgres.timeline import (
    WalPoint,
    identify,
    read_forks,
    server_problems,
)
from testkit.database import Database
from testkit.roots import Root
from testkit.server import Server


@pytest.fixture
def name(database: Database) -> Iterator[str]:
    """The name of a slot that does not exist yet; dropped at the end."""
    slot = f"slot_of_{database.name}"
    yield slot
    database.disconnect()
    query = "SELECT {} FROM pg_replication_slots WHERE slot_name = %s"
    superuser = database.as_superuser()
    superuser.execute(query.format("pg_terminate_backend(active_pid, 5000)").encode(), [slot])
    superuser.execute(query.format("pg_drop_replication_slot(slot_name)").encode(), [slot])


@pytest.fixture
def replication(database: Database) -> Iterator[Connection]:
    database.grant_replication()
    with open_connection(settings(database), "test", Session.REPLICATION) as opened:
        yield opened


@pytest.fixture
def watching(database: Database) -> Iterator[Connection]:
    with open_connection(settings(database), "watch") as opened:
        yield opened


def make(replication: Connection, watching: Connection, name: str, seconds: float = 60.0) -> Lsn:
    return create_slot(replication, watching, name, seconds=seconds, clock=time.monotonic, sleep=time.sleep)


def existing(connection: Connection, name: str) -> Slot:
    slot = read_slot(connection, name)
    assert slot is not None
    return slot


def gone(connection: Connection, name: str) -> bool:
    """Whether a slot is not there any more within five seconds; a creation under way shows one already."""
    deadline = time.monotonic() + 5
    while read_slot(connection, name) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    return read_slot(connection, name) is None


def test_a_role_with_nothing_but_replication_makes_a_slot(
    database: Database, replication: Connection, watching: Connection, name: str
) -> None:
    point = make(replication, watching, name)

    slot = existing(watching, name)
    assert (slot.plugin, slot.database, slot.temporary) == ("pgoutput", database.name, False)
    assert slot.confirmed_flush == point
    assert slot.failover == (watching.info.server_version >= 170_000)
    assert slot.restart_lsn is not None
    assert slot.restart_lsn <= point
    assert (slot.wal_status, slot.invalidation_reason, slot.active_pid) == ("reserved", "", None)
    assert slot_problems(name, slot, database.name, WalPoint("", 1, point)) == []
    assert existing(replication, name) == slot


def test_an_open_writer_bounds_the_creation_and_is_named(
    database: Database, replication: Connection, watching: Connection, name: str
) -> None:
    with database.connect() as writer:
        writer.execute("CREATE TABLE public.t (a int)")

        with pytest.raises(TransientError) as caught:
            make(replication, watching, name, seconds=1.0)

        assert f"process {writer.info.backend_pid} (role {database.owner} in database {database.name}" in str(
            caught.value
        )
        assert read_slot(watching, name) is None
    assert make(replication, watching, name) > 0


def test_giving_up_in_the_middle_leaves_no_slot_behind(
    database: Database, replication: Connection, watching: Connection, name: str
) -> None:
    interrupts = [KeyboardInterrupt]

    def interrupted_once(seconds: float) -> None:
        if interrupts:
            raise interrupts.pop()
        time.sleep(seconds)

    with database.connect() as writer:
        writer.execute("CREATE TABLE public.t (a int)")
        with pytest.raises(KeyboardInterrupt):
            create_slot(replication, watching, name, seconds=60, clock=time.monotonic, sleep=interrupted_once)

        assert gone(watching, name)


def test_a_slot_that_somebody_else_has_made_meanwhile_is_contention(
    replication: Connection, watching: Connection, name: str
) -> None:
    make(replication, watching, name)

    with pytest.raises(ContentionError, match=name):
        make(replication, watching, name)


def test_a_server_that_allows_no_slots_is_a_configuration_error_that_names_the_setting(root: Root) -> None:
    with Server(root, settings={"max_replication_slots": 0}) as server, server.database() as database:
        database.grant_replication()
        with (
            open_connection(settings(database), "test", Session.REPLICATION) as replication,
            open_connection(settings(database), "watch") as watching,
            pytest.raises(ConfigurationError, match="max_replication_slots"),
        ):
            make(replication, watching, "any")


def test_dropping_a_slot_twice_is_no_error(replication: Connection, watching: Connection, name: str) -> None:
    make(replication, watching, name)

    drop_slot(watching, name)
    drop_slot(watching, name)

    assert read_slot(watching, name) is None


def hold(database: Database, name: str) -> Connection:
    """Read a slot as another consumer would."""
    holder = open_connection(settings(database), "holder", Session.REPLICATION)
    holder.pgconn.send_query(
        f"START_REPLICATION SLOT {name} LOGICAL 0/0 (proto_version '1', publication_names 'p')".encode()
    )
    while holder.pgconn.is_busy():
        holder.pgconn.consume_input()
    return holder


def test_a_slot_that_is_being_read_is_neither_dropped_nor_read_and_its_reader_is_named(
    database: Database, replication: Connection, watching: Connection, name: str
) -> None:
    make(replication, watching, name)
    with closing(hold(database, name)) as holder:
        with pytest.raises(SlotActiveError, match=f"PID {holder.info.backend_pid}"):
            drop_slot(watching, name)

        (problem,) = slot_problems(name, existing(watching, name), database.name)

        assert isinstance(problem, SlotActiveError)
        assert f"process {holder.info.backend_pid}" in str(problem)


def test_a_missing_slot_says_how_to_make_it_and_with_a_state_that_changes_are_gone(
    database: Database, name: str
) -> None:
    (fresh,) = slot_problems(name, None, database.name)
    (later,) = slot_problems(name, None, database.name, WalPoint("", 1, Lsn(16)))

    assert isinstance(fresh, ConfigurationError)
    assert not isinstance(fresh, ChangesGoneError)
    assert f"pg_create_logical_replication_slot('{name}', 'pgoutput')" in str(fresh)
    assert isinstance(later, ChangesGoneError)


@pytest.mark.parametrize(
    ("making", "told"),
    [
        ("pg_create_physical_replication_slot(%s)", "physical"),
        ("pg_create_logical_replication_slot(%s, 'test_decoding')", "plugin test_decoding, not pgoutput"),
        ("pg_create_logical_replication_slot(%s, 'pgoutput', true)", "temporary"),
    ],
)
def test_a_slot_of_another_kind_is_a_configuration_error(
    database: Database, watching: Connection, name: str, making: str, told: str
) -> None:
    database.as_superuser().execute(f"SELECT {making}".encode(), [name])

    problems = slot_problems(name, existing(watching, name), database.name)

    assert told in str(problems[0])
    assert isinstance(problems[0], ConfigurationError)


def test_a_slot_of_another_database_is_a_configuration_error(
    database: Database, replication: Connection, watching: Connection, name: str
) -> None:
    make(replication, watching, name)

    (problem,) = slot_problems(name, existing(watching, name), "elsewhere")

    assert isinstance(problem, ConfigurationError)
    assert f"belongs to the database {database.name}, not elsewhere" in str(problem)


def test_a_slot_that_was_made_again_has_lost_the_changes_since_the_state(
    database: Database, replication: Connection, watching: Connection, name: str
) -> None:
    kept = WalPoint("", 1, make(replication, watching, name))
    drop_slot(watching, name)
    database.execute("CREATE TABLE public.t (a int)")
    make(replication, watching, name)

    (problem,) = slot_problems(name, existing(watching, name), database.name, kept)

    assert isinstance(problem, ChangesGoneError)
    assert str(kept.lsn) in str(problem)


def test_an_invalidated_slot_is_an_error_that_names_the_setting(root: Root) -> None:
    limits = {"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}
    with Server(root, settings=limits) as server, server.database() as database:
        database.grant_replication()
        with (
            open_connection(settings(database), "test", Session.REPLICATION) as replication,
            open_connection(settings(database), "watch") as watching,
        ):
            kept = WalPoint("", 1, make(replication, watching, "lost"))
            write_wal_until_lost(database)

            (problem,) = slot_problems("lost", existing(watching, "lost"), database.name, kept)

    assert isinstance(problem, SlotInvalidatedError)
    assert "max_slot_wal_keep_size" in str(problem)


def write_wal_until_lost(database: Database) -> None:
    superuser = database.as_superuser()
    for _ in range(5):
        superuser.execute("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000))")
        superuser.execute("SELECT pg_switch_wal()")
    superuser.execute("CHECKPOINT")


def test_the_server_tells_where_it_stands(database: Database, replication: Connection) -> None:
    before = Lsn.parse(database.value("SELECT pg_current_wal_insert_lsn()::text"))

    here = identify(replication)

    assert here.lsn >= before
    assert here.timeline == 1
    assert here.system.isdigit()
    assert server_problems(here, here) == []


def test_a_state_of_another_server_is_refused(replication: Connection) -> None:
    here = identify(replication)

    (problem,) = server_problems(here, replace(here, system="42"))

    assert "another server" in str(problem)


def test_a_server_set_back_to_the_past_is_refused(replication: Connection) -> None:
    here = identify(replication)

    (problem,) = server_problems(here, replace(here, lsn=Lsn(here.lsn + 1)))

    assert "set back" in str(problem)


def test_a_promoted_standby_continues_what_was_kept_before_it_left_and_nothing_else(root: Root) -> None:
    with Server(root) as primary, primary.database() as database:
        database.grant_replication()
        with open_connection(settings(database), "test", Session.REPLICATION) as replication:
            kept = identify(replication)
        with primary.standby() as standby:
            standby.caught_up()
            standby.promote()
            other = settings(database, port=standby.address.port)
            with open_connection(other, "test", Session.REPLICATION) as replication:
                here = identify(replication)
                forks = read_forks(replication, here.timeline)

    assert [fork.timeline for fork in forks] == [1]
    assert server_problems(here, kept, forks) == []
    (past,) = server_problems(here, replace(kept, lsn=Lsn(forks[0].lsn + 1)), forks)
    (unknown,) = server_problems(here, kept)
    assert isinstance(past, ConfigurationError)
    assert f"timeline from 1 to 2 at {forks[0].lsn}" in str(past)
    assert "does not come from it" in str(unknown)


def test_where_a_standby_stands_can_be_asked_too(root: Root) -> None:
    with Server(root) as primary, primary.database() as database:
        database.grant_replication()
        with primary.standby() as standby:
            standby.caught_up()
            other = settings(database, port=standby.address.port)
            with open_connection(other, "test", Session.REPLICATION) as replication:
                here = identify(replication)

    assert here.lsn > 0


def test_a_lost_connection_while_a_slot_is_made_is_transient(
    database: Database, replication: Connection, watching: Connection, name: str
) -> None:
    ends = [lambda: database.as_superuser().execute(
        "SELECT pg_terminate_backend(%s)", [replication.info.backend_pid]
    )]  # fmt: skip

    def end_the_server_process(_: float) -> None:
        while ends:
            ends.pop()()

    with database.connect() as writer:
        writer.execute("CREATE TABLE public.t (a int)")
        with pytest.raises(TransientError):
            create_slot(
                replication, watching, name, seconds=20, clock=time.monotonic, sleep=end_the_server_process
            )

    assert read_slot(watching, name) is None
    with pytest.raises(psycopg.OperationalError):
        replication.execute("IDENTIFY_SYSTEM")
