"""Throw-away certificates: an authority, what it issues, and everything that can be wrong with that.

Keys are P-256, which takes a millisecond each, so every test makes its own; nothing is ever reused or worth
stealing.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ALREADY_VALID = timedelta(days=2)
VALID_FOR = timedelta(days=30)
EXPIRED = timedelta(days=-1)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both as PEM text."""

    certificate: str
    key: str

    def files(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write both into a folder and return where: the certificate and the key."""
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        certificate.write_text(self.certificate)
        key.touch(mode=0o600)
        key.write_text(self.key)
        return certificate, key


class Authority:
    """A certificate authority that exists as long as its object."""

    def __init__(self, name: str = "throw-away authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(self._name, self._name, self._key.public_key(), VALID_FOR).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self._certificate = builder.sign(self._key, hashes.SHA256())

    @property
    def certificate(self) -> str:
        """Its own certificate, as PEM text."""
        return _pem(self._certificate)

    def for_server(self, *hosts: str, valid_for: timedelta = VALID_FOR) -> KeyPair:
        """Issue a server certificate for host names and addresses."""
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        return self._issue(hosts[0], ExtendedKeyUsageOID.SERVER_AUTH, valid_for, names=names)

    def for_client(
        self,
        user: str,
        *,
        valid_for: timedelta = VALID_FOR,
        password: str | None = None,
        key_format: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
    ) -> KeyPair:
        """Issue a client certificate for a role, its key encrypted where a password is given."""
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return self._issue(user, usage, valid_for, password=password, key_format=key_format)

    def _issue(
        self,
        common_name: str,
        usage: x509.ObjectIdentifier,
        valid_for: timedelta,
        *,
        names: x509.SubjectAlternativeName | None = None,
        password: str | None = None,
        key_format: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = _builder(subject, self._name, key.public_key(), valid_for)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names:
            builder = builder.add_extension(names, critical=False)
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            encryption = serialization.BestAvailableEncryption(password.encode())
        pem = key.private_bytes(serialization.Encoding.PEM, key_format, encryption)
        return KeyPair(_pem(builder.sign(self._key, hashes.SHA256())), pem.decode())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, valid_for: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(tz=timezone.utc)
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - ALREADY_VALID,
        not_valid_after=now + valid_for,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
