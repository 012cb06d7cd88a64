"""Server roots: folders that hold a whole PostgreSQL with TimescaleDB, from whatever source.

A root is recognised by what is in it, not by a register: a folder in `<cache>/servers` with a `postgres`
program is a server, its version is what its own files say, and its edition is Community exactly when the
library with the Timescale licensed half (`timescaledb-tsl-*.so`) is there. So a root put there by hand is
found and used like any other.

Roots appear under their name by one rename, when they are complete, and one process at a time prepares (a
lock on a file).
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from testkit.errors import KitError

CACHE_VARIABLE = "SOURCE_TIMESCALEDB_CACHE"


class Edition(str, Enum):
    """The two builds of TimescaleDB; only Community compresses and has continuous aggregates."""

    APACHE = "apache"
    COMMUNITY = "community"


@dataclass(frozen=True, slots=True)
class Root:
    """A server root: the folder, the programs' folder as seen from inside, and what is in it."""

    path: Path
    programs: str
    postgres: int
    timescaledb: str
    edition: Edition

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def label(self) -> str:
        """What it is, for a person: `pg17-ts2.19-apache`."""
        return label(self.postgres, self.timescaledb, self.edition)


def label(postgres: int, timescaledb: str, edition: Edition) -> str:
    """A server's version and edition in one word; of TimescaleDB's version the first two numbers."""
    return f"pg{postgres}-ts{'.'.join(timescaledb.split('.')[:2])}-{edition.value}"


def cache_folder() -> Path:
    """Where everything is kept that outlives a run: SOURCE_TIMESCALEDB_CACHE, else a folder in ~/.cache."""
    named = os.environ.get(CACHE_VARIABLE)
    return (Path(named) if named else Path("~/.cache/source-timescaledb")).expanduser().absolute()


def roots(cache: Path | None = None) -> list[Root]:
    """All complete roots in the cache folder, by name."""
    folder = (cache or cache_folder()) / "servers"
    found = (recognise(path) for path in sorted(folder.glob("*")) if not path.name.startswith("."))
    return [root for root in found if root is not None]


def recognise(path: Path) -> Root | None:
    """What server a folder holds, or None when it holds none."""
    for programs in [*sorted(path.glob("usr/lib/postgresql/*/bin")), path / "usr/local/pgsql/bin"]:
        if not (programs / "postgres").is_file():
            continue
        prefix = programs.parent
        control = first(
            path.glob("usr/share/postgresql/*/extension/timescaledb.control"),
            prefix.glob("share/extension/timescaledb.control"),
            prefix.glob("share/postgresql/extension/timescaledb.control"),
        )
        if control is None:
            continue
        return Root(
            path=path,
            programs=f"/{programs.relative_to(path)}",
            postgres=catalog_version(control.parent.parent),
            timescaledb=default_version(control.read_text()),
            edition=Edition.COMMUNITY if any(prefix.glob("lib/**/timescaledb-tsl-*.so")) else Edition.APACHE,
        )
    return None


def first(*searches: Iterator[Path]) -> Path | None:
    """The first path that any of the searches finds."""
    return next((path for search in searches for path in search), None)


def default_version(control: str) -> str:
    """The version that CREATE EXTENSION installs, from the text of a control file."""
    found = re.search(r"^default_version\s*=\s*'([^']+)'", control, re.MULTILINE)
    if found is None:
        raise KitError("timescaledb.control names no default_version: the server root is damaged, remove it")
    return found[1]


def catalog_version(share: Path) -> int:
    """The major version of PostgreSQL, from the first line of its bootstrap script (`# PostgreSQL 17`)."""
    with (share / "postgres.bki").open() as bootstrap:
        return int(bootstrap.readline().split()[-1])


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes for the time of the block; the file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
