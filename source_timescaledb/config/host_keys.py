"""The host keys by which a jump server is known, written as the tools of OpenSSH print them.

A fingerprint is the SHA-256 of the public key's bytes in base64 without padding (OpenSSH, `sshkey_fingerprint`). The
output of `ssh-keygen -lf` has fingerprints among other words, a line of `known_hosts` or `ssh-keyscan` has the key
itself, whose base64 always begins with AAAA, because the first field is a length below 2**24. So whatever of these
somebody pastes, and however many, the fingerprints can be found in it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from typing_extensions import Self

FINGERPRINT: Final = re.compile(r"(?<!\S)SHA256:([A-Za-z0-9+/]{43})=?(?!\S)")
PUBLIC_KEY: Final = re.compile(
    r"(?<!\S)(AAAA(?:[A-Za-z0-9+/]{4}){5,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)(?!\S)"
)


@dataclass(frozen=True, slots=True)
class HostKeys:
    """The fingerprints of the keys that are accepted, each `SHA256:` and 43 characters."""

    fingerprints: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Find all fingerprints and public keys in a text; ValueError, worded as what it must be, if there are none."""
        # Lists are written with commas and semicolons, too.
        words = re.sub(r"[,;]", " ", text)
        found = {f"SHA256:{digest}" for digest in FINGERPRINT.findall(words)}
        found |= {fingerprint(base64.b64decode(key)) for key in PUBLIC_KEY.findall(words)}
        if not found:
            raise ValueError("SHA256 fingerprints, or lines of known_hosts, of the jump server's host keys")
        return cls(frozenset(found))


def fingerprint(public_key: bytes) -> str:
    """The fingerprint of a public key in SSH's encoding, as `ssh-keygen -l` prints it."""
    digest = base64.b64encode(hashlib.sha256(public_key).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"
