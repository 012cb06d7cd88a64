from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat

from source_timescaledb.config import read_configuration
from source_timescaledb.errors import ConfigurationError
from source_timescaledb.postgres.connection import ConnectionSettings, open_connection
from testkit.database import Database
from testkit.roots import Root
from testkit.server import Server
from testkit.servers import Candidate
from testkit.tls import EXPIRED, Authority, KeyPair

pytestmark = pytest.mark.any_server


@dataclass(frozen=True, slots=True)
class Scene:
    """A server whose certificate is for localhost, and the authority that it trusts and that issued it."""

    database: Database
    authority: Authority

    def connect(self, **ssl_mode: Any) -> tuple[bool, str]:
        """Connect to localhost, or the host given, and return whether that is encrypted, and who we are."""
        host = ssl_mode.pop("host", "localhost")
        configuration, _ = read_configuration(self.database.config(host=host, ssl_mode=ssl_mode))
        with open_connection(ConnectionSettings.from_configuration(configuration), "test") as connection:
            row = connection.execute(
                "SELECT ssl, coalesce(client_dn, '') FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid()"
            ).fetchone()
        assert row is not None
        return row

    def failure(self, **ssl_mode: Any) -> str:
        """Return the sentence with which the connection is refused as wrongly configured."""
        with pytest.raises(ConfigurationError) as caught:
            self.connect(**ssl_mode)
        return str(caught.value)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def server_with_tls(
    candidate: Candidate, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    if candidate.root is None:
        pytest.skip(f"the server {candidate.label} cannot be given certificates")
    pair = authority.for_server("localhost")
    with encrypted_server(candidate.root(), authority, pair, tmp_path_factory.mktemp("tls")) as server:
        yield server


@pytest.fixture
def scene(server_with_tls: Server, authority: Authority) -> Iterator[Scene]:
    with server_with_tls.database(extension=False) as database:
        yield Scene(database, authority)


def encrypted_server(
    root: Root, authority: Authority, pair: KeyPair, folder: Path, hba: tuple[str, ...] = ()
) -> Server:
    certificate, key = pair.files(folder, "server")
    trusted = folder / "ca.crt"
    trusted.write_text(authority.certificate)
    files = {"ssl_cert_file": certificate, "ssl_key_file": key, "ssl_ca_file": trusted}
    return Server(root, tls=files, hba=hba)


@pytest.mark.parametrize(
    ("mode", "encrypted"), [("disable", False), ("allow", False), ("prefer", True), ("require", True)]
)
def test_a_mode_that_verifies_nothing_encrypts_as_it_promises(
    scene: Scene, mode: str, encrypted: bool
) -> None:
    assert scene.connect(mode=mode) == (encrypted, "")


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_a_verifying_mode_accepts_the_certificate_of_its_authority(scene: Scene, mode: str) -> None:
    assert scene.connect(mode=mode, ca_certificate=scene.authority.certificate) == (True, "")


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_a_verifying_mode_refuses_the_certificate_of_another_authority(scene: Scene, mode: str) -> None:
    sentence = scene.failure(mode=mode, ca_certificate=Authority("another").certificate)

    assert "not issued by the authority in ssl_mode.ca_certificate" in sentence


def test_verify_full_refuses_a_certificate_for_another_host(scene: Scene) -> None:
    sentence = scene.failure(mode="verify-full", ca_certificate=scene.authority.certificate, host="127.0.0.1")

    assert "not issued for the host 127.0.0.1" in sentence


def test_verify_ca_accepts_a_certificate_for_another_host(scene: Scene) -> None:
    assert scene.connect(mode="verify-ca", ca_certificate=scene.authority.certificate, host="127.0.0.1")[0]


@pytest.mark.parametrize("key_format", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_client_certificate_and_its_encrypted_key_are_presented(
    scene: Scene, key_format: PrivateFormat
) -> None:
    pair = scene.authority.for_client("somebody", password="canary-key-password", key_format=key_format)

    encrypted, client = scene.connect(
        mode="verify-full",
        ca_certificate=scene.authority.certificate,
        client_certificate=pair.certificate,
        client_key=pair.key,
        client_key_password="canary-key-password",
    )

    assert (encrypted, client) == (True, "/CN=somebody")


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_an_expired_client_certificate_is_called_expired(scene: Scene, mode: str) -> None:
    pair = scene.authority.for_client("somebody", valid_for=EXPIRED)

    sentence = scene.failure(
        mode=mode,
        ca_certificate=scene.authority.certificate,
        client_certificate=pair.certificate,
        client_key=pair.key,
    )

    assert "refused our client certificate because it has expired" in sentence


def test_a_client_certificate_of_another_authority_is_refused(scene: Scene) -> None:
    pair = Authority("another").for_client("somebody")

    sentence = scene.failure(
        mode="verify-full",
        ca_certificate=scene.authority.certificate,
        client_certificate=pair.certificate,
        client_key=pair.key,
    )

    assert "the server refused our client certificate." in sentence


@pytest.mark.parametrize("password", ["canary-another-password", None])
def test_a_client_key_with_a_wrong_or_missing_password_cannot_be_used(
    scene: Scene, password: str | None
) -> None:
    pair = scene.authority.for_client("somebody", password="canary-key-password")

    sentence = scene.failure(
        mode="verify-full",
        ca_certificate=scene.authority.certificate,
        client_certificate=pair.certificate,
        client_key=pair.key,
        client_key_password=password,
    )

    assert "the certificates in ssl_mode cannot be used" in sentence
    assert "canary" not in sentence


def test_an_authority_that_is_no_certificate_cannot_be_used(scene: Scene) -> None:
    sentence = scene.failure(
        mode="verify-full",
        ca_certificate="-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----",
    )

    assert "the certificates in ssl_mode cannot be used" in sentence
    assert "canary" not in sentence


def test_a_wrong_password_is_told_from_a_wrong_certificate(scene: Scene) -> None:
    scene.database.passwords["reader"] = "wrong"

    sentence = scene.failure(mode="verify-full", ca_certificate=scene.authority.certificate)

    assert "SQLSTATE 28P01" in sentence


def test_an_expired_server_certificate_is_called_expired(
    root: Root, authority: Authority, tmp_path: Path
) -> None:
    expired = authority.for_server("localhost", valid_for=EXPIRED)
    with encrypted_server(root, authority, expired, tmp_path) as server, server.database() as database:
        sentence = Scene(database, authority).failure(
            mode="verify-full", ca_certificate=authority.certificate
        )

    assert "the server's certificate, or its authority's, has expired" in sentence


def test_a_server_that_asks_for_a_client_certificate_says_so(
    root: Root, authority: Authority, tmp_path: Path
) -> None:
    only_proven = ("hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",)
    pair = authority.for_server("localhost")
    with (
        encrypted_server(root, authority, pair, tmp_path, only_proven) as server,
        server.database(extension=False) as database,
    ):
        sentence = Scene(database, authority).failure(mode="require")

    assert "SQLSTATE 28000" in sentence


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_server_without_tls_is_named_as_such(database: Database, authority: Authority, mode: str) -> None:
    ca = {} if mode == "require" else {"ca_certificate": authority.certificate}

    sentence = Scene(database, authority).failure(mode=mode, **ca)

    assert f"the server does not offer TLS, which ssl_mode {mode} requires" in sentence


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_a_server_without_tls_suits_the_modes_that_do_not_insist(
    database: Database, authority: Authority, mode: str
) -> None:
    assert Scene(database, authority).connect(mode=mode) == (False, "")


def test_certificates_lie_in_private_files_and_go_with_their_last_user(authority: Authority) -> None:
    pair = authority.for_client("somebody")
    configuration, _ = read_configuration(
        {
            "host": "h", "database": "d", "username": "u",
            "ssl_mode": {
                "mode": "verify-ca", "ca_certificate": authority.certificate,
                "client_certificate": pair.certificate, "client_key": pair.key,
            },
        }
    )  # fmt: skip

    settings = ConnectionSettings.from_configuration(configuration)
    assert settings.certificates is not None
    files = [Path(name) for name in settings.certificates.files.values()]
    modes = {stat.S_IMODE(file.stat().st_mode) for file in files}
    folder_mode = stat.S_IMODE(files[0].parent.stat().st_mode)
    del settings

    assert (len(files), modes, folder_mode) == (3, {0o600}, 0o700)
    assert not any(file.exists() for file in files)
    assert not files[0].parent.exists()
