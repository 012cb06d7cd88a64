from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from source_timescaledb.config import read_configuration
from source_timescaledb.errors import ConfigurationError, ConnectorError, TransientError
from source_timescaledb.postgres.connection import Connection, ConnectionSettings, open_connection
from source_timescaledb.sqlstates import connector_error
from testkit.database import Database


def failure(
    database: Database, action: Callable[[Connection], Any], *, database_name: str = ""
) -> ConnectorError:
    configuration, _ = read_configuration(database.config(database=database_name or database.name))
    settings = ConnectionSettings.from_configuration(configuration)
    with open_connection(settings, "test") as connection, pytest.raises(psycopg.Error) as caught:
        action(connection)
    return connector_error(caught.value, "Reading public.metrics")


def query(text: str) -> Callable[[Connection], Any]:
    return lambda connection: connection.execute(sql.SQL(text)).fetchall()


def test_a_table_without_the_right_to_read_it_is_named(database: Database) -> None:
    database.execute("CREATE TABLE public.metrics (a int)")

    error = failure(database, query("SELECT * FROM public.metrics"))

    assert isinstance(error, ConfigurationError)
    assert "permission denied for table metrics (SQLSTATE 42501)" in str(error)


def test_an_absent_table_is_named(database: Database) -> None:
    error = failure(database, query("SELECT * FROM public.metrics"))

    assert isinstance(error, ConfigurationError)
    assert 'relation "public.metrics" does not exist (SQLSTATE 42P01)' in str(error)


def test_an_unpopulated_materialized_view_is_a_configuration_error(database: Database) -> None:
    database.execute("CREATE MATERIALIZED VIEW public.metrics AS SELECT 1 WITH NO DATA")
    database.grant_select("metrics")

    error = failure(database, query("SELECT * FROM public.metrics"))

    assert isinstance(error, ConfigurationError)
    assert "SQLSTATE 55000" in str(error)
    assert "refreshed" in str(error)


def test_a_value_is_never_quoted(database: Database) -> None:
    error = failure(database, query("SELECT 'canary-value'::text::int"))

    assert isinstance(error, ConfigurationError)
    assert "invalid text representation (SQLSTATE 22P02)" in str(error)
    assert "canary" not in f"{error} {error!r} {error.detail}"


def test_a_function_that_raises_is_not_quoted(database: Database) -> None:
    error = failure(database, query("DO $$ BEGIN RAISE EXCEPTION 'canary-value'; END $$"))

    assert isinstance(error, ConfigurationError)
    assert "canary" not in f"{error} {error!r} {error.detail}"


def test_a_statement_timeout_is_transient(database: Database) -> None:
    error = failure(database, query("SET statement_timeout = 50; SELECT pg_sleep(5)"))

    assert isinstance(error, TransientError)
    assert "SQLSTATE 57014" in str(error)


def test_a_lock_that_is_not_granted_is_transient(database: Database) -> None:
    database.execute("CREATE TABLE public.metrics (a int)")
    database.grant_select("metrics")
    with database.connect("owner") as owner:
        owner.execute("LOCK TABLE public.metrics IN ACCESS EXCLUSIVE MODE")

        error = failure(database, query("SET lock_timeout = 50; SELECT * FROM public.metrics"))

    assert isinstance(error, TransientError)
    assert "SQLSTATE 55P03" in str(error)


def test_a_terminated_session_is_transient(database: Database) -> None:
    def be_terminated(connection: Connection) -> None:
        pid = connection.info.backend_pid
        database.as_superuser().execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        connection.execute("SELECT 1")

    error = failure(database, be_terminated)

    assert isinstance(error, TransientError)
    assert "SQLSTATE 57P01" in str(error)


def test_a_connection_that_is_gone_is_transient(database: Database) -> None:
    def be_closed(connection: Connection) -> None:
        connection.close()
        connection.execute("SELECT 1")

    error = failure(database, be_closed)

    assert isinstance(error, TransientError)
    assert "the connection to the server was lost" in str(error)


def test_a_temporary_file_beyond_its_limit_is_transient(database: Database) -> None:
    database.as_superuser().execute(
        sql.SQL("ALTER ROLE {} SET temp_file_limit = 100; ALTER ROLE {} SET work_mem = '64kB'").format(
            sql.Identifier(database.reader), sql.Identifier(database.reader)
        )
    )

    error = failure(database, query("SELECT g FROM generate_series(1, 100000) g ORDER BY g DESC"))

    assert isinstance(error, TransientError)
    assert "SQLSTATE 53400" in str(error)


def test_a_foreign_table_without_a_user_mapping_is_a_configuration_error(database: Database) -> None:
    superuser = database.as_superuser()
    try:
        superuser.execute("CREATE EXTENSION postgres_fdw")
    except psycopg.Error:
        pytest.skip("this server has no postgres_fdw")
    superuser.execute("CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw")
    superuser.execute("CREATE FOREIGN TABLE public.metrics (a int) SERVER elsewhere")
    superuser.execute("GRANT SELECT ON public.metrics TO PUBLIC")

    error = failure(database, query("SELECT * FROM public.metrics"))

    assert isinstance(error, ConfigurationError)
    assert "user mapping" in str(error)


@contextmanager
def encoded(database: Database, encoding: str) -> Iterator[str]:
    name = f"{database.name}_{encoding.lower()}"
    create = "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'"
    with database.cluster.connect() as superuser:
        superuser.execute(sql.SQL(create).format(sql.Identifier(name), sql.Literal(encoding)))
        try:
            yield name
        finally:
            superuser.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_bytes_that_are_no_text_are_a_configuration_error_that_shows_none_of_them(database: Database) -> None:
    with encoded(database, "SQL_ASCII") as name:
        with database.cluster.connect(name, client_encoding="SQL_ASCII") as superuser:
            superuser.execute("CREATE TABLE t AS SELECT convert_from('\\xe9', 'SQL_ASCII') AS a")
            superuser.execute("GRANT SELECT ON t TO PUBLIC")

        error = failure(database, query("SELECT a FROM public.t"), database_name=name)

    assert isinstance(error, ConfigurationError)
    assert "character not in repertoire (SQLSTATE 22021)" in str(error)
    assert "UTF-8" in str(error)
    assert "0xe9" not in f"{error} {error.detail}"


def test_a_latin1_database_is_read_as_utf8(database: Database) -> None:
    with encoded(database, "LATIN1") as name:
        configuration, _ = read_configuration(database.config(database=name))
        with open_connection(ConnectionSettings.from_configuration(configuration), "test") as reader:
            row = reader.execute("SELECT 'é'::text, octet_length('é'::text)").fetchone()

    assert row == ("é", 1)
