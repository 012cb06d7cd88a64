from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import psycopg
import pytest

from integration_tests.cdc.scenes import until
from source_timescaledb.config import read_configuration
from source_timescaledb.errors import ConnectionsExhaustedError
from source_timescaledb.postgres.connection import Connection, ConnectionSettings, open_connection
from source_timescaledb.postgres.reachability import answers
from source_timescaledb.postgres.silence import SilenceWatch
from testkit.database import Database
from testkit.proxy import Proxy
from testkit.roots import Root
from testkit.server import Server

pytestmark = pytest.mark.any_server


@pytest.fixture
def proxy(database: Database) -> Iterator[Proxy]:
    with Proxy(database.cluster.address.host, database.cluster.address.port) as between:
        yield between


@pytest.fixture
def settings(database: Database, proxy: Proxy) -> ConnectionSettings:
    configuration, _ = read_configuration(database.config(port=proxy.port))
    return ConnectionSettings.from_configuration(configuration)


@pytest.fixture
def connection(settings: ConnectionSettings) -> Iterator[Connection]:
    with open_connection(settings, "test") as opened:
        yield opened


@pytest.fixture
def watch(settings: ConnectionSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[SilenceWatch]:
    monkeypatch.setattr("source_timescaledb.postgres.silence.LONGEST_SILENCE_SECONDS", 0.5)
    monkeypatch.setattr("source_timescaledb.postgres.silence.LOOK_SECONDS", 0.05)
    watching = SilenceWatch(lambda: answers(replace(settings.doorway, seconds=0.3)))
    yield watching
    watching.close()


def test_a_connection_is_hung_up_on_whose_server_answers_nobody(
    watch: SilenceWatch, proxy: Proxy, connection: Connection
) -> None:
    proxy.blackhole()

    with watch.over(connection), pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")

    assert connection.closed


def test_a_server_that_takes_its_time_and_answers_others_is_waited_for(
    watch: SilenceWatch, proxy: Proxy, connection: Connection
) -> None:
    with watch.over(connection):
        connection.execute("SELECT pg_sleep(2)")

    assert not connection.closed
    assert 2 <= proxy.accepted <= 5, "it was asked, and not without pause"


def test_a_late_and_silent_connection_is_hung_up_on_even_if_its_server_answers_others(
    watch: SilenceWatch, connection: Connection
) -> None:
    with watch.over(connection, 0.1), pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT pg_sleep(20)")

    assert connection.closed


def test_a_late_connection_on_which_bytes_trickle_is_left_alone(
    watch: SilenceWatch, proxy: Proxy, connection: Connection
) -> None:
    proxy.throttle(20_000)

    with watch.over(connection, 0.1):
        row = connection.execute("SELECT repeat('x', 30000)").fetchone()

    assert row == ("x" * 30_000,)


def test_a_connection_that_was_silent_before_anybody_waited_is_left_alone(
    watch: SilenceWatch, proxy: Proxy, connection: Connection
) -> None:
    time.sleep(1)
    proxy.blackhole()

    with watch.over(connection):
        time.sleep(0.3)
    proxy.heal()

    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_connection_is_left_alone_once_its_answer_has_come(
    watch: SilenceWatch, proxy: Proxy, connection: Connection
) -> None:
    with watch.over(connection, 0.1):
        connection.execute("SELECT 1")
    proxy.blackhole()
    time.sleep(1.5)
    proxy.heal()

    assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("fault", ["refuse", "cut"])
def test_a_port_where_nobody_is_let_in_is_an_answer(
    proxy: Proxy, settings: ConnectionSettings, fault: str
) -> None:
    getattr(proxy, fault)()

    assert answers(settings.doorway)


def test_a_server_that_is_full_answers_all_the_same(root: Root) -> None:
    full = {"max_connections": 4, "superuser_reserved_connections": 1}
    with Server(root, settings=full) as server, server.database() as database:
        configuration, _ = read_configuration(database.config())
        settings = ConnectionSettings.from_configuration(configuration)
        with ExitStack() as held:
            for _ in range(3):
                held.enter_context(database.cluster.connect())

            with pytest.raises(ConnectionsExhaustedError):
                open_connection(settings, "test")
            assert answers(settings.doorway)
        until(server.address.answers)  # those who have left still count for a moment
