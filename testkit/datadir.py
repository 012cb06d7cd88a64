"""Data directories: one initialised template for each root, a copy of it for each server, no remains.

The template holds the database that fresh test databases are copies of, so starting a server is a copy of
some 50 MB and the start of a process. It belongs to a format number: a kit that makes templates otherwise
makes its own.

A server's folder lies where `places` says. Its owner holds a lock on a file beside it; the kernel lets the lock go
with the process, so a folder whose lock can be had is a dead server's, and is removed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from testkit.cluster import Address, make_template
from testkit.keeper import ACCOUNT, run
from testkit.places import Enterable, Place, in_memory, in_root
from testkit.postmaster import HOST, SETTINGS, Postmaster, free_port, write_settings
from testkit.roots import Root, locked

SUPERUSER = "postgres"
FORMAT = 1
FAST: Mapping[str, str | int] = {
    "fsync": "off",
    "full_page_writes": "off",
    "timescaledb.max_background_workers": 0,
}


class Folder:
    """A server's own folder, held as long as this process lives or until it is removed."""

    def __init__(self, root: Enterable, *, memory: Path | None = None) -> None:
        """Make it.

        Args:
            root: the root whose server it is for.
            memory: our folder in memory, if it is to lie there and not in the root.
        """
        parent = memory or root.path / "srv"
        path = parent / f"run-{secrets.token_hex(4)}"
        self.place = in_memory(path) if memory else in_root(root, path)
        self._lock_path = path.with_suffix(".lock")
        with locked(parent / "folders.lock"):
            remove_remains(parent)
            self._lock: IO[str] = self._lock_path.open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        path.mkdir(mode=0o700)
        give(path)

    def remove(self) -> None:
        """Remove the folder and let go of it."""
        shutil.rmtree(self.place.path, ignore_errors=True)
        self._lock_path.unlink(missing_ok=True)
        self._lock.close()


def remove_remains(parent: Path) -> None:
    """Remove the folders of servers whose process was killed."""
    for lock_path in parent.glob("run-*.lock"):
        with (
            suppress(FileNotFoundError),
            lock_path.open() as lock,
        ):  # an owner that lives removes its own meanwhile
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(lock_path.with_suffix(""), ignore_errors=True)
            lock_path.unlink()


def give(path: Path) -> None:
    """Make the server's user the owner; without root it is the caller, who owns everything already."""
    if os.geteuid() == 0:
        os.chown(path, ACCOUNT, ACCOUNT)


def template(root: Root) -> Path:
    """The root's initialised folder, made now if it is not there yet: `data` and `password`."""
    path = root.path / "srv" / f"template-{FORMAT}"
    (root.path / "srv").mkdir(exist_ok=True)
    with locked(root.path / "srv/template.lock"):
        if not path.exists():
            partial = path.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            initialise(root, in_root(root, partial))
            partial.rename(path)
    return path


def initialise(root: Root, place: Place) -> None:
    """Make a folder with a fresh data directory that has the template database."""
    folder = place.path
    folder.mkdir(mode=0o700)
    give(folder)
    password = f"canary-superuser-{secrets.token_hex(8)}"
    secret = folder / "password"
    secret.write_text(password)
    give(secret)
    run(
        root,
        "initdb",
        f"--pgdata={place.inside}/data",
        f"--username={SUPERUSER}",
        f"--pwfile={place.inside}/password",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
        "--no-instructions",
        place=place,
    )
    address = Address(HOST, free_port(), SUPERUSER, password)
    hba = [f"host all all {HOST}/32 scram-sha-256"]
    write_settings(folder / "data", {**SETTINGS, **FAST, "port": address.port}, hba)
    postmaster = Postmaster(root, place)
    postmaster.start(address)
    try:
        make_template(address)
    finally:
        postmaster.end(signal.SIGINT)
    postmaster.log.unlink()


def copy(source: Path, target: Path) -> None:
    """Copy a folder's contents with owners and modes, by reference where the file system can."""
    subprocess.run(["cp", "-a", "--reflink=auto", f"{source}/.", target], check=True)
