"""The SSH jump server as asyncssh sees it: a connection on an event loop, and doors that lead through it.

A door is a port of 127.0.0.1 on which asyncssh listens; whoever connects there is led to one host and port on the other
side, as with `ssh -L`. Other users of this machine could use it, too; the database asks them who they are. A socket file
that only we can open would keep them out, but libpq does not encrypt on one.

The connection is asked every few seconds whether it is still there (`keepalive@openssh.com`), so one that was lost
without a word is closed within some twelve seconds, and every connection through it with it: their users see a lost
connection and try again, and the first of them opens the next one.

Nothing of the machine's own takes part: no configuration file, no agent, no key and no known host that some user of it
keeps in `~/.ssh`, so a sync does the same on every machine.

This module is imported only where there is a tunnel: importing asyncssh takes longer than all of `spec`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import asyncssh
from asyncssh import SSHClient, SSHClientConnection, SSHKey
from asyncssh.constants import OPEN_ADMINISTRATIVELY_PROHIBITED
from pydantic import SecretStr

from source_timescaledb.config.host_keys import HostKeys, fingerprint
from source_timescaledb.config.tunnel import KeyTunnel, PasswordTunnel
from source_timescaledb.errors import ConfigurationError, ConnectorError, UnavailableError

LOOPBACK: Final = "127.0.0.1"
LOGIN_SECONDS: Final = 10.0
"""How long the jump server may take to accept a connection, and then to let us in."""
KEEPALIVE_SECONDS: Final = 4.0
UNANSWERED: Final = 2
"""After so many questions without an answer the connection counts as lost."""

CIPHERS: Final = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""Those that processors have instructions for come first: twice the rate of ChaCha20 (measured: 88 MB/s and 43)."""
HOST_KEY_ALGORITHMS: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
"""Plain keys, which have a fingerprint; certificates of hosts would need an authority that nobody can name here."""

CHECK_ADDRESS: Final = (
    "Check the settings tunnel_method.tunnel_host and tunnel_port, the jump server and the network between."
)
CHECK_TARGET: Final = (
    "Check the settings host and port as the jump server knows them, and that the database is up."
)
CONVERT_KEY: Final = (
    "Take the passphrase away (ssh-keygen -p -N '' -f FILE), or write an RSA or ECDSA key as PEM (ssh-keygen -p -m PEM "
    "-f FILE) and put its passphrase into timescaledb.ssh_key_passphrase."
)

logging.getLogger("asyncssh").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Login:
    """How a jump server is reached, and by which key it is known; no secret is in any repr."""

    method: KeyTunnel | PasswordTunnel
    host_keys: HostKeys | None
    """Those that are accepted; None trusts the one that it shows first, as long as this object's server lives."""
    passphrase: SecretStr | None

    @property
    def doing(self) -> str:
        """What a failure interrupts, as the beginning of its sentence."""
        method = self.method
        return f"Opening an SSH tunnel through {method.tunnel_host} port {method.tunnel_port} as {method.tunnel_user}"


