"""Faults of the slot and of the server it belongs to: a change that cannot be had any more is never skipped in silence.

The numbers are those of the table of faults (`docs/faults.md`).
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from integration_tests.cdc.conftest import PUBLICATION, Followed, fill, make_tables
from integration_tests.cdc.impatient import run_that_waits_for_no_writer
from integration_tests.cdc.scenes import until
from integration_tests.cdc.test_faults import TABLES, change, once, position, reconnections
from integration_tests.postgres.test_slot import write_wal_until_lost
from testkit.database import Database
from testkit.protocol import Output
from testkit.proxy import Proxy
from testkit.roots import Root
from testkit.run import At, signalled
from testkit.server import Server

pytestmark = pytest.mark.any_server

GIVE_UP = {"SOURCE_TIMESCALEDB_RETRY_SECONDS": "1"}
SLOT = "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')"
TINY = {"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}


@pytest.fixture
def synced(followed: Followed) -> Followed:
    """Three tables, read once."""
    return first_synced(followed)


def first_synced(followed: Followed) -> Followed:
    fill(followed.database)
    followed.publish(*TABLES)
    followed.sync(*TABLES)
    return followed


@contextmanager
def on_a_server_of_its_own(root: Root, **settings: str) -> Iterator[tuple[Server, Followed]]:
    with Server(root, settings=settings) as server, server.database() as database:
        make_tables(database)
        yield server, first_synced(Followed(database, f"slot_{database.name}"))


def fails(ended: Output, kind: str, *words: str) -> None:
    """Fail unless it ended with one error of this kind, which has all these words."""
    assert [error["failure_type"] for error in ended.errors] == [kind], ended.errors
    assert [word for word in words if word not in ended.errors[0]["message"]] == [], ended.errors
    assert {status for _, _, status in ended.statuses if status.endswith("COMPLETE")} == {"INCOMPLETE"}


def slots(database: Database) -> list[str]:
    query = "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()"
    return [name for (name,) in database.as_superuser().execute(query)]


def drop_slot(followed: Followed) -> None:
    """Drop the slot, whoever reads it.

    The server cannot end a session before it has said so, and it cannot say so while nobody reads: not for an `At`.
    """
    superuser = followed.database.as_superuser()
    superuser.execute(
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
        " WHERE slot_name = %s AND active_pid IS NOT NULL",
        [followed.slot],
    )
    superuser.execute("SELECT pg_drop_replication_slot(%s)", [followed.slot])


def make_slot_again(followed: Followed) -> None:
    drop_slot(followed)
    followed.database.as_superuser().execute(SLOT, [followed.slot])


def making_a_slot(database: Database) -> bool:
    row = (
        database.as_superuser()
        .execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE_REPLICATION_SLOT%'")
        .fetchone()
    )
    return row != (0,)


@contextmanager
def open_writer(database: Database) -> Iterator[psycopg.Connection]:
    with closing(database.connect()) as writer:
        writer.execute("DELETE FROM parts WHERE id = 1")
        yield writer


@pytest.mark.parametrize("how", ["while it waits", "in the first byte of its answer", "within its answer"])
def test_fault_14_a_connection_cut_while_a_slot_is_made_leaves_one_slot_that_is_used(
    followed: Followed, tmp_path: Path, how: str
) -> None:
    database = followed.database
    fill(database)
    address = database.cluster.address
    followed.settings["manage_publication"] = "full"
    with Proxy(address.host, address.port) as proxy, open_writer(database) as writer:
        catalog = followed.source().catalog("incremental", list(TABLES))
        run = followed.start(tmp_path, catalog, config={"port": proxy.port})
        until(lambda: making_a_slot(database))
        if how == "while it waits":
            proxy.cut()
        else:
            proxy.cut_after(0 if "first" in how else 40, reset=True)
        writer.commit()
        ended = run.wait()

    assert ended.exit_code == 0, ended.errors
    assert slots(database) == [followed.slot]
    assert len(ended.rows("parts")) == 299
    database.execute("INSERT INTO parts VALUES (1000, 'new')")
    followed.state = ended.state()
    assert [row["id"] for row in followed.run(tmp_path, *TABLES).rows("parts")] == [1000]


@pytest.mark.parametrize("made_by", ["us", "the user"])
def test_fault_15_a_start_that_an_old_transaction_holds_up_names_it(
    followed: Followed, tmp_path: Path, made_by: str
) -> None:
    fill(followed.database)
    if made_by == "us":
        followed.settings["manage_publication"] = "full"
    else:
        followed.publish(*TABLES)
    with open_writer(followed.database) as writer:
        ended = followed.run(tmp_path, *TABLES, entry=run_that_waits_for_no_writer, environment=GIVE_UP)

        fails(ended, "transient_error", f"process {writer.info.backend_pid} ", "pg_terminate_backend")
    assert ended.records == {}
    assert slots(followed.database) == ([] if made_by == "us" else [followed.slot])
    assert followed.run(tmp_path, *TABLES).exit_code == 0


@pytest.mark.slow
def test_fault_16_a_slot_that_a_suspended_run_holds_is_waited_for_and_the_run_skips_nothing_when_it_wakes(
    synced: Followed, tmp_path: Path
) -> None:
    """Nothing is terminated: the server itself ends a reader that has not answered for ten seconds."""
    catalog = synced.source().catalog("incremental", list(TABLES))
    change(synced)
    suspended = synced.start(tmp_path / "old", catalog, at=[At("RECORD", 500, signalled(signal.SIGSTOP))])
    until(lambda: suspended.seen("RECORD") >= 500)

    ended = synced.run(tmp_path, *TABLES)
    next_one = synced.run(tmp_path, *TABLES)
    suspended.process.send_signal(signal.SIGCONT)
    woken = suspended.wait()

    assert (ended.exit_code, next_one.exit_code) == (0, 0)
    assert any("is being read by process" in line for line in ended.logs)
    synced.mirrors("metrics", "parts")
    fails(woken, "config_error", "begins at")


def test_fault_17_a_slot_that_somebody_else_reads_is_transient_and_named(
    synced: Followed, tmp_path: Path
) -> None:
    with closing(psycopg.connect(synced.database.conninfo("superuser", replication="database"))) as other:
        pid = other.info.backend_pid
        command = (
            f"START_REPLICATION SLOT {synced.slot} LOGICAL 0/0"
            f" (proto_version '1', publication_names '{PUBLICATION}')"
        )
        other.pgconn.exec_(command.encode())

        ended = synced.run(tmp_path, *TABLES, environment=GIVE_UP)

    fails(ended, "transient_error", synced.slot, f"process {pid}", "end the other reader")


@pytest.mark.parametrize("behaviour", ["Fail sync", "Re-sync data"])
@pytest.mark.parametrize("act", [drop_slot, make_slot_again])
def test_fault_18_a_slot_that_was_dropped_or_made_again_is_an_error_or_reads_all_again(
    synced: Followed, tmp_path: Path, act: Callable[[Followed], None], behaviour: str
) -> None:
    synced.method["invalid_cdc_cursor_position_behavior"] = behaviour
    synced.settings["manage_publication"] = "full"
    synced.database.execute("UPDATE parts SET note = 'lost' WHERE id = 1")
    act(synced)

    ended = synced.run(tmp_path, *TABLES)

    if behaviour == "Fail sync":
        fails(ended, "config_error", synced.slot, "clear the state")
        assert (ended.records, ended.states) == ({}, [])
    else:
        assert ended.exit_code == 0
        assert len(ended.rows("events")) == 300
        synced.mirrors("metrics", "parts")


def test_fault_18_a_slot_that_is_made_again_in_mid_run_skips_nothing(
    synced: Followed, tmp_path: Path
) -> None:
    change(synced)
    before = synced.state

    with ThreadPoolExecutor() as threads:
        act = once(lambda: threads.submit(make_slot_again, synced))
        ended = synced.run(tmp_path, *TABLES, at=[At("RECORD", 100, act)], bytes_per_second=4_000_000)

    fails(ended, "config_error", "made again", "clear the state")
    assert position(before) <= position(ended.state())
    assert len(ended.rows("parts")) == 0


def test_fault_19_a_slot_that_the_server_has_given_up_names_the_setting(root: Root, tmp_path: Path) -> None:
    with on_a_server_of_its_own(root, **TINY) as (_, followed), ThreadPoolExecutor() as threads:
        change(followed)

        lose = once(lambda: threads.submit(write_wal_until_lost, followed.database))
        ended = followed.run(tmp_path, *TABLES, at=[At("RECORD", 100, lose)], bytes_per_second=4_000_000)
        again = followed.run(tmp_path, *TABLES)
        followed.method["invalid_cdc_cursor_position_behavior"] = "Re-sync data"
        not_ours = followed.run(tmp_path, *TABLES)
        followed.settings["manage_publication"] = "full"
        followed.destinations.clear()
        mended = followed.run(tmp_path, *TABLES)

        for failed in (ended, again, not_ours):
            fails(failed, "config_error", "max_slot_wal_keep_size", "clear the state")
        assert (again.records, not_ours.records) == ({}, {})
        assert mended.exit_code == 0
        assert [line for line in mended.logs if "dropped to be made again" in line and "wal_removed" in line]
        followed.mirrors("metrics", "parts")


def test_fault_22_a_server_that_was_restored_to_the_past_is_refused(root: Root, tmp_path: Path) -> None:
    with on_a_server_of_its_own(root) as (server, followed):
        database, data = followed.database, server.folder / "data"
        followed.database.disconnect()
        server.stop()
        subprocess.run(["cp", "-a", data, tmp_path / "backup"], check=True)
        server.start()
        change(followed)
        followed.sync(*TABLES)
        database.disconnect()
        server.stop()
        shutil.rmtree(data)
        subprocess.run(["cp", "-a", tmp_path / "backup", data], check=True)
        server.start()

        ended = followed.run(tmp_path, *TABLES)

    fails(ended, "config_error", "set back to the past", "Clear the state")
    assert ended.records == {}
    assert reconnections(ended) == []
