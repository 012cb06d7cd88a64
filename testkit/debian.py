"""Server roots made of Debian's own packages: for machines without Docker, nothing installed or compiled.

Debian carries PostgreSQL and the Apache edition of TimescaleDB. The packages of a release are downloaded with
all they need and unpacked side by side; no installation script is run. What those scripts would have made,
and PostgreSQL misses, is made here: the links of the merged `/usr`, a shell, an account.

Downloads are kept together with their list, so a second preparation needs no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from testkit.apt import PrivateApt, find_mirror
from testkit.errors import KitError, NoServerError
from testkit.keeper import ACCOUNT
from testkit.roots import Edition, Root, cache_folder, label, locked, recognise


@dataclass(frozen=True, slots=True)
class Release:
    """A Debian release whose packages make a server, and the versions that it had when this was written."""

    name: str
    postgres: int
    timescaledb: str

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages to ask for; dash is essential on a Debian machine, so no package asks for it."""
        server = f"postgresql-{self.postgres}"
        return (server, f"{server}-timescaledb", "dash")

    @property
    def label(self) -> str:
        """What to call the server before it is prepared."""
        return label(self.postgres, self.timescaledb, Edition.APACHE)


RELEASES = (Release("trixie", 17, "2.19.3"), Release("forky", 18, "2.31.1"))

TOOLS = ("apt-get", "apt-config", "dpkg", "dpkg-deb")

REMEDY = (
    "Set TIMESCALEDB_TEST_URL to the superuser URL of a running TimescaleDB, or start Docker, "
    "or connect to the machine's Debian mirror."
)


def possible() -> bool:
    """Whether this machine has Debian's tools; only a try shows whether it has a mirror."""
    return all(shutil.which(tool) for tool in TOOLS)


def prepare(release: Release, cache: Path | None = None) -> Root:
    """The root of a release, made now if it is not in the cache yet.

    Raises:
        NoServerError: nothing is cached and the packages cannot be had; its message is one sentence of what
            was tried and one of what to do.
    """
    cache = cache or cache_folder()
    path = cache / "servers" / release.name
    with locked(cache / "locks" / f"{release.name}.prepare"):
        return recognise(path) or make(release, path, cache)


def make(release: Release, path: Path, cache: Path) -> Root:
    """Download, unpack in a temporary folder, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        archives = packages(release.name, release.packages, cache / "downloads" / release.name)
        with tempfile.TemporaryDirectory(prefix=f".{release.name}-", dir=path.parent) as parent:
            fresh = Path(parent) / release.name
            unpack(archives, fresh)
            fresh.rename(path)
    except (KitError, OSError, subprocess.CalledProcessError) as reason:
        raise NoServerError(
            f"There is no {release.label} server: none is prepared in {path}, and preparing it "
            f"from Debian {release.name} failed because {sentence(reason)}. {REMEDY}"
        ) from None
    root = recognise(path)
    assert root is not None, "unpack recognised it"
    return root


def sentence(reason: Exception) -> str:
    """Why a step failed, without a final stop; of a failed command the last thing it said."""
    if isinstance(reason, subprocess.CalledProcessError):
        said = str(reason.stderr or "").strip().splitlines()
        return f"{reason.cmd[0]} failed ({said[-1] if said else reason.returncode})"
    return str(reason).rstrip(".")


def packages(release: str, wanted: tuple[str, ...], downloads: Path) -> list[Path]:
    """The files of packages of a release and of all they need: those of the last complete download, else fetched now."""
    listed = downloads / "packages.txt"
    if listed.exists():
        kept = [downloads / line for line in listed.read_text().splitlines()]
        if all(path.exists() for path in kept):
            return kept
    if not possible():
        raise KitError(f"this machine lacks one of {', '.join(TOOLS)}")
    archives = PrivateApt(downloads, release, find_mirror()).download(wanted)
    partial = downloads / "packages.txt.partial"
    partial.write_text("".join(f"{path.relative_to(downloads)}\n" for path in archives))
    partial.rename(listed)
    return archives


def unpack(archives: list[Path], root: Path) -> None:
    """Make a server root of packages.

    Raises:
        KitError: the result is no server.
    """
    lay_out(archives, root)
    (root / "etc/passwd").write_text(f"root:x:0:0::/:/bin/sh\npostgres:x:{ACCOUNT}:{ACCOUNT}::/:/bin/sh\n")
    (root / "etc/group").write_text(f"root:x:0:\npostgres:x:{ACCOUNT}:\n")
    if recognise(root) is None:
        raise KitError("the downloaded packages hold no PostgreSQL with TimescaleDB")


def lay_out(archives: list[Path], root: Path) -> None:
    """Lay packages out in a folder and add what their installation scripts would have made, but for the accounts."""
    root.mkdir(parents=True)
    root.chmod(0o755)
    for folder in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / folder).mkdir(parents=True)
        (root / folder).symlink_to(f"usr/{folder}")
    for archive in archives:
        subprocess.run(["dpkg", "-x", archive, root], check=True, capture_output=True, text=True)
    for folder in ("dev", "dev/shm", "tmp", "srv", "etc"):
        (root / folder).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    shell = root / "usr/bin/sh"
    if not os.path.lexists(shell):
        shell.symlink_to("dash")
