"""Why a server could not even be talked to: the name, the port, the encryption, one after the other.

libpq reports a failed connection as one text, without a code. Texts are no ground for a decision, so after a
failure the first stages of a connection are walked again here, where each answers in a form that can be told
apart: the resolver's and the socket's exceptions, the one byte with which PostgreSQL grants TLS (protocol,
"SSLRequest"), and the numbers and alert names that OpenSSL gives for a certificate. The first stage that
fails is the reason.

A host that is not there yet or a port where nothing listens may be there in a moment, so those are transient;
a certificate stays wrong until somebody changes it. Passwords are not needed for any of this, and are not at
hand.

Through an SSH tunnel the way is walked in two parts: the jump server is asked to go there, then we follow.
"""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Final

from source_timescaledb.errors import ConfigurationError, ConnectorError, UnavailableError
from source_timescaledb.postgres.certificates import Certificates
from source_timescaledb.postgres.tunnel import Tunnel

SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)
ALERT_SECONDS: Final = 2.0
"""With TLS 1.3 the server judges our certificate after our part of the handshake: wait so long for it."""

HOSTNAME_MISMATCHES: Final = frozenset({62, 63, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH, EMAIL_MISMATCH and IP_ADDRESS_MISMATCH (openssl/x509_vfy.h)."""
OUT_OF_DATE: Final = frozenset({9, 10})
"""X509_V_ERR_CERT_NOT_YET_VALID and CERT_HAS_EXPIRED."""
ENCRYPTED_MODES: Final = frozenset({"require", "verify-ca", "verify-full"})

CHECK_ADDRESS: Final = "Check the settings host and port, the server and the network between."
CHECK_AUTHORITY: Final = "Put the certificate of the authority that issued it into ssl_mode.ca_certificate."
CHECK_CLIENT: Final = "Put a valid pair into ssl_mode.client_certificate and ssl_mode.client_key."


@dataclass(frozen=True, slots=True)
class Doorway:
    """A server's address and the encryption that we insist on."""

    host: str
    port: int
    ssl_mode: str
    certificates: Certificates | None
    seconds: float
    """How long each stage may take."""
    tunnel: Tunnel | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect to: host and port, or what leads to them through the tunnel."""
        return self.tunnel.address(self.host, self.port) if self.tunnel else (self.host, self.port)

    @property
    def is_network(self) -> bool:
        """Whether it is one host in a network, rather than a socket file or a list of hosts."""
        return not self.host.startswith(("/", "@")) and "," not in self.host


def obstacle(doorway: Doorway, doing: str) -> ConnectorError | None:
    """Return what keeps us from talking to the server at all, or None where nothing does."""
    if not doorway.is_network:
        return None
    if doorway.tunnel and (
        stopped := doorway.tunnel.obstacle(doorway.host, doorway.port, doorway.seconds, doing)
    ):
        return stopped
    try:
        with socket.create_connection(doorway.address, doorway.seconds) as plain:
            return _tls_obstacle(plain, doorway, doing) if doorway.ssl_mode in ENCRYPTED_MODES else None
    except (OSError, UnicodeError) as error:
        return UnavailableError(
            f"{doing} failed: {_network_reason(error, doorway)}.",
            remedy=CHECK_ADDRESS,
            detail=type(error).__name__,
        )


def answers(doorway: Doorway) -> bool:
    """Whether whoever listens there says a first byte in time, to anybody; True where that cannot be asked.

    A server says that byte before it asks who we are, and also when it is full. A port where nothing listens is an
    answer, too: of a machine that is there, and would have ended its connections.
    """
    if not doorway.is_network:
        return True
    try:
        with socket.create_connection(doorway.address, doorway.seconds) as plain:
            plain.sendall(SSL_REQUEST)
            plain.recv(1)
    except TimeoutError:
        return False
    except (OSError, UnicodeError):
        return True
    return True


def _network_reason(error: OSError | UnicodeError, doorway: Doorway) -> str:
    match error:
        case socket.gaierror() | UnicodeError():
            return f"the host name {doorway.host} is unknown"
        case ConnectionRefusedError():
            return f"nothing listens on port {doorway.port} there"
        case TimeoutError():
            return f"there was no answer within {doorway.seconds:g} seconds"
        case ConnectionError():
            return "the connection was closed before the server had said anything"
        case _:
            return "the network cannot reach it"


def _tls_obstacle(plain: socket.socket, doorway: Doorway, doing: str) -> ConnectorError | None:
    plain.sendall(SSL_REQUEST)
    match plain.recv(1):
        case b"S":
            return _handshake_obstacle(plain, doorway, doing)
        case b"N":
            return ConfigurationError(
                f"{doing} failed: the server does not offer TLS, which ssl_mode {doorway.ssl_mode} requires.",
                remedy="Turn ssl on at the server, or set ssl_mode to prefer or disable.",
            )
        case b"":
            return UnavailableError(
                f"{doing} failed: the server closed the connection.", remedy=CHECK_ADDRESS
            )
        case _:
            return ConfigurationError(
                f"{doing} failed: what listens there is not PostgreSQL.", remedy=CHECK_ADDRESS
            )


def _handshake_obstacle(plain: socket.socket, doorway: Doorway, doing: str) -> ConnectorError | None:
    try:
        context = _context(doorway)
    except (ssl.SSLError, OSError) as error:
        return ConfigurationError(
            f"{doing} failed: the certificates in ssl_mode cannot be used.",
            remedy="Check that they are whole, that the key belongs to its certificate, and the key's "
            "password.",
            detail=getattr(error, "reason", None) or type(error).__name__,
        )
    try:
        with context.wrap_socket(plain, server_hostname=doorway.host) as encrypted:
            _await_alert(encrypted, doorway)
    except ssl.SSLCertVerificationError as error:
        return _server_certificate_error(error, doorway, doing)
    except ssl.SSLError as error:
        return _refused_handshake_error(error, doing)
    return None


def _context(doorway: Doorway) -> ssl.SSLContext:
    """Build a context that demands what libpq's mode demands, and no more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = doorway.ssl_mode == "verify-full"
    if doorway.certificates is None:
        context.verify_mode = ssl.CERT_NONE
        return context
    files, password = doorway.certificates.files, doorway.certificates.password
    context.load_verify_locations(files["sslrootcert"])
    if "sslcert" in files:
        # Without any password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(
            files["sslcert"], files["sslkey"], password.get_secret_value() if password else ""
        )
    return context


def _await_alert(encrypted: ssl.SSLSocket, doorway: Doorway) -> None:
    if doorway.certificates and "sslcert" in doorway.certificates.files:
        encrypted.settimeout(min(ALERT_SECONDS, doorway.seconds))
        try:
            encrypted.recv(1)
        except TimeoutError:
            return


def _server_certificate_error(
    error: ssl.SSLCertVerificationError, doorway: Doorway, doing: str
) -> ConnectorError:
    detail = f"X509 verification error {error.verify_code}"
    if error.verify_code in HOSTNAME_MISMATCHES:
        return ConfigurationError(
            f"{doing} failed: the server's certificate was not issued for the host {doorway.host}.",
            remedy="Set host to a name in the certificate, or ssl_mode to verify-ca.",
            detail=detail,
        )
    if error.verify_code in OUT_OF_DATE:
        return ConfigurationError(
            f"{doing} failed: the server's certificate, or its authority's, has expired or is not valid yet.",
            remedy="Renew it.",
            detail=detail,
        )
    return ConfigurationError(
        f"{doing} failed: the server's certificate was not issued by the authority in "
        f"ssl_mode.ca_certificate.",
        remedy=CHECK_AUTHORITY,
        detail=detail,
    )


def _refused_handshake_error(error: ssl.SSLError, doing: str) -> ConnectorError:
    reason = error.reason or ""
    if reason.endswith("ALERT_CERTIFICATE_EXPIRED"):
        return ConfigurationError(
            f"{doing} failed: the server refused our client certificate because it has expired.",
            remedy=CHECK_CLIENT,
            detail=reason,
        )
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return ConfigurationError(
            f"{doing} failed: the server refused our client certificate.", remedy=CHECK_CLIENT, detail=reason
        )
    return ConfigurationError(
        f"{doing} failed: the server and we found no common way to encrypt.",
        remedy="Check which versions of TLS and which ciphers the server allows.",
        detail=reason,
    )
