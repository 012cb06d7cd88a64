"""A PostgreSQL server of a test's own, started from a root in about a second.

`fsync` is off unless asked for: a crash of the server is not a crash of the machine, so what it wrote is
still in the page cache, and even `crash` loses no more than it would with `fsync` on.

Guarantee: a server ends with the process that started it, even when that process is killed with SIGKILL (see
`jail` for why). Its folder is removed by `stop`, else by the next server of the same root.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import psutil
from typing_extensions import Self

from testkit.cluster import Address, Cluster
from testkit.datadir import SUPERUSER, Folder, copy, give, initialise, template
from testkit.errors import KitError
from testkit.keeper import run
from testkit.places import Place, memory
from testkit.postmaster import HOST, POLL_SECONDS, SETTINGS, Postmaster, free_port, write_settings
from testkit.roots import Root
from testkit.winding import freeze, set_next_transaction

START_ATTEMPTS = 5
Settings = Mapping[str, str | int]


class Server(Cluster):
    """A server of a root, with its own data directory, free port on 127.0.0.1 and settings."""

    def __init__(
        self,
        root: Root,
        *,
        fsync: bool = False,
        settings: Settings | None = None,
        hba: Sequence[str] = (),
        tls: Mapping[str, Path] | None = None,
        own_identity: bool = False,
        in_memory: bool = True,
    ) -> None:
        """Describe a server; `start` or a `with` block starts it.

        Args:
            root: where its programs are.
            fsync: whether it waits for the disk.
            settings: more settings of postgresql.conf, or others than the kit's.
            hba: lines of pg_hba.conf that come before the kit's own (everybody from 127.0.0.1 with a
                password) and after the superuser's.
            tls: files by setting, `ssl_cert_file`, `ssl_key_file`, `ssl_ca_file`; TLS is off without.
            own_identity: a system identifier of its own, which the servers of a root otherwise share (and two
                seconds).
            in_memory: whether its data may lie in memory; never with `fsync`.
        """
        durability: Settings = {"fsync": "on"} if fsync else {"fsync": "off", "full_page_writes": "off"}
        self.root = root
        self.name, self.postgres = root.name, root.postgres
        self.timescaledb, self.edition = root.timescaledb, root.edition
        self.settings: dict[str, str | int] = {**SETTINGS, **durability, **(settings or {})}
        self.hba = tuple(hba)
        self.tls = dict(tls or {})
        self.own_identity = own_identity
        self.in_memory = in_memory and not fsync
        self._folder: Folder | None = None
        self._postmaster: Postmaster | None = None

    def __repr__(self) -> str:
        return f"Server({self.label})"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()

    @property
    def folder(self) -> Path:
        """Where its data directory (`data`) and its log (`server.log`) are, seen from outside the root."""
        return self.place.path

    @property
    def place(self) -> Place:
        """Its folder as it is called outside and inside of the root."""
        if self._folder is None:
            raise KitError(f"{self!r} was not started")
        return self._folder.place

    @property
    def log(self) -> str:
        """All that the server has logged."""
        return (self.folder / "server.log").read_text(errors="replace")

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._postmaster is not None and self._postmaster.running

    def start(self) -> Self:
        """Start it, the first time with a fresh data directory, afterwards with the same one and port.

        Raises:
            KitError: it does not start; the message ends with its log.
        """
        if self._postmaster is not None:
            self._postmaster.start(self.address)
            return self
        self._folder = Folder(self.root, memory=memory() if self.in_memory else None)
        try:
            self._furnish(self._folder.place)
            self._start_on_a_free_port(Postmaster(self.root, self._folder.place))
        except BaseException:
            self.remove()
            raise
        return self

    def _furnish(self, place: Place) -> None:
        """Put a data directory into the new folder."""
        if self.own_identity:
            place.path.rmdir()
            initialise(self.root, place)
        else:
            copy(template(self.root), place.path)
        self.address = Address(HOST, 0, SUPERUSER, (place.path / "password").read_text())

    def _start_on_a_free_port(self, postmaster: Postmaster) -> None:
        for attempt in range(1, START_ATTEMPTS + 1):
            self.address = replace(self.address, port=free_port())
            self.configure()
            try:
                postmaster.start(self.address)
            except KitError:
                # Another process can take the port between our look and the server's.
                if attempt == START_ATTEMPTS or "could not bind" not in postmaster.last_words():
                    raise
            else:
                self._postmaster = postmaster
                return

    def configure(self, **settings: str | int) -> None:
        """Write the settings, with some changed; they hold from the next start (or `reload`)."""
        self.settings.update(settings)
        data = self.folder / "data"
        files: dict[str, str | int] = {}
        for setting, path in self.tls.items():
            inside = data / f"{setting}.pem"
            shutil.copyfile(path, inside)
            inside.chmod(0o600)
            give(inside)
            files[setting] = inside.name
        tls: Settings = {"ssl": "on", **files} if files else {}
        hba = (
            f"host all {SUPERUSER} {HOST}/32 scram-sha-256",
            f"host replication {SUPERUSER} {HOST}/32 scram-sha-256",
            *self.hba,
            f"host all all {HOST}/32 scram-sha-256",
            f"host replication all {HOST}/32 scram-sha-256",
        )
        write_settings(data, {**self.settings, **tls, "port": self.address.port}, hba)

    def reload(self) -> None:
        """Let the running server read its settings again."""
        with self.connect() as connection:
            connection.execute("SELECT pg_reload_conf()")

    def stop(self) -> None:
        """Stop it properly (`pg_ctl -m fast`); its data stay for `start`."""
        if self._postmaster is not None:
            self._postmaster.end(signal.SIGINT)

    def crash(self) -> None:
        """End it as a crash would (`pg_ctl -m immediate`); the next `start` recovers it."""
        if self._postmaster is not None:
            self._postmaster.end(signal.SIGQUIT)

    def restart(self) -> None:
        """Stop it if it runs, and start it again on the same port with the same data."""
        self.stop()
        self.start()

    def wind_to(self, xid: int) -> None:
        """Restart it as one that has given out all transaction ids below `xid`, of which the next one is the first.

        To be done before there are slots, which do not survive it. With `autovacuum` off in its settings nothing wanders
        about in its databases afterwards.

        Raises:
            KitError: it cannot be done; the message ends with what the server's program said.
        """
        freeze(self.address)
        self.stop()
        set_next_transaction(self.root, self.place, xid)
        self.start()

    def remove(self) -> None:
        """Kill it and remove its folder; nothing of it remains."""
        if self._postmaster is not None:
            self._postmaster.end(signal.SIGKILL)
            self._postmaster = None
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def signal_backend(self, pid: int, number: signal.Signals) -> None:
        """Signal the server process that `pg_stat_activity` or `pg_replication_slots` calls `pid`."""
        self._started.keeper.process(pid).send_signal(number)

    @property
    def process(self) -> psutil.Process:
        """The running postmaster, seen from outside the root; its children are all that the server works with."""
        return self._started.keeper.command

    @property
    def _started(self) -> Postmaster:
        if self._postmaster is None:
            raise KitError(f"{self!r} was not started")
        return self._postmaster

    def standby(self, *, settings: Settings | None = None) -> Standby:
        """A hot standby of this server, not started yet; it replicates from a physical slot of its own."""
        return Standby(self, settings=settings)


class Standby(Server):
    """A hot standby made by `pg_basebackup`; its primary has to run while it starts."""

    def __init__(self, primary: Server, *, settings: Settings | None = None) -> None:
        super().__init__(primary.root, settings={**primary.settings, **(settings or {})}, hba=primary.hba)
        self.primary = primary

    def _furnish(self, place: Place) -> None:
        self._slot = f"standby_{place.path.name.rpartition('-')[2]}"
        run(
            self.root,
            "pg_basebackup",
            f"--pgdata={place.inside}/data",
            f"--dbname={self.primary.address.conninfo('postgres')}",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--write-recovery-conf",
            "--create-slot",
            f"--slot={self._slot}",
            "--no-sync",
            place=place,
        )
        self.address = self.primary.address

    def remove(self) -> None:
        """Remove the standby and its slot, so that the primary keeps no WAL for it."""
        super().remove()
        slot = getattr(self, "_slot", None)
        if slot is not None and self.primary.running:
            with self.primary.connect() as connection:
                connection.execute(
                    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                    " WHERE slot_name = %s AND NOT active",
                    [slot],
                )

    def promote(self) -> None:
        """Make it a primary of its own, on a new timeline."""
        with self.connect() as connection:
            connection.execute("SELECT pg_promote()")

    def caught_up(self, *, seconds: float = 30.0) -> None:
        """Wait until it has replayed all that its primary has written by now.

        Raises:
            KitError: it has not after so many seconds.
        """
        with self.primary.connect() as connection:
            (position,) = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone() or ("",)
        deadline = time.monotonic() + seconds
        with self.connect() as connection:
            query = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            while connection.execute(query, [position]).fetchone() != (True,):
                if time.monotonic() > deadline:
                    raise KitError(f"the standby did not replay {position} in {seconds:g} s")
                time.sleep(POLL_SECONDS)
