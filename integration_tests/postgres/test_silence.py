from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from source_timescaledb.config import read_configuration
from source_timescaledb.postgres.connection import Connection, ConnectionSettings, open_connection
from source_timescaledb.postgres.silence import SilenceWatch
from testkit.database import Database
from testkit.proxy import Proxy

pytestmark = pytest.mark.any_server


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilenceWatch]:
    monkeypatch.setattr("source_timescaledb.postgres.silence.LONGEST_SILENCE_SECONDS", 0.5)
    monkeypatch.setattr("source_timescaledb.postgres.silence.LOOK_SECONDS", 0.05)
    watching = SilenceWatch()
    yield watching
    watching.close()


@pytest.fixture
def proxy(database: Database) -> Iterator[Proxy]:
    with Proxy(database.cluster.address.host, database.cluster.address.port) as between:
        yield between


@pytest.fixture
def connection(database: Database, proxy: Proxy) -> Iterator[Connection]:
    configuration, _ = read_configuration(database.config(port=proxy.port))
    with open_connection(ConnectionSettings.from_configuration(configuration), "test") as opened:
        yield opened


def test_a_late_and_silent_connection_is_hung_up_on(
    watch: SilenceWatch, proxy: Proxy, connection: Connection
) -> None:
    proxy.blackhole()

    with watch.over(connection, 0.1), pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")

    assert connection.closed


def test_a_late_connection_on_which_bytes_trickle_is_left_alone(
    watch: SilenceWatch, proxy: Proxy, connection: Connection
) -> None:
    proxy.throttle(20_000)

    with watch.over(connection, 0.1):
        row = connection.execute("SELECT repeat('x', 30000)").fetchone()

    assert row == ("x" * 30_000,)


def test_a_silent_connection_that_is_not_late_is_left_alone(
    watch: SilenceWatch, connection: Connection
) -> None:
    with watch.over(connection, 60):
        connection.execute("SELECT pg_sleep(1)")

    assert not connection.closed


def test_a_connection_that_nothing_has_to_end_is_not_watched(
    watch: SilenceWatch, connection: Connection
) -> None:
    with watch.over(connection, None):
        connection.execute("SELECT pg_sleep(1)")

    assert not connection.closed


def test_a_connection_is_left_alone_once_its_answer_has_come(
    watch: SilenceWatch, connection: Connection
) -> None:
    with watch.over(connection, 0.1):
        connection.execute("SELECT 1")
    connection.execute("SELECT pg_sleep(1)")

    assert not connection.closed
