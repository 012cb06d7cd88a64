from __future__ import annotations

import secrets
import socket
import threading
import traceback
from typing import Any

import psycopg
import pytest
from psycopg import sql

from source_timescaledb.config import read_configuration
from source_timescaledb.errors import ConfigurationError, ConnectorError, TransientError
from source_timescaledb.postgres.connection import ConnectionSettings, Session, open_connection
from testkit.cluster import Cluster
from testkit.database import Database
from testkit.proxy import Proxy
from testkit.roots import Root
from testkit.server import Server

pytestmark = pytest.mark.any_server

FAST = {"jdbc_url_params": "connectTimeout=2"}


def settings(database: Database, /, **overrides: Any) -> ConnectionSettings:
    configuration, ignored = read_configuration(database.config(**overrides))
    assert ignored == []
    return ConnectionSettings.from_configuration(configuration)


def failure(database: Database, /, **overrides: Any) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        open_connection(settings(database, **overrides), "test")
    return caught.value


def test_a_reading_session_means_the_same_whatever_the_role_prefers(database: Database) -> None:
    for setting, value in {
        "TimeZone": "Asia/Tokyo", "DateStyle": "German", "IntervalStyle": "sql_standard", "jit": "on",
        "bytea_output": "escape", "search_path": "public", "client_encoding": "LATIN1",
    }.items():  # fmt: skip
        database.as_superuser().execute(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(
                sql.Identifier(database.reader), sql.Identifier(setting), sql.Literal(value)
            )
        )

    with open_connection(settings(database), "test") as connection:
        row = connection.execute(
            "SELECT '2024-03-01 12:00+00'::timestamptz::text, '1 mon 2 days'::interval::text,"
            " '\\x00ff'::bytea::text, current_setting('search_path'), current_setting('jit'),"
            " current_setting('client_encoding'), current_setting('application_name')"
        ).fetchone()

    expected = (
        "2024-03-01 12:00:00+00",
        "1 mon 2 days",
        "\\x00ff",
        "",
        "off",
        "UTF8",
        "source-timescaledb test",
    )
    assert row == expected


def test_a_reading_session_cannot_write(database: Database) -> None:
    database.execute("CREATE TABLE public.t (a int); GRANT ALL ON public.t TO public")

    with (
        open_connection(settings(database), "test") as connection,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        connection.execute("INSERT INTO public.t VALUES (1)")


def test_a_writing_session_can_write(database: Database) -> None:
    database.execute("CREATE TABLE public.t (a int); GRANT ALL ON public.t TO public")

    with open_connection(settings(database), "test", Session.WRITING) as connection:
        connection.execute("INSERT INTO public.t VALUES (1)")

    assert database.value("SELECT count(*) FROM public.t") == 1


def test_a_replication_session_speaks_the_replication_protocol(database: Database) -> None:
    database.grant_replication()

    with open_connection(settings(database), "test", Session.REPLICATION) as connection:
        row = connection.execute("IDENTIFY_SYSTEM").fetchone()

    assert row is not None
    assert row[3] == database.name


def test_a_replication_session_needs_the_right_to_replicate(database: Database) -> None:
    with pytest.raises(ConfigurationError, match="SQLSTATE 42501"):
        open_connection(settings(database), "test", Session.REPLICATION)


def test_a_wrong_password_is_a_configuration_error(database: Database) -> None:
    error = failure(database, password="canary-wrong-password")

    assert isinstance(error, ConfigurationError)
    assert "SQLSTATE 28P01" in str(error)
    assert "Correct the settings username and password." in str(error)


def test_a_missing_password_is_a_configuration_error(database: Database) -> None:
    error = failure(database, password=None)

    assert isinstance(error, ConfigurationError)
    assert "asks for a password" in str(error)


def test_an_absent_database_is_a_configuration_error(database: Database) -> None:
    error = failure(database, database="no such database")

    assert isinstance(error, ConfigurationError)
    assert 'database "no such database" does not exist (SQLSTATE 3D000)' in str(error)


def test_a_database_that_the_role_may_not_enter_is_a_configuration_error(
    database: Database, server: Cluster
) -> None:
    with server.database(extension=False) as other:
        error = failure(database, database=other.name)

    assert isinstance(error, ConfigurationError)
    assert "SQLSTATE 42501" in str(error)


def test_a_role_without_an_entry_in_pg_hba_is_a_configuration_error(root: Root) -> None:
    with Server(root, hba=["host all all 127.0.0.1/32 reject"]) as server, server.database() as database:
        error = failure(database)

    assert isinstance(error, ConfigurationError)
    assert "SQLSTATE 28000" in str(error)
    assert "pg_hba.conf" in str(error)


def test_an_unknown_host_is_transient_and_named(database: Database) -> None:
    error = failure(database, host="no-such-host.invalid")

    assert isinstance(error, TransientError)
    assert "the host name no-such-host.invalid is unknown" in str(error)


def test_a_host_name_that_can_be_none_is_one_clear_error(database: Database) -> None:
    error = failure(database, host="a..b")

    assert "the host name a..b is unknown" in str(error)


def test_a_closed_port_is_transient_and_named(database: Database) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]

        error = failure(database, port=port)

    assert isinstance(error, TransientError)
    assert f"nothing listens on port {port}" in str(error)