class JumpServer:
    """One connection to a jump server at a time; all methods run on one event loop.

    Args:
        login: how to get in.
        on_first_sight: told the host key that is taken on trust, as `algorithm fingerprint`.
    """

    def __init__(self, login: Login, on_first_sight: Callable[[str], None]) -> None:
        self._login = login
        self._on_first_sight = on_first_sight
        self._accepted = login.host_keys
        self._attempt: asyncio.Future[SSHClientConnection] | None = None
        self._doors: dict[tuple[str, int], int] = {}

    async def door(self, host: str, port: int) -> int:
        """The port of 127.0.0.1 that leads to a host and port; opens the connection if there is none.

        Raises ConnectorError; all who wait for one attempt get the same.
        """
        if self._connection is None and (self._attempt is None or self._attempt.done()):
            self._doors.clear()
            self._attempt = asyncio.ensure_future(self._log_in())
        assert self._attempt is not None
        connection = await asyncio.shield(self._attempt)
        if (host, port) not in self._doors:
            self._doors[host, port] = await self._listen(connection, host, port)
        return self._doors[host, port]

    async def obstacle(self, host: str, port: int, seconds: float, doing: str) -> ConnectorError | None:
        """What keeps the jump server from connecting to a host and port, which it is asked to do once."""
        connection = self._connection
        if connection is None:
            return _lost(doing)
        try:
            _, writer = await asyncio.wait_for(connection.open_connection(host, port), seconds)
        except asyncssh.ChannelOpenError as error:
            return _refused_door(error, doing)
        except asyncssh.Error:
            return _lost(doing)
        except (TimeoutError, asyncio.TimeoutError):
            return UnavailableError(
                f"{doing} failed: the jump server got no answer from there within {seconds:g} seconds.",
                remedy=CHECK_TARGET,
            )
        writer.close()
        return None

    async def close(self) -> None:
        """Say goodbye, which ends every connection through it."""
        if connection := self._connection:
            connection.close()
            await connection.wait_closed()

    @property
    def _connection(self) -> SSHClientConnection | None:
        """The connection, if there is one now."""
        match self._attempt:
            case asyncio.Future() as attempt if attempt.done() and not attempt.exception():
                return None if attempt.result().is_closed() else attempt.result()
            case _:
                return None

    async def _log_in(self) -> SSHClientConnection:
        method = self._login.method
        keys, password = _credentials(self._login)
        greeter = _Greeter(self._accepts)
        try:
            return await asyncssh.connect(
                method.tunnel_host,
                method.tunnel_port,
                username=method.tunnel_user,
                client_keys=keys,
                password=password,
                preferred_auth="publickey" if keys else "password,keyboard-interactive",
                client_factory=lambda: greeter,
                known_hosts=([], [], []),  # an empty file name or text would stand for ~/.ssh/known_hosts
                server_host_key_algs=HOST_KEY_ALGORITHMS,
                encryption_algs=CIPHERS,
                config=None,
                agent_path=None,
                gss_auth=False,
                gss_kex=False,
                connect_timeout=LOGIN_SECONDS,
                login_timeout=LOGIN_SECONDS,
                keepalive_interval=KEEPALIVE_SECONDS,
                keepalive_count_max=UNANSWERED,
            )
        except asyncssh.HostKeyNotVerifiable:
            raise self._stranger(greeter.shown) from None
        except (asyncssh.Error, OSError, UnicodeError, asyncio.TimeoutError) as error:
            raise _failure(error, self._login) from None

    async def _listen(self, connection: SSHClientConnection, host: str, port: int) -> int:
        try:
            listener = await connection.forward_local_port(LOOPBACK, 0, host, port)
        except (asyncssh.Error, OSError) as error:
            raise _failure(error, self._login) from None
        return listener.get_port()

    def _accepts(self, key: SSHKey) -> bool:
        shown = fingerprint(key.public_data)
        if self._accepted is None:
            self._accepted = HostKeys(frozenset({shown}))
            self._on_first_sight(f"{key.get_algorithm()} {shown}")
        return shown in self._accepted.fingerprints

    def _stranger(self, shown: SSHKey | None) -> ConfigurationError:
        known = "which timescaledb.ssh_host_key names" if self._login.host_keys else "that it showed before"
        described = (
            f"{shown.get_algorithm()} {fingerprint(shown.public_data)}" if shown else "of an unknown kind"
        )
        return ConfigurationError(
            f"{self._login.doing} failed: the jump server shows the host key {described}, and that is none of those "
            f"{known}.",
            remedy="If it is the right server and its key has changed, put the new fingerprint into "
            "timescaledb.ssh_host_key. If not, somebody else answers in its place.",
        )


class _Greeter(SSHClient):
    """Judges the host key."""

    def __init__(self, accepts: Callable[[SSHKey], bool]) -> None:
        self._accepts = accepts
        self.shown: SSHKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: SSHKey) -> bool:  # noqa: ARG002
        """Whether the key is one of those we accept; asyncssh has seen the proof that the server holds it."""
        self.shown = key
        return self._accepts(key)


