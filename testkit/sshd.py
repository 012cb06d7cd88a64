"""A real SSH server: OpenSSH's own, in a root of its own, with one user who may only forward.

Debian's package is downloaded and unpacked as those of the servers are (`debian`), and runs in the same jail as an
ordinary user. So sshd can log nobody in but that user, which is all that a jump server is for here. Without PAM it
compares a password with the hash in the root's own `/etc/passwd`; the hash is made by that root's own libcrypt, which its
perl can call.

Each server has a host key and a user's key of its own, made by `cryptography` in a moment, and a folder for them that
goes with it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from typing_extensions import Self

from testkit.datadir import Folder, give
from testkit.debian import lay_out, packages, sentence
from testkit.errors import KitError
from testkit.keeper import ACCOUNT, Keeper, inside
from testkit.places import Place
from testkit.postmaster import HOST, POLL_SECONDS, free_port
from testkit.roots import cache_folder, locked

RELEASE = "trixie"
PACKAGES = ("openssh-server", "dash")
USER = "tunnel"
BEHIND = "database.behind.invalid"
"""A name for 127.0.0.1 that only the jump server knows."""
PROGRAM = "/usr/sbin/sshd"
HASH = 'print crypt($ARGV[0], "\\$6\\$testkit\\$")'
START_ATTEMPTS = 5
START_SECONDS = 20.0

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class SshRoot:
    """A root with OpenSSH's server, and its user's password, which is a canary."""

    path: Path

    @property
    def password(self) -> str:
        """The password of the one user."""
        return (self.path / "password").read_text()

    def said(self, *command: str) -> str:
        """What a program of the root prints."""
        # The jail lives as long as its standard input is open, so that is a pipe which stays open.
        with subprocess.Popen(
            inside(self, list(command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as running:
            assert running.stdout is not None
            return running.stdout.read()

    def locked_key(self, passphrase: str) -> str:
        """A new key with a passphrase in OpenSSH's own format, as its `ssh-keygen` writes it."""
        file = f"/tmp/key-{secrets.token_hex(4)}"  # noqa: S108 - inside the root
        self.said("/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-a", "1", "-N", passphrase, "-f", file)
        private, public = self.path / file[1:], self.path / f"{file[1:]}.pub"
        try:
            return private.read_text()
        finally:
            private.unlink()
            public.unlink()

    @property
    def version(self) -> str:
        """What its sshd calls itself."""
        program = (self.path / PROGRAM[1:]).read_bytes()
        found = re.search(rb"OpenSSH_[0-9.p]+", program)
        return found[0].decode() if found else "OpenSSH"


def prepare(cache: Path | None = None) -> SshRoot:
    """The root, made now if it is not in the cache yet.

    Raises:
        KitError: nothing is cached and the packages cannot be had; its message is one sentence.
    """
    cache = cache or cache_folder()
    root = SshRoot(cache / "ssh" / RELEASE)
    with locked(cache / "locks/ssh.prepare"):
        if not root.path.exists():
            _make(root.path, cache)
    return root


