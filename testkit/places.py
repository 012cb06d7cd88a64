"""Where a server's folder lies, and what it is called on both sides of the root that the server sees.

In memory, where there is room and we may mount: the folder lies in `/dev/shm`, and the server finds it at `/mnt`, in a
mount namespace of its own. Making and dropping a database is a thousand files, and a server is given hundreds of
databases: on ext4 without a journal, as many virtual machines have it, each file made then passes over all that were
removed within a minute (`recently_deleted` in fs/ext4/ialloc.c of Linux), which was a quarter of all that a run of the
tests took. What a server loses in a crash is the same in both places, because neither waits for a disk.

Else, and for whoever measures how fast servers write: in the root, under `/srv`.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import psutil

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - everything in it is in a folder that is ours alone
ROOM_BYTES: Final = 4 << 30
"""What has to be free in memory for a new server: it takes a hundred megabytes, and its log of changes some more."""
MOUNT_POINT: Final = "/mnt"
CAN_MOUNT: Final = 1 << 21
"""CAP_SYS_ADMIN, the right to mount, in `CapEff` of `/proc/self/status` (capabilities(7))."""


class Enterable(Protocol):
    """A folder that a command can have as its root."""

    @property
    def path(self) -> Path:
        """Where it is."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder as it is called outside, and inside a root."""

    path: Path
    inside: str
    mounted: Path | None = None
    """What has to be mounted for it to be there."""


def in_root(root: Enterable, path: Path) -> Place:
    """A folder that lies in the root."""
    return Place(path, f"/{path.relative_to(root.path)}")


def in_memory(path: Path) -> Place:
    """A folder that lies outside of the root, in memory."""
    return Place(path, MOUNT_POINT, path)


def memory(*, room: int = ROOM_BYTES) -> Path | None:
    """Our own folder in memory, made now if it is not there; None where fewer bytes are free, or we may not mount."""
    if not (_has(room) and _may_mount()):
        return None
    folder = MEMORY / f"source-timescaledb-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder if folder.stat().st_uid == os.geteuid() else None


def _may_mount() -> bool:
    """Whoever is not root mounts in a user namespace, without which no root can be entered at all."""
    if os.geteuid() != 0:
        return True
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) & CAN_MOUNT)


def _has(room: int) -> bool:
    if not MEMORY.is_dir():
        return False
    return min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) >= room
