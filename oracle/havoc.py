"""Deals the blows of a seed: to the network between the connector and its server, to its sessions, to the server.

Whatever a blow changes is set right again when its time is over, however it ends; nothing else is done for the connector.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import psutil
import psycopg
from psycopg import sql

from oracle.faults import Blow, Fault
from oracle.tables import HYPERTABLES
from oracle.writers import LOCK_SECONDS, Sleep, Tally
from testkit.database import Database
from testkit.errors import KitError
from testkit.proxy import Proxy
from testkit.server import Server

MOST_BYTES: Final = 400_000
"""Connections that are cut short end after so many bytes of the server at the latest."""
SLOW_BYTES: Final = 40_000
"""A slow network lets so many bytes through in a second."""
LONGEST_DELAY: Final = 0.15
RECOVERY_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.05
ATTEMPTS: Final = 3
"""A server that has just been hit may go away once more; a limit has to be lifted again for all that."""

_AT_ONCE: Final = frozenset({Fault.CUT, Fault.RESET})
"""Of what befalls the network, these are over in a moment."""
_SESSIONS: Final = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'source-timescaledb%' ORDER BY pid
"""


@dataclass(slots=True)
class Havoc:
    """The blows that syncs of one database get; `dealt` counts those that hit somebody."""

    server: Server
    proxy: Proxy
    database: Database
    dealt: Counter[Fault] = field(default_factory=Counter)

    @property
    def address(self) -> Mapping[str, str | int]:
        """Where the connector finds the server, in its configuration's words."""
        return {"host": self.proxy.host, "port": self.proxy.port}

    def wreak(self, blows: Iterator[Blow], stopped: Callable[[], bool], sleep: Sleep, _tally: Tally) -> None:
        """Deal blows until they end or `stopped` says so; then all is whole again. Raises KitError if it never is."""
        for blow in blows:
            sleep(blow.after)
            if stopped():
                break
            # our own session may go with the server that an earlier blow hit
            with suppress(psycopg.OperationalError):
                if self._deal(blow, sleep):
                    self.dealt[blow.fault] += 1
        self.proxy.heal()
        self._session().close()

    def _deal(self, blow: Blow, sleep: Sleep) -> bool:
        """Whether there was anybody to hit."""
        match blow.fault:
            case Fault.TERMINATED | Fault.CANCELLED | Fault.BACKEND_KILLED:
                return self._hit_session(blow)
            case Fault.CRASHED:
                self.server.crash()
                sleep(blow.lasts)
                self.server.start()
            case Fault.FULL:
                with self._full():
                    sleep(blow.lasts)
            case Fault.LOCKED:
                return self._lock(blow, sleep)
            case _:
                self._break_network(blow, sleep)
        return True

    def _break_network(self, blow: Blow, sleep: Sleep) -> None:
        self._network(blow)()
        try:
            sleep(0 if blow.fault in _AT_ONCE else blow.lasts)
            if blow.fault is Fault.SILENT:
                self.proxy.reset()
        finally:
            if blow.fault is not Fault.CUT_SHORT:  # it heals by itself, when it has come
                self.proxy.heal()

    def _network(self, blow: Blow) -> Callable[[], None]:
        proxy, most = self.proxy, 1 + int(MOST_BYTES * blow.share**3)
        acts: dict[Fault, Callable[[], None]] = {
            Fault.CUT: proxy.cut,
            Fault.RESET: proxy.reset,
            Fault.CUT_SHORT: lambda: proxy.cut_after(most, reset=blow.share < 0.5),
            Fault.REFUSED: proxy.refuse,
            Fault.SWALLOWED: proxy.blackhole,
            Fault.SILENT: proxy.blackhole,
            Fault.SLOW: lambda: proxy.throttle(SLOW_BYTES),
            Fault.DELAYED: lambda: proxy.delay(LONGEST_DELAY * blow.share),
        }
        return acts[blow.fault]

    def _hit_session(self, blow: Blow) -> bool:
        with closing(self._session()) as connection:
            victims = [pid for (pid,) in connection.execute(_SESSIONS)]
            if not victims:
                return False
            victim = victims[int(blow.share * len(victims))]
            match blow.fault:
                case Fault.TERMINATED:
                    connection.execute("SELECT pg_terminate_backend(%s)", [victim])
                case Fault.CANCELLED:
                    connection.execute("SELECT pg_cancel_backend(%s)", [victim])
                case _:
                    return self._kill(victim)
        return True

    def _kill(self, victim: int) -> bool:
        """Kill a server process, if it is still there; the postmaster then ends all others, recovers and goes on."""
        try:
            self.server.signal_backend(victim, signal.SIGKILL)
        except (KitError, psutil.NoSuchProcess):
            return False
        return True

    @contextmanager
    def _full(self) -> Iterator[None]:
        self._limit(0)
        try:
            yield
        finally:
            self._limit(-1)

    def _limit(self, connections: int) -> None:
        statement = sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(
            sql.Identifier(self.database.owner), sql.Literal(connections)
        )
        for _ in range(ATTEMPTS):
            with suppress(psycopg.OperationalError), closing(self._session()) as session:
                session.execute(statement)
                return

    def _lock(self, blow: Blow, sleep: Sleep) -> bool:
        table = HYPERTABLES[int(blow.share * len(HYPERTABLES))]
        with closing(self._session()) as connection:
            connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'".encode())
            try:
                with connection.transaction():
                    connection.execute(
                        sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table.name))
                    )
                    sleep(blow.lasts)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                return False
        return True

    def _session(self) -> psycopg.Connection:
        """A session of the superuser's, as soon as the server, which may be recovering, takes one. Raises KitError."""
        for _ in range(int(RECOVERY_SECONDS / POLL_SECONDS)):
            with suppress(psycopg.OperationalError):
                return self.server.connect(self.database.name)
            time.sleep(POLL_SECONDS)
        raise KitError(f"{self.server!r} did not recover in {RECOVERY_SECONDS:g} s")