def _credentials(login: Login) -> tuple[list[SSHKey] | None, str | None]:
    """The key or the password to log in with. Raises ConfigurationError for a key that cannot be used."""
    match login.method:
        case PasswordTunnel(tunnel_user_password=password):
            return None, password.get_secret_value()
        case KeyTunnel(ssh_key=key):
            return [_private_key(key.get_secret_value(), login)], None


def _private_key(text: str, login: Login) -> SSHKey:
    passphrase = login.passphrase.get_secret_value() if login.passphrase else None
    try:
        return asyncssh.import_private_key(text, passphrase)
    except ValueError:
        fault, remedy = _fault_of_key(text, passphrase)
    raise ConfigurationError(
        f"{login.doing} failed: the key in tunnel_method.ssh_key {fault}.", remedy=remedy
    )


def _fault_of_key(text: str, passphrase: str | None) -> tuple[str, str]:
    """What is wrong with a key that cannot be imported, for which asyncssh has texts only; and what to do."""
    if _is_encrypted_by_openssh(text):
        return "has a passphrase in OpenSSH's own format, in which we cannot read it", CONVERT_KEY
    if "ENCRYPTED" not in text:
        return (
            "is no whole private key",
            "Paste all of the file, from -----BEGIN to -----END, with its line breaks.",
        )
    if passphrase is None:
        return "has a passphrase", "Put it into the setting timescaledb.ssh_key_passphrase."
    return "cannot be decrypted", "Correct the setting timescaledb.ssh_key_passphrase."


def _is_encrypted_by_openssh(text: str) -> bool:
    """Whether an import with some passphrase gets as far as the cipher: the format says nothing of it in the open."""
    try:
        asyncssh.import_private_key(text, "?")
    except asyncssh.KeyEncryptionError:
        return "OPENSSH" in text
    except asyncssh.KeyImportError:
        return False
    return False


def _failure(error: Exception, login: Login) -> ConnectorError:
    doing, method = login.doing, login.method
    match error:
        case asyncssh.PermissionDenied():
            wanted = "this password" if isinstance(method, PasswordTunnel) else "this key"
            return ConfigurationError(
                f"{doing} failed: the jump server does not let that user in with {wanted}.",
                remedy="Correct the settings in tunnel_method, or let the user in at the jump server.",
            )
        case asyncssh.KeyExchangeFailed() | asyncssh.ProtocolNotSupported():
            return ConfigurationError(
                f"{doing} failed: the jump server and we found no common way to encrypt.",
                remedy="Check which versions and algorithms of SSH the jump server allows.",
            )
        case asyncssh.ProtocolError():
            return ConfigurationError(
                f"{doing} failed: what listens there is not an SSH server.", remedy=CHECK_ADDRESS
            )
    return UnavailableError(
        f"{doing} failed: {_passing_reason(error, login)}.", remedy=CHECK_ADDRESS, detail=type(error).__name__
    )


def _passing_reason(error: Exception, login: Login) -> str:
    match error:
        case socket.gaierror() | UnicodeError():
            return f"the host name {login.method.tunnel_host} is unknown"
        case ConnectionRefusedError():
            return f"nothing listens on port {login.method.tunnel_port} there"
        case TimeoutError() | asyncio.TimeoutError():
            return f"there was no answer within {LOGIN_SECONDS:g} seconds"
        case asyncssh.Error() | ConnectionError():
            return "the jump server closed the connection"
        case _:
            return "the network cannot reach it"


def _lost(doing: str) -> UnavailableError:
    return UnavailableError(f"{doing} failed: the SSH tunnel was lost.", remedy=CHECK_ADDRESS)


def _refused_door(error: asyncssh.ChannelOpenError, doing: str) -> ConnectorError:
    if error.code == OPEN_ADMINISTRATIVELY_PROHIBITED:
        return ConfigurationError(
            f"{doing} failed: the jump server does not allow us to connect there.",
            remedy="Let it: AllowTcpForwarding and PermitOpen in its sshd_config, or the options of our key.",
        )
    return UnavailableError(
        f"{doing} failed: the jump server could not connect there ({error.reason}).", remedy=CHECK_TARGET
    )
