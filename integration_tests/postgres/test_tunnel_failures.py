"""What is said when there is no way through a jump server, and whether it may pass by itself."""

from __future__ import annotations

import secrets
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from integration_tests.postgres.tunnelled import failure, settings
from source_timescaledb.errors import ConfigurationError, TransientError
from testkit.database import Database
from testkit.proxy import Proxy
from testkit.sshd import SshRoot, SshServer, pem

pytestmark = pytest.mark.any_server


@pytest.fixture
def proxy(ssh_server: SshServer) -> Iterator[Proxy]:
    with Proxy(ssh_server.host, ssh_server.port) as between:
        yield between


def test_a_wrong_password_is_a_configuration_error(database: Database, ssh_server: SshServer) -> None:
    error = failure(database, ssh_server.password_tunnel(tunnel_user_password="canary-wrong"))

    assert isinstance(error, ConfigurationError)
    assert "the jump server does not let that user in with this password" in str(error)


def test_a_key_that_the_jump_server_does_not_know_is_a_configuration_error(
    database: Database, ssh_server: SshServer
) -> None:
    error = failure(database, ssh_server.tunnel(ssh_key=pem(ed25519.Ed25519PrivateKey.generate())))

    assert isinstance(error, ConfigurationError)
    assert "the jump server does not let that user in with this key" in str(error)


def test_an_unknown_user_is_a_configuration_error(database: Database, ssh_server: SshServer) -> None:
    error = failure(database, ssh_server.tunnel(tunnel_user="nobody-known"))

    assert isinstance(error, ConfigurationError)
    assert "as nobody-known failed" in str(error)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda text: text[: len(text) // 2], "is no whole private key"),
        (
            lambda _: "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary\n-----END OPENSSH PRIVATE KEY-----",
            "no whole private",
        ),
        (lambda text: text.replace("PRIVATE", "PUBLIC"), "is no whole private key"),
    ],
)
def test_a_text_that_is_no_private_key_is_a_configuration_error(
    database: Database, ssh_server: SshServer, spoil: Callable[[str], str], told: str
) -> None:
    error = failure(database, ssh_server.tunnel(ssh_key=spoil(pem(ssh_server.key))))

    assert isinstance(error, ConfigurationError)
    assert told in str(error)
    assert "canary" not in str(error)


@pytest.mark.parametrize(
    ("given", "told"),
    [({}, "has a passphrase. Put it into"), ({"ssh_key_passphrase": "canary-other"}, "cannot be decrypted")],
)
def test_a_locked_key_without_its_passphrase_is_a_configuration_error(
    database: Database, ssh_server: SshServer, given: dict[str, str], told: str
) -> None:
    locked = ssh_server.tunnel(ssh_key=pem(ssh_server.key, passphrase="canary-phrase"))

    error = failure(database, locked, timescaledb=given)

    assert isinstance(error, ConfigurationError)
    assert told in str(error)
    assert "canary" not in str(error)


@pytest.mark.parametrize("given", [{}, {"ssh_key_passphrase": "canary-phrase"}])
def test_a_key_that_openssh_has_locked_is_told_how_to_convert(
    database: Database, ssh_server: SshServer, ssh_root: SshRoot, given: dict[str, str]
) -> None:
    locked = ssh_root.locked_key("canary-phrase")

    error = failure(database, ssh_server.tunnel(ssh_key=locked), timescaledb=given)

    assert isinstance(error, ConfigurationError)
    assert "has a passphrase in OpenSSH's own format" in str(error)
    assert "ssh-keygen -p" in str(error)


def test_an_unknown_jump_server_is_transient_and_named(database: Database, ssh_server: SshServer) -> None:
    error = failure(database, ssh_server.tunnel(tunnel_host="no-such-host.invalid"))

    assert isinstance(error, TransientError)
    assert "the host name no-such-host.invalid is unknown" in str(error)


def test_a_jump_server_that_says_nothing_is_transient(
    database: Database, ssh_server: SshServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("source_timescaledb.postgres.jump.LOGIN_SECONDS", 0.3)
    proxy.blackhole()

    error = failure(database, ssh_server.tunnel(proxy.port))

    assert isinstance(error, TransientError)
    assert "there was no answer within 0.3 seconds" in str(error)


def test_a_jump_server_that_is_cut_during_login_is_transient(
    database: Database, ssh_server: SshServer, proxy: Proxy
) -> None:
    proxy.cut_after(1000)

    error = failure(database, ssh_server.tunnel(proxy.port))

    assert isinstance(error, TransientError)
    assert "the jump server closed the connection" in str(error)


def test_what_is_no_ssh_server_is_a_configuration_error(database: Database, ssh_server: SshServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        greet_every_client(listener, b"HTTP/1.1 400 Bad Request\r\n" + b"no SSH here\r\n" * 2000)

        error = failure(database, ssh_server.tunnel(listener.getsockname()[1]))

    assert isinstance(error, ConfigurationError)
    assert "what listens there is not an SSH server" in str(error)


def test_a_jump_server_that_forbids_the_way_is_a_configuration_error(
    database: Database, ssh_root: SshRoot
) -> None:
    with SshServer(ssh_root, "PermitOpen 127.0.0.1:1") as server:
        error = failure(database, server.tunnel())

    assert isinstance(error, ConfigurationError)
    assert "the jump server does not allow us to connect there" in str(error)


def test_a_database_that_the_jump_server_cannot_reach_is_transient(
    database: Database, ssh_server: SshServer
) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]

        error = failure(database, ssh_server.tunnel(), port=port)

    assert isinstance(error, TransientError)
    assert f"Connecting to 127.0.0.1 port {port}" in str(error)
    assert "the jump server could not connect there" in str(error)


def test_a_database_that_says_nothing_to_the_jump_server_is_transient(
    database: Database, ssh_server: SshServer
) -> None:
    with Proxy(database.cluster.address.host, database.cluster.address.port) as silent:
        silent.blackhole()

        error = failure(database, ssh_server.tunnel(), port=silent.port, jdbc_url_params="connectTimeout=2")

    assert isinstance(error, TransientError)
    assert "did not answer in time" in str(error)


def test_what_the_database_refuses_is_told_as_without_a_tunnel(
    database: Database, ssh_server: SshServer
) -> None:
    error = failure(database, ssh_server.tunnel(), password="canary-wrong")

    assert isinstance(error, ConfigurationError)
    assert "SQLSTATE 28P01" in str(error)


@pytest.mark.parametrize(
    "spoilt", [{}, {"tunnel_user": "another"}, {"tunnel_port": 1}, {"tunnel_host": "no-such-host.invalid"}]
)
def test_no_secret_is_in_any_error_or_repr(
    database: Database, ssh_server: SshServer, spoilt: dict[str, Any]
) -> None:
    tunnels = [
        ssh_server.password_tunnel(tunnel_user_password=f"canary-{secrets.token_hex(8)}", **spoilt),
        ssh_server.tunnel(ssh_key="-----BEGIN RSA PRIVATE KEY-----\ncanary", **spoilt),
    ]
    passphrase = {"ssh_key_passphrase": "canary-phrase"}

    for tunnel in tunnels:
        error = failure(database, tunnel, timescaledb=passphrase)
        printed = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        shown = settings(database, tunnel, timescaledb=passphrase)
        assert "canary" not in f"{error} {error!r} {error.detail} {printed} {shown!r} {shown.tunnel!r}"


def greet_every_client(listener: socket.socket, greeting: bytes) -> None:
    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with closing(client):
                client.sendall(greeting)
                client.recv(1024)

    threading.Thread(target=serve, daemon=True).start()
