"""Run one command inside a server root, and make sure that it never outlives whoever asked for it.

The servers come from a newer Debian than the machine's own, so they need their own libraries: the command
runs with the root as its `/`. Root enters by `chroot`; anybody else through a user namespace that maps the
server's user to the caller, because PostgreSQL refuses to run as user 0. Where the kernel allows it the
command also gets a process namespace of which it is process 1, own System V IPC, and an own `/dev/shm`.

Why nothing is left running: this program (the keeper) reads its standard input, a pipe whose other end only
the asking process holds. When that process ends, in whatever way, the kernel closes the pipe and the keeper
kills the command. When the keeper itself is killed, the kernel sends SIGKILL to the command
(`PR_SET_PDEATHSIG`, bound to the keeper's main thread, which lives as long as the keeper). Killing process 1
of a namespace kills everything in it. Without a process namespace PostgreSQL's own children notice their
postmaster's death and exit.

The pipe is also the way to the command: a line with a signal's name is passed on as that signal.

The file stands alone (standard library only) and is run by path: `python -I jail.py ROOT UID FOLDER COMMAND...`, where
FOLDER is a folder outside of the root that the command finds at `/mnt`, or nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import stat
import sys
from pathlib import Path

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x08000000, 0x10000000, 0x20000000
MS_BIND, MS_REC, MS_PRIVATE, MS_NOSUID, MS_NODEV = 4096, 16384, 1 << 18, 2, 4
PR_SET_PDEATHSIG = 1
DEVICES = {"null": (1, 3), "zero": (1, 5), "random": (1, 8), "urandom": (1, 9)}
COULD_NOT_ENTER = 125

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Raise OSError with the C library's reason when a call returned non-zero."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: Path, kind: str | None, flags: int, options: str | None = None) -> None:
    """Mount a file system or a folder, or change how a mount spreads."""
    result = libc.mount(
        source.encode(),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() if options else None,
    )
    check(result, f"mount {target}")


def enter_namespaces(uid: int) -> bool:
    """Leave the caller's namespaces; False when root may not, and plain chroot has to do.

    Raises:
        OSError: the caller is not root and the machine allows no user namespaces.
    """
    wanted = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID
    if os.geteuid() == 0:
        return bool(libc.unshare(wanted) == 0)
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    check(libc.unshare(CLONE_NEWUSER | wanted), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{uid} {outer_gid} 1")
    return True


def mount_devices(root: Path) -> None:
    """Show the machine's `/dev` inside the root, with an own `/dev/shm` that vanishes with the command."""
    mount("none", Path("/"), None, MS_REC | MS_PRIVATE)
    mount("/dev", root / "dev", None, MS_BIND | MS_REC)
    mount("tmpfs", root / "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")


def mount_folder(root: Path, folder: str) -> None:
    """Show a folder from outside of the root at its `/mnt`."""
    mount(folder, root / "mnt", None, MS_BIND | MS_REC)


def make_devices(root: Path) -> None:
    """Without mounts the root gets device nodes of its own; the four are all that PostgreSQL opens."""
    shared_memory = root / "dev/shm"
    shared_memory.mkdir(exist_ok=True)
    shared_memory.chmod(0o1777)
    for name, (major, minor) in DEVICES.items():
        node = root / "dev" / name
        if not node.exists():
            with contextlib.suppress(FileExistsError):
                os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(major, minor))
            node.chmod(0o666)


def become_the_command(root: Path, uid: int, command: list[str], alive: int) -> None:
    """In the forked child: change root and user, tie our life to the keeper's, execute; does not return."""
    os.chroot(root)
    os.chdir("/")
    if os.getuid() != uid:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    # After setuid, which would clear it.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.read(alive, 1) != b"!":
        os._exit(COULD_NOT_ENTER)  # the keeper died before the death signal was set
    os.umask(0o077)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/"}
    environment.update({name: value for name, value in os.environ.items() if name.startswith("PG")})
    os.execve(command[0], command, environment)  # noqa: S606 - the command is the caller's, no shell is wanted


def watch(child: int, ended: int) -> int:
    """Pass lines of standard input on as signals until the child ends; return its exit code (128 + signal).

    A loop and not a thread: a process whose children get a process namespace may have no second thread.
    """
    events = select.poll()
    events.register(0, select.POLLIN)
    events.register(ended, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in events.poll()]
        if ended in ready:
            os.read(ended, 4096)
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        if 0 in ready:
            names = os.read(0, 4096).decode().split()
            for name in names or ["SIGKILL"]:
                os.kill(child, signal.Signals[name])
            if not names:
                events.unregister(0)


def main(arguments: list[str]) -> int:
    """Run the command in the root and return its exit code (128 + n when signal n ended it)."""
    root, uid, folder, command = Path(arguments[0]), int(arguments[1]), arguments[2], arguments[3:]
    try:
        if enter_namespaces(uid):
            mount_devices(root)
        else:
            make_devices(root)
        if folder:
            mount_folder(root, folder)
    except OSError as reason:
        print(f"cannot enter the server root: {reason}", file=sys.stderr)
        return COULD_NOT_ENTER
    ended, child_ended = os.pipe()
    os.set_blocking(child_ended, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(child_ended)
    alive, still_here = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(still_here)
            become_the_command(root, uid, command, alive)
        except OSError as reason:
            print(f"cannot run {command[0]} in the server root: {reason}", file=sys.stderr)
        os._exit(COULD_NOT_ENTER)
    os.write(still_here, b"!")
    return watch(child, ended)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
