"""Servers that are set up wrongly: what is to be set is found, with the restart that it takes; then all is well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from integration_tests.cdc.conftest import PUBLICATION, Followed, fill, make_tables
from integration_tests.cdc.test_bad_setup import PUBLISH
from integration_tests.health.consulting import agrees, doctor, follow, follow_script
from integration_tests.postgres.test_slot import write_wal_until_lost
from source_timescaledb.cdc.compressing import MARKERS
from testkit.database import Database
from testkit.protocol import Json
from testkit.roots import Root
from testkit.server import Server

TABLES = ("metrics", "events", "parts")
TINY = {"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}


@contextmanager
def followed_on(root: Root, **settings: str | int) -> Iterator[tuple[Server, Followed]]:
    """A server of the test's own with tables whose changes are to be followed."""
    with Server(root, settings=settings) as server, server.database() as database:
        make_tables(database)
        fill(database)
        yield server, Followed(database, f"slot_{database.name}")


def is_mended(
    server: Server, followed: Followed, workdir: Path, *words: str, by_script: bool = False
) -> Json:
    """Fail unless this is found, and after the SQL, and a restart where one is due, `check` succeeds and a sync runs."""
    found = doctor(followed.config, workdir)
    finding = found.finding(*words)
    assert finding["severity"] == "blocking"
    agrees(followed.config, found)
    if by_script:
        script = doctor(followed.config, workdir, "--fix-sql").said
        restart = follow_script(followed.database, script)
    else:
        restart = follow(followed.database, finding)
    if restart:
        followed.database.disconnect()
        server.restart()
    afterwards = doctor(followed.config, workdir)
    assert afterwards.status == 0, afterwards.said
    assert agrees(followed.config, afterwards)[0]
    ended = followed.sync(*TABLES)
    assert ended.failure is None, ended.errors
    return finding


def make_slot(followed: Followed) -> None:
    followed.database.as_superuser().execute(
        "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [followed.slot]
    )


@pytest.mark.any_server
def test_a_server_that_logs_too_little(root: Root, tmp_path: Path) -> None:
    with followed_on(root, wal_level="replica") as (server, followed):
        followed.database.execute(PUBLISH.encode())
        followed.settings["manage_publication"] = "full"

        is_mended(server, followed, tmp_path, "wal_level is replica", "SET wal_level = 'logical'")


@pytest.mark.any_server
def test_a_server_without_a_slot_left(root: Root, tmp_path: Path) -> None:
    with followed_on(root, max_replication_slots=1) as (server, followed):
        followed.settings["manage_publication"] = "full"
        superuser = followed.database.as_superuser()
        superuser.execute("SELECT pg_create_logical_replication_slot('of_somebody_else', 'test_decoding')")

        is_mended(server, followed, tmp_path, "All 1 replication slots", "SET max_replication_slots = 5")


@pytest.mark.any_server
def test_a_server_without_a_sender_left(root: Root, tmp_path: Path) -> None:
    with followed_on(root, max_wal_senders=1) as (server, followed), ExitStack() as taken:
        followed.publish(*TABLES)
        sender = psycopg.connect(followed.database.conninfo("superuser", replication="database"))
        taken.callback(sender.close)

        is_mended(server, followed, tmp_path, "All 1 processes that send", "SET max_wal_senders = 5")


@pytest.mark.any_server
@pytest.mark.parametrize("by_script", [False, True])
def test_a_slot_that_the_server_has_given_up(root: Root, tmp_path: Path, by_script: bool) -> None:
    with followed_on(root, **TINY) as (server, followed):
        followed.publish(*TABLES)
        write_wal_until_lost(followed.database)

        is_mended(
            server,
            followed,
            tmp_path,
            "has invalidated the replication slot",
            "max_slot_wal_keep_size",
            by_script=by_script,
        )


@pytest.mark.community
def test_moves_of_compressed_rows_that_are_not_marked(root: Root, tmp_path: Path) -> None:
    with followed_on(root, **{MARKERS: "off"}) as (server, followed):
        followed.publish(*TABLES)
        followed.database.execute("ALTER TABLE metrics SET (timescaledb.compress)")

        is_mended(server, followed, tmp_path, f"{MARKERS} is off", f"ALTER SYSTEM SET {MARKERS} = on")


@pytest.mark.any_server
def test_a_slot_of_another_database_is_left_alone(followed: Followed, tmp_path: Path) -> None:
    followed.database.execute(PUBLISH.encode())
    with followed.database.cluster.connect() as elsewhere:
        elsewhere.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [followed.slot])
        try:
            found = doctor(followed.config, tmp_path)
            finding = found.finding("belongs to the database postgres")
            agrees(followed.config, found)

            follow(followed.database, finding)
            followed.slot = finding["settings"]["replication_method.replication_slot"]

            afterwards = doctor(followed.config, tmp_path)
            assert afterwards.status == 0, afterwards.said
            assert agrees(followed.config, afterwards)[0]
        finally:
            elsewhere.execute("SELECT pg_drop_replication_slot(%s)", [f"slot_{followed.database.name}"])


@pytest.mark.any_server
def test_a_database_without_the_extension(plain_database: Database, tmp_path: Path) -> None:
    plain_database.execute("CREATE TABLE parts (id int PRIMARY KEY)")
    plain_database.grant_select("parts")
    config = plain_database.config()

    found = doctor(config, tmp_path)
    finding = found.finding("no TimescaleDB extension")
    agrees(config, found)

    assert finding["severity"] == "warning"
    plain_database.as_superuser().execute(finding["statements"][0]["sql"].encode())
    plain_database.disconnect()
    assert doctor(config, tmp_path).matching("no TimescaleDB extension") == []


@pytest.mark.any_server
def test_a_script_for_a_role_that_cannot_log_in_makes_the_role_and_holds_no_secret(
    followed: Followed, tmp_path: Path
) -> None:
    database, newcomer = followed.database, f'new"{followed.database.name}'
    config = {**followed.config, "username": newcomer, "password": "canary-of-the-newcomer"}
    found = doctor(config, tmp_path)
    assert found.finding("password")["topic"] == "connection"
    agrees(config, found)

    script = doctor(config, tmp_path, "--fix-sql").said
    assert "canary-of-the-newcomer" not in script + found.said
    follow_script(database, script.replace("<password>", "canary-of-the-newcomer"))
    try:
        follow_script(database, doctor(config, tmp_path, "--fix-sql").said)
        afterwards = doctor(config, tmp_path)

        assert afterwards.status == 0, afterwards.said
        assert agrees(config, afterwards)[0]
        assert f"CREATE PUBLICATION {PUBLICATION}" not in afterwards.said
    finally:
        quoted = newcomer.replace('"', '""')
        database.as_superuser().execute(f'DROP OWNED BY "{quoted}"; DROP ROLE "{quoted}"'.encode())
