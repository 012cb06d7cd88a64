"""Whole syncs over TLS, with a certificate instead of a password, and what is left of the certificates afterwards."""

from __future__ import annotations

import signal
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integration_tests.cdc.conftest import Followed, fill, make_tables
from integration_tests.inprocess import InProcess
from testkit.connector import COMMAND, Connector
from testkit.database import Database
from testkit.protocol import Json
from testkit.roots import Root
from testkit.run import At, Result, Run
from testkit.server import Server
from testkit.sshd import BEHIND, SshServer
from testkit.tls import Authority

pytestmark = pytest.mark.any_server

TABLES = ("metrics", "parts")
ROWS = 3000
ONLY_CERTIFICATES = (
    "hostssl all all 127.0.0.1/32 cert",
    "hostssl replication all 127.0.0.1/32 cert",
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A server that lets roles in over TLS by their certificates alone."""

    followed: Followed
    authority: Authority

    @property
    def ssl_mode(self) -> Json:
        """The owner's certificate, its key with a passphrase."""
        pair = self.authority.for_client(self.followed.database.owner, password="canary-key-password")
        return {
            "mode": "verify-full",
            "ca_certificate": self.authority.certificate,
            "client_certificate": pair.certificate,
            "client_key": pair.key,
            "client_key_password": "canary-key-password",
        }

    def config(self, **other: Any) -> Json:
        """The configuration of a sync of changes without any password."""
        return {
            **self.followed.config, "host": "localhost", "password": None, "ssl_mode": self.ssl_mode, **other,
        }  # fmt: skip

    def read(self, workdir: Path, *at: At, command: Sequence[str] | None = None, **other: Any) -> Result:
        """Sync everything in a process whose temporary files are in `workdir`."""
        catalog = InProcess(self.followed.config).catalog("incremental", list(TABLES))
        temporary = {"TMPDIR": str(workdir)}
        connector = Connector(self.config(**other), workdir, command=command, environment=temporary)
        return connector.read(catalog, at=at)

    def encrypted_connections(self) -> set[tuple[bool, str]]:
        """Of the connector's connections now: whether encrypted, and the client certificate's name."""
        rows = self.followed.database.as_superuser().execute(
            "SELECT DISTINCT ssl, coalesce(client_dn, '') FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
            " WHERE application_name LIKE 'source-timescaledb%'"
        )
        return {(bool(ssl), str(name)) for ssl, name in rows.fetchall()}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def scene(root: Root, authority: Authority, tmp_path: Path) -> Iterator[Scene]:
    certificate, key = authority.for_server("localhost", BEHIND).files(tmp_path, "server")
    trusted = tmp_path / "ca.crt"
    trusted.write_text(authority.certificate)
    files = {"ssl_cert_file": certificate, "ssl_key_file": key, "ssl_ca_file": trusted}
    with Server(root, tls=files, hba=ONLY_CERTIFICATES) as server, server.database() as database:
        yield Scene(filled(database), authority)


def filled(database: Database) -> Followed:
    make_tables(database)
    fill(database, rows=ROWS)
    followed = Followed(database, f"slot_{database.name}")
    followed.publish(*TABLES)
    return followed


def remains(workdir: Path) -> dict[Path, int]:
    """What lies in folders of certificates, the folders among it, with its permissions."""
    found = [path for folder in workdir.glob("source-timescaledb-*") for path in (folder, *folder.iterdir())]
    return {path: stat.S_IMODE(path.stat().st_mode) for path in found}


def only_ours(found: dict[Path, int]) -> bool:
    return bool(found) and all(mode & 0o077 == 0 for mode in found.values())


@pytest.mark.parametrize("tunnelled", [False, True])
def test_changes_are_followed_over_tls_by_a_certificate_alone(
    scene: Scene, ssh_server: SshServer, tmp_path: Path, tunnelled: bool
) -> None:
    way: Json = {"tunnel_method": ssh_server.tunnel(), "host": BEHIND} if tunnelled else {}
    seen: list[object] = []

    def look(_run: Run) -> None:
        seen.extend([scene.encrypted_connections(), only_ours(remains(tmp_path))])

    ended = scene.read(tmp_path, At("RECORD", ROWS, look), **way)

    assert ended.exit_code == 0
    assert {name: len(ended.rows(name)) for name in TABLES} == dict.fromkeys(TABLES, ROWS)
    assert seen == [{(True, f"/CN={scene.followed.database.owner}")}, True]
    assert "canary" not in b"".join(ended.lines()).decode() + ended.stderr


def test_verify_full_means_the_database_also_behind_a_tunnel(scene: Scene, ssh_server: SshServer) -> None:
    through = scene.config(tunnel_method=ssh_server.tunnel(), host="127.0.0.1")

    checked, message, _ = InProcess(through).check()

    assert not checked
    assert "not issued for the host 127.0.0.1" in message


def test_a_sync_that_is_told_to_stop_leaves_no_certificates(scene: Scene, tmp_path: Path) -> None:
    found: list[object] = []

    def stop(run: Run) -> None:
        found.append(only_ours(remains(tmp_path)))
        run.process.send_signal(signal.SIGTERM)

    ended = scene.read(tmp_path, At("RECORD", 1, stop), command=COMMAND)

    assert ended.exit_code == -signal.SIGTERM
    assert found == [True]
    assert remains(tmp_path) == {}
