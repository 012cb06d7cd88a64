"""A fresh database has what its docstring promises, on every server."""

from __future__ import annotations

import psycopg
import pytest

from testkit.cluster import Cluster
from testkit.database import Database
from testkit.errors import KitError


def test_a_fresh_database_has_the_extension_of_its_server(database: Database, server: Cluster) -> None:
    version = database.value("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")

    assert version.startswith(server.timescaledb)


def test_a_plain_database_has_no_extension(plain_database: Database) -> None:
    assert plain_database.rows("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'") == []


def test_the_owner_can_make_a_hypertable_and_is_no_superuser(database: Database) -> None:
    database.execute("CREATE TABLE metrics (time timestamptz NOT NULL, value int)")
    database.execute("SELECT create_hypertable('metrics', 'time')")
    database.execute("INSERT INTO metrics VALUES (now(), 1)")

    assert database.value("SELECT count(*) FROM metrics") == 1
    assert database.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False


def test_the_reader_can_read_nothing_until_it_is_granted(database: Database) -> None:
    database.execute("CREATE TABLE public.metrics (value int)")

    with database.connect("reader") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM metrics")
    database.grant_select("public.metrics")

    with database.connect("reader") as connection:
        assert connection.execute("SELECT * FROM metrics").fetchall() == []


def test_the_reader_can_replicate_once_it_is_granted(database: Database) -> None:
    database.grant_replication()

    reader = database.session("reader")
    reader.execute("CREATE TEMPORARY TABLE scratch ()")
    slot = reader.execute("SELECT pg_create_logical_replication_slot('scratch', 'pgoutput', true)").fetchone()

    assert slot is not None


def test_a_database_is_gone_after_its_block_even_with_a_connection_open(server: Cluster) -> None:
    with server.database("gone") as database:
        lingering = database.connect("reader")

    with server.connect() as connection:
        names = connection.execute("SELECT datname FROM pg_database WHERE datname = 'gone'").fetchall()
        roles = connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'gone%'").fetchall()
    lingering.close()
    assert (names, roles) == ([], [])


def test_a_database_that_was_there_before_is_left_alone(server: Cluster) -> None:
    with pytest.raises(KitError, match="already"), server.database("postgres"):
        pass

    with server.connect("postgres") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_configuration_names_the_reader_and_takes_overrides(database: Database) -> None:
    config = database.config(schemas=["other"])

    with psycopg.connect(
        host=config["host"],
        port=config["port"],
        dbname=config["database"],
        user=config["username"],
        password=config["password"],
    ) as connection:
        assert connection.info.user == database.reader
    assert config["schemas"] == ["other"]
