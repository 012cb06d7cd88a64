"""Connections through a real sshd: how one gets in, what is said when one does not, and what the loss of it means."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from integration_tests.cdc.scenes import until
from integration_tests.postgres.tunnelled import answer, failure, settings
from source_timescaledb.errors import ConfigurationError, TransientError
from source_timescaledb.postgres.connection import Session, open_connection
from testkit.database import Database
from testkit.dialogue import dialogue_server
from testkit.proxy import Proxy
from testkit.sshd import PrivateKey, SshRoot, SshServer, pem, public_line

pytestmark = pytest.mark.any_server

KINDS: dict[str, Callable[[], PrivateKey]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ecdsa": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
SLEEPING = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"


@pytest.fixture
def proxy(ssh_server: SshServer) -> Iterator[Proxy]:
    with Proxy(ssh_server.host, ssh_server.port) as between:
        yield between


def test_a_password_lets_us_in(database: Database, ssh_server: SshServer) -> None:
    with open_connection(settings(database, ssh_server.password_tunnel()), "test") as connection:
        assert answer(connection) == (1,)

    assert f"Accepted password for {ssh_server.user}" in ssh_server.log


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_of_any_kind_lets_us_in(database: Database, ssh_root: SshRoot, kind: str) -> None:
    server = SshServer(ssh_root)
    server.key = KINDS[kind]()
    with server, open_connection(settings(database, server.tunnel()), "test") as connection:
        assert answer(connection) == (1,)


def test_a_key_flattened_to_one_line_lets_us_in(database: Database, ssh_server: SshServer) -> None:
    flat = pem(ssh_server.key).strip().replace("\n", "\\n")

    with open_connection(settings(database, ssh_server.tunnel(ssh_key=flat)), "test") as connection:
        assert answer(connection) == (1,)


def test_a_key_with_a_passphrase_lets_us_in(database: Database, ssh_server: SshServer) -> None:
    locked = ssh_server.tunnel(ssh_key=pem(ssh_server.key, passphrase="canary-phrase"))
    with_passphrase = settings(database, locked, timescaledb={"ssh_key_passphrase": "canary-phrase"})

    with open_connection(with_passphrase, "test") as connection:
        assert answer(connection) == (1,)


def test_all_connections_share_one_tunnel(database: Database, ssh_root: SshRoot) -> None:
    database.grant_replication()
    with SshServer(ssh_root) as server:
        primary = settings(database, server.tunnel())
        with (
            open_connection(primary, "one"),
            open_connection(primary, "two", Session.WRITING),
            open_connection(settings(database, server.tunnel()), "log", Session.REPLICATION) as log,
        ):
            identified = log.execute("IDENTIFY_SYSTEM").fetchone()

        assert identified is not None
        assert identified[3] == database.name
        assert server.log.count("Accepted publickey") == 1


def test_a_tunnel_ends_with_the_last_who_holds_it(database: Database, ssh_root: SshRoot) -> None:
    with SshServer(ssh_root) as server:
        before = tunnels()
        held = settings(database, server.tunnel())
        connection = open_connection(held, "test")
        del held
        (own,) = tunnels() - before
        assert answer(connection) == (1,)
        connection.close()
        del connection

        assert own not in tunnels()
        until(lambda: "Disconnected from user" in server.log)


def tunnels() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "tunnel"}


@pytest.mark.parametrize("known", ["fingerprint", "known_host"])
def test_a_host_key_that_is_known_is_accepted(database: Database, ssh_server: SshServer, known: str) -> None:
    insisting = {"ssh_host_key": getattr(ssh_server, known)}

    with open_connection(
        settings(database, ssh_server.tunnel(), timescaledb=insisting), "test"
    ) as connection:
        assert answer(connection) == (1,)


def test_another_host_key_than_the_known_one_is_refused(database: Database, ssh_server: SshServer) -> None:
    another = public_line(ed25519.Ed25519PrivateKey.generate())

    error = failure(database, ssh_server.tunnel(), timescaledb={"ssh_host_key": another})

    assert isinstance(error, ConfigurationError)
    assert f"shows the host key ssh-ed25519 {ssh_server.fingerprint}" in str(error)
    assert "which timescaledb.ssh_host_key names" in str(error)


def test_a_host_key_that_changes_in_mid_sync_is_refused(database: Database, ssh_root: SshRoot) -> None:
    with SshServer(ssh_root) as server:
        held = settings(database, server.tunnel())
        open_connection(held, "test").close()
        server.stop()
        server.host_key = ed25519.Ed25519PrivateKey.generate()
        server.start()

        with pytest.raises(ConfigurationError, match="none of those that it showed before"):
            open_connection(held, "test")


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_a_tunnel_that_was_lost_is_opened_again(
    database: Database, ssh_server: SshServer, proxy: Proxy, fault: str
) -> None:
    through_proxy = settings(database, ssh_server.tunnel(proxy.port))
    with open_connection(through_proxy, "test") as connection:
        getattr(proxy, fault)()
        with pytest.raises(psycopg.OperationalError):
            answer(connection)

    with open_connection(through_proxy, "test") as connection:
        assert answer(connection) == (1,)


def test_a_tunnel_that_falls_silent_is_given_up(
    database: Database, ssh_server: SshServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("source_timescaledb.postgres.jump.KEEPALIVE_SECONDS", 0.1)
    with open_connection(settings(database, ssh_server.tunnel(proxy.port)), "test") as connection:
        proxy.blackhole()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT pg_sleep(100)")


def test_a_query_is_cancelled_through_the_tunnel(database: Database, ssh_server: SshServer) -> None:
    with (
        open_connection(settings(database, ssh_server.tunnel()), "test") as connection,
        ThreadPoolExecutor() as threads,
    ):
        pid = connection.info.backend_pid
        sleeping = threads.submit(connection.execute, "SELECT pg_sleep(100)")
        # a cancellation that overtakes its query is lost
        until(lambda: database.as_superuser().execute(SLEEPING, [pid]).fetchone() == ("PgSleep",))
        connection.cancel_safe()

        with pytest.raises(psycopg.errors.QueryCanceled):
            sleeping.result()


def test_who_takes_nothing_holds_the_server_back_and_not_the_memory(
    database: Database, ssh_server: SshServer, proxy: Proxy
) -> None:
    rows, row = 100_000, "x" * 1000
    with (
        open_connection(settings(database, ssh_server.tunnel(proxy.port)), "test") as connection,
        connection.cursor() as cursor,
        cursor.copy("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT") as copy,
    ):
        await_standstill(proxy)
        held = proxy.forwarded
        taken = sum(len(data) for data in copy)

    assert held < rows * len(row) / 5
    assert taken == rows * (len(row) + 1)


def await_standstill(proxy: Proxy) -> None:
    """Wait until bytes have come, and no more come."""
    before = proxy.forwarded
    until(lambda: proxy.forwarded > before)
    while proxy.forwarded > before:
        before = proxy.forwarded
        time.sleep(0.3)


def test_a_jump_server_that_asks_for_the_password_in_a_dialogue_lets_us_in(database: Database) -> None:
    with dialogue_server("canary-answer") as port:
        tunnel = {
            "tunnel_method": "SSH_PASSWORD_AUTH", "tunnel_host": "127.0.0.1", "tunnel_port": port,
            "tunnel_user": "somebody", "tunnel_user_password": "canary-answer",
        }  # fmt: skip
        with open_connection(settings(database, tunnel), "test") as connection:
            assert answer(connection) == (1,)
        error = failure(database, {**tunnel, "tunnel_user_password": "canary-wrong"})

    assert isinstance(error, ConfigurationError)
    assert "does not let that user in with this password" in str(error)


def test_a_jump_server_that_is_down_is_transient_and_comes_back(
    database: Database, ssh_root: SshRoot
) -> None:
    with SshServer(ssh_root) as server:
        held = settings(database, server.tunnel())
        open_connection(held, "test").close()
        server.stop()
        with pytest.raises(TransientError, match=f"nothing listens on port {server.port}"):
            open_connection(held, "test")
        server.start()

        with open_connection(held, "test") as connection:
            assert answer(connection) == (1,)