@pytest.mark.parametrize("mode", ["disable", "require"])
def test_a_server_that_says_nothing_is_noticed_within_the_connect_timeout(
    database: Database, mode: str
) -> None:
    with Proxy(database.cluster.address.host, database.cluster.address.port) as proxy:
        proxy.blackhole()

        error = failure(database, port=proxy.port, ssl_mode={"mode": mode}, **FAST)

    assert isinstance(error, TransientError)
    assert "answer" in str(error)


def test_a_connection_cut_during_login_is_transient(database: Database) -> None:
    with Proxy(database.cluster.address.host, database.cluster.address.port) as proxy:
        proxy.refuse()

        error = failure(database, port=proxy.port)

    assert isinstance(error, TransientError)


def test_a_server_that_is_not_postgresql_is_a_configuration_error(database: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answer_every_client(listener, b"HTTP/1.1 400 Bad Request\r\n\r\n")

        error = failure(database, port=listener.getsockname()[1], ssl_mode={"mode": "require"}, **FAST)

    assert isinstance(error, ConfigurationError)
    assert "what listens there is not PostgreSQL" in str(error)


def test_too_many_connections_are_transient(database: Database) -> None:
    database.as_superuser().execute(
        sql.SQL("ALTER ROLE {} CONNECTION LIMIT 0").format(sql.Identifier(database.reader))
    )

    error = failure(database)

    assert isinstance(error, TransientError)
    assert "SQLSTATE 53300" in str(error)


def test_a_jdbc_parameter_that_libpq_cannot_use_is_a_configuration_error(database: Database) -> None:
    error = failure(database, jdbc_url_params="channelBinding=canary-value")

    assert isinstance(error, ConfigurationError)
    assert "channel_binding" in str(error)
    assert "canary" not in str(error)


def test_options_from_the_jdbc_parameters_hold_unless_ours_say_otherwise(database: Database) -> None:
    wanted = "options=-c%20statement_timeout=17s%20-c%20TimeZone=Asia/Tokyo"

    with open_connection(settings(database, jdbc_url_params=wanted), "test") as connection:
        row = connection.execute(
            "SELECT current_setting('statement_timeout'), current_setting('TimeZone')"
        ).fetchone()

    assert row == ("17s", "UTC")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-c%20canary=bar", 'unrecognized configuration parameter "canary" (SQLSTATE 42704)'),
        ("-c%20work_mem=canary", "SQLSTATE 22023"),
        ("-c%20max_connections=3", "SQLSTATE 55P02"),
        ("-c%20log_statement=all", "SQLSTATE 42501"),
        ("%ff", "SQLSTATE 42601"),
    ],
)
def test_options_that_the_server_refuses_are_a_configuration_error_that_names_the_setting(
    database: Database, options: str, words: str
) -> None:
    error = failure(database, jdbc_url_params=f"options={options}")

    assert isinstance(error, ConfigurationError)
    assert words in error.message
    assert error.remedy.startswith("Correct options in the setting jdbc_url_params.")


def test_reads_go_to_the_replica_where_one_is_configured(database: Database) -> None:
    configuration, _ = read_configuration(
        database.config(timescaledb={"replica_host": "replica.example", "replica_port": 6000})
    )

    replica = ConnectionSettings.from_configuration(configuration, replica=True)
    primary = ConnectionSettings.from_configuration(configuration)

    assert (replica.host, replica.port) == ("replica.example", 6000)
    assert (primary.host, primary.port) == (database.cluster.address.host, database.cluster.address.port)


@pytest.mark.parametrize(
    "spoilt",
    [
        {},
        {"database": "absent"},
        {"port": 1},
        {"ssl_mode": {"mode": "require"}},
        {"jdbc_url_params": "sslcert=/canary&sslkey=/canary&sslpassword=canary"},
    ],
)
def test_no_secret_is_in_any_error_or_repr(database: Database, spoilt: dict[str, Any]) -> None:
    password = f"canary-{secrets.token_hex(8)}"

    error = failure(database, password=password, **spoilt)

    printed = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    told = f"{error} {error!r} {error.detail} {printed} {settings(database, password=password, **spoilt)!r}"
    assert "canary" not in told


def answer_every_client(listener: socket.socket, answer: bytes) -> None:
    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(1024)
                client.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
