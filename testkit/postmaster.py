"""One run of a server program over a data directory: its settings, its start, its readiness, its ends."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from testkit.cluster import Address
from testkit.errors import KitError
from testkit.keeper import Keeper
from testkit.places import Place
from testkit.roots import Root

HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.02
LOG_LINES_SHOWN = 15

SETTINGS: Mapping[str, str | int] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "shared_preload_libraries": "timescaledb",
    "wal_level": "logical",
    "max_connections": 60,
    "max_wal_senders": 10,
    "max_replication_slots": 10,
    "max_worker_processes": 40,
    "max_wal_size": "2GB",
    "shared_buffers": "128MB",
    "jit": "off",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%a@%d ",
    "timescaledb.telemetry_level": "off",
    "timescaledb.max_background_workers": 16,
}
"""What every server of the kit starts with; an argument may say otherwise."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def write_settings(data: Path, settings: Mapping[str, str | int], hba: Iterable[str]) -> None:
    """Write settings where ALTER SYSTEM can still override them, and who may connect how."""

    def quoted(value: str | int) -> str:
        return "'" + str(value).replace("'", "''") + "'"

    lines = [f"{name} = {quoted(value)}\n" for name, value in settings.items()]
    (data / "postgresql.conf").write_text("".join(lines))
    (data / "pg_hba.conf").write_text("".join(f"{line}\n" for line in hba))


class Postmaster:
    """A data directory's server process, started and stopped any number of times."""

    def __init__(self, root: Root, place: Place) -> None:
        """Describe a server whose data directory is `data` in a place."""
        self.root = root
        self.place = place
        self.log = place.path / "server.log"
        self._keeper: Keeper | None = None

    @property
    def running(self) -> bool:
        """Whether the server process is there."""
        return self._keeper is not None and self._keeper.running

    @property
    def keeper(self) -> Keeper:
        """The running server process."""
        if self._keeper is None:
            raise KitError(f"the server {self.root.label} is not running")
        return self._keeper

    def start(self, address: Address) -> None:
        """Start and return when the server answers.

        Raises:
            KitError: it ended or was silent for a minute; the message ends with its log.
        """
        command = [f"{self.root.programs}/postgres", "-D", f"{self.place.inside}/data"]
        (self.place.path / "data/postmaster.pid").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._keeper = Keeper(self.root, command, log, place=self.place)
        deadline = time.monotonic() + START_SECONDS
        while self._keeper.running and time.monotonic() < deadline:
            if address.answers():
                return
            time.sleep(POLL_SECONDS)
        self._keeper.close()
        raise KitError(f"the server {self.root.label} did not start: {self.last_words()}")

    def last_words(self) -> str:
        """The end of the server's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])

    def end(self, number: signal.Signals) -> None:
        """End the server: SIGINT writes everything, SIGQUIT drops everything, SIGKILL does not even ask."""
        if self._keeper is None:
            return
        self._keeper.send(number)
        try:
            self._keeper.wait(STOP_SECONDS)
        except TimeoutError:
            raise KitError(f"the server {self.root.label} did not stop: {self.last_words()}") from None
        finally:
            self._keeper.close()
            self._keeper = None