def _make(path: Path, cache: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        archives = packages(RELEASE, PACKAGES, cache / "downloads/openssh")
        with tempfile.TemporaryDirectory(prefix=f".{RELEASE}-", dir=path.parent) as parent:
            fresh = Path(parent) / RELEASE
            lay_out(archives, fresh)
            _furnish(SshRoot(fresh))
            fresh.rename(path)
    except (KitError, OSError, subprocess.CalledProcessError) as reason:
        raise KitError(
            f"There is no SSH server: none is prepared in {path}, and preparing it from Debian {RELEASE} failed because "
            f"{sentence(reason)}."
        ) from None


def _furnish(root: SshRoot) -> None:
    password = f"canary-ssh-{secrets.token_hex(8)}"
    secret = root.path / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    hashed = root.said("/usr/bin/perl", "-e", HASH, password)
    if not hashed.startswith("$6$"):
        raise KitError("the password of its user could not be hashed")
    (root.path / "etc/passwd").write_text(
        f"root:x:0:0::/:/bin/sh\n{USER}:{hashed}:{ACCOUNT}:{ACCOUNT}::/:/bin/sh\n"
    )
    (root.path / "etc/group").write_text(f"root:x:0:\n{USER}:x:{ACCOUNT}:\n")
    (root.path / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    (root.path / "etc/hosts").write_text(f"{HOST} localhost {BEHIND}\n")


class SshServer:
    """An sshd on a free port of 127.0.0.1; a context manager.

    Args:
        root: where its program is.
        options: lines of sshd_config that come before the kit's own, and so win.
    """

    def __init__(self, root: SshRoot, *options: str) -> None:
        self.root = root
        self.host = HOST
        self.port = 0
        self.user = USER
        self.password = root.password
        self.key: PrivateKey = ec.generate_private_key(ec.SECP256R1())
        """The user's key."""
        self.host_key = ed25519.Ed25519PrivateKey.generate()
        self._options = options
        self._folder: Folder | None = None
        self._keeper: Keeper | None = None

    def __enter__(self) -> Self:
        self._folder = Folder(self.root)
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()

    @property
    def fingerprint(self) -> str:
        """Its host key's, as `ssh-keygen -l` prints it."""
        digest = hashlib.sha256(base64.b64decode(self.known_host.split()[1])).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"

    @property
    def known_host(self) -> str:
        """Its public host key, in one line."""
        return public_line(self.host_key)

    @property
    def log(self) -> str:
        """All that it has logged."""
        return (self._path / "sshd.log").read_text(errors="replace")

    def tunnel(self, port: int | None = None, **other: Any) -> dict[str, Any]:
        """The setting `tunnel_method` that leads through it, with its user's key unless `other` says otherwise.

        Args:
            port: where to reach it, if not directly.
            other: further members.
        """
        address = {"tunnel_host": self.host, "tunnel_port": port or self.port, "tunnel_user": self.user}
        return {"tunnel_method": "SSH_KEY_AUTH", **address, "ssh_key": pem(self.key), **other}

    def password_tunnel(self, port: int | None = None, **other: Any) -> dict[str, Any]:
        """As `tunnel`, with the user's password."""
        address = {"tunnel_host": self.host, "tunnel_port": port or self.port, "tunnel_user": self.user}
        method = {"tunnel_method": "SSH_PASSWORD_AUTH", "tunnel_user_password": self.password}
        return {**method, **address, **other}

    def start(self) -> None:
        """Start it, the first time on a free port, afterwards on the same one, with the keys that it has now.

        Raises:
            KitError: it does not start; the message ends with what it said.
        """
        self._write_keys()
        for attempt in range(1, START_ATTEMPTS + 1):
            port = self.port or free_port()
            if self._starts(port):
                self.port = port
                return
            # Another process can take the port between our look and the server's.
            if attempt == START_ATTEMPTS or "Address already in use" not in self.log:
                raise KitError(f"sshd did not start: {self.log[-2000:]}")

    def stop(self) -> None:
        """End it and every connection through it, as a crash would."""
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None

    def remove(self) -> None:
        """End it and remove its folder."""
        self.stop()
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    @property
    def _place(self) -> Place:
        if self._folder is None:
            raise KitError("sshd was not started")
        return self._folder.place

    @property
    def _path(self) -> Path:
        return self._place.path

    def _write_keys(self) -> None:
        encryption = serialization.NoEncryption()
        host_key = self.host_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, encryption
        )
        for name, content in {"host_key": host_key, "authorized": public_line(self.key).encode()}.items():
            path = self._path / name
            path.touch(mode=0o600)
            path.write_bytes(content)
            give(path)

    def _starts(self, port: int) -> bool:
        inside_root = self._place.inside
        lines = [
            *self._options, f"ListenAddress {HOST}", f"Port {port}", f"HostKey {inside_root}/host_key",
            f"AuthorizedKeysFile {inside_root}/authorized", "StrictModes no", "UsePAM no", "PidFile none",
            "PermitTTY no", "AllowTcpForwarding local", "PerSourcePenalties no", "MaxStartups 100", "LogLevel VERBOSE",
        ]  # fmt: skip
        (self._path / "sshd_config").write_text("".join(f"{line}\n" for line in lines))
        give(self._path / "sshd_config")
        with (self._path / "sshd.log").open("ab") as log:
            self._keeper = Keeper(self.root, [PROGRAM, "-D", "-e", "-f", f"{inside_root}/sshd_config"], log)
        deadline = time.monotonic() + START_SECONDS
        while self._keeper.running and time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection((HOST, port)):
                return True
            time.sleep(POLL_SECONDS)
        self.stop()
        return False


def public_line(key: PrivateKey) -> str:
    """A public key as in `authorized_keys`."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode()
    )


def pem(key: PrivateKey, *, passphrase: str | None = None) -> str:
    """A private key as PEM text, in the format that OpenSSH calls PEM; encrypted where a passphrase is given."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    kind = (
        serialization.PrivateFormat.OpenSSH
        if isinstance(key, ed25519.Ed25519PrivateKey)
        else serialization.PrivateFormat.TraditionalOpenSSL
    )
    return key.private_bytes(serialization.Encoding.PEM, kind, encryption).decode()
