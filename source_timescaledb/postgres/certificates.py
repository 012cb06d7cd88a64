"""TLS material as the files that libpq insists on.

libpq takes certificates and keys only as file names. The texts of the configuration are written into a new
directory that only we can enter, each file readable only by us (libpq refuses a key that others can read),
and the directory is removed when the last user of it is gone and at the latest when the process ends. A
process that is killed leaves it behind; nothing in user space can prevent that.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import SecretStr

from source_timescaledb.config.encryption import Verified

FILES: Final = {"sslrootcert": "ca.pem", "sslcert": "client.pem", "sslkey": "client.key"}


class Certificates:
    """The authority, and perhaps the client's certificate and key, as private files.

    `files` maps libpq's parameters to file names, `password` is the client key's.
    """

    def __init__(self, tls: Verified) -> None:
        folder = Path(tempfile.mkdtemp(prefix="source-timescaledb-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        texts = {
            "sslrootcert": tls.ca_certificate,
            "sslcert": tls.client_certificate,
            "sslkey": tls.client_key,
        }
        self.password = tls.client_key_password
        self.files: Mapping[str, str] = MappingProxyType(
            {name: _private_file(folder / FILES[name], text) for name, text in texts.items() if text}
        )

    def __repr__(self) -> str:
        return f"Certificates({', '.join(self.files)})"


def _private_file(path: Path, text: SecretStr) -> str:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text.get_secret_value())
    return str(path)
