"""Notices chunks that are born while a sync runs, by looking for them, and sooner where somebody tells.

    look ──> wait for a notification, at most until the next look is due ──> look ──> ...
      └── any failure: let the connection go, pause (longer each time), open another one ──> look

TimescaleDB writes its catalog past the executor, so no trigger on it ever fires and nobody but the application can
notify (`NOTIFY source_timescaledb_chunks`). Hence a notification is only a hint: what it says is not read, two say no
more than one, and one that is lost is made up for by the next look.

A look asks for the highest chunk id of each hypertable. One id for the whole database would not do: ids come from one
sequence, so a transaction that is still open may hold a lower id in another hypertable. Within one hypertable ids appear
in order, because chunks are made under a lock on it that is held until the transaction ends (src/chunk.c@2.19.3,
`ts_chunk_create_for_hypercube`).

Nothing rests on the watcher. Whoever ends a read looks for himself once more; the watcher only lets him do so sooner. So
it may fail for as long as it likes, and its connection be killed at any time.
"""

from __future__ import annotations

import random
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, Final

import psycopg
from typing_extensions import Self

from source_timescaledb.errors import ConnectorError
from source_timescaledb.hypertables.model import ServerVersion
from source_timescaledb.hypertables.registry import read_newest_chunks

CHANNEL: Final = "source_timescaledb_chunks"
"""Where new chunks may be told of; part of what users rely on."""

CALM_SECONDS: Final = 0.2
"""Between a notification and the look: those that come with it are answered by the same one."""
FIRST_SECONDS: Final = 0.5
"""Before the first look: a sync that is over sooner is spared the connection."""
LAST_SECONDS: Final = 1.0
"""How long a sync that ends waits for a look that is under way."""
LONGEST_PAUSE_SECONDS: Final = 300.0
MOST_DOUBLINGS: Final = 20

Connection = psycopg.Connection[tuple[Any, ...]]


def pause_after(failures: int, seconds: float, uniform: Callable[[float, float], float]) -> float:
    """How long to leave the server alone after so many failures in a row, where else a look comes every `seconds`.

    A random time below a bound that doubles, and above half of it.
    """
    bound = min(seconds * 2 ** min(failures - 1, MOST_DOUBLINGS), max(seconds, LONGEST_PAUSE_SECONDS))
    return uniform(bound / 2, bound)


class Watcher:
    """One thread that keeps `newest` up to date; a context manager around the sync.

    Args:
        connect: opens a connection in autocommit mode; raises ConnectorError.
        extension: the version of TimescaleDB.
        seconds: between two looks.
        listening: whether to listen for notifications as well; a standby cannot.
        tell: takes a sentence for the log, whenever looking begins to fail and works again.
        survey: done after each look, with its connection.
        clock: monotonic, in seconds.
        pause: sleeps for so many seconds, or until the watcher is to end; None for what does that.
        uniform: draws between two bounds.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        extension: ServerVersion,
        *,
        seconds: float,
        listening: bool,
        tell: Callable[[str], None],
        survey: Callable[[Connection], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._connect = connect
        self._extension = extension
        self._seconds = seconds
        self._listening = listening
        self._tell = tell
        self._survey = survey
        self._clock = clock
        self._ended = threading.Event()
        self._waker, self._wakened = socket.socketpair()
        self._pause = pause or self._ended.wait
        self._uniform = uniform
        self._newest: Mapping[int, int] = {}
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._waker.close()
        self._thread.join(
            LAST_SECONDS
        )  # one that waits for a silent server holds up nobody, and dies with us

    def newest(self, hypertable: int) -> int:
        """The highest id that a chunk of a hypertable had at the last look; 0 before the first, or where it has none."""
        return self._newest.get(hypertable, 0)

    def _run(self) -> None:
        self._pause(FIRST_SECONDS)
        with self._wakened:
            while not self._ended.is_set():
                self._watch_until_it_fails()

    def _watch_until_it_fails(self) -> None:
        try:
            with closing(self._connect()) as connection:
                self._watch(connection)
        except Exception as error:  # noqa: BLE001 - nothing rests on the watcher, and whatever fails is tried again
            self._failures += 1
            if self._failures == 1 and not self._ended.is_set():
                self._tell(
                    f"Looking for new chunks failed and is tried again; the sync goes on. {_reason(error)}"
                )
            self._pause(pause_after(self._failures, self._seconds, self._uniform))

    def _watch(self, connection: Connection) -> None:
        if self._listening:
            connection.execute(f"LISTEN {CHANNEL}".encode())
        while not self._ended.is_set():
            self._newest = read_newest_chunks(connection, self._extension)
            if self._failures:
                self._failures = 0
                self._tell("Looking for new chunks works again.")
            self._survey(connection)
            if self._listening:
                self._listen(connection)
            else:
                self._pause(self._seconds)

    def _listen(self, connection: Connection) -> None:
        """Wait until somebody notifies, or the next look is due."""
        due = self._clock() + self._seconds
        with selectors.DefaultSelector() as either:
            either.register(connection.fileno(), selectors.EVENT_READ)
            either.register(self._wakened, selectors.EVENT_READ)
            while not self._ended.is_set() and (left := due - self._clock()) > 0:
                if list(connection.notifies(timeout=0)):
                    self._pause(CALM_SECONDS)
                    list(connection.notifies(timeout=0))
                    return
                either.select(left)


def _reason(error: Exception) -> str:
    """Why looking failed, without the words of the server, which may hold values."""
    match error:
        case ConnectorError():
            return error.message
        case psycopg.OperationalError():
            return "The connection was lost."
        case _:
            return f"The reason: {type(error).__qualname__}."


class Births:
    """Whether a chunk was born of hypertables of which the highest chunk ids are `known`.

    Once it says so it always does. It may be asked by several threads.
    """

    def __init__(self, watcher: Watcher | None, known: Mapping[int, int]) -> None:
        self._watcher = watcher
        self._known = known
        self._seen = False

    def __call__(self) -> bool:
        """Whether there was one."""
        watcher = self._watcher
        if watcher is not None and not self._seen:
            self._seen = any(watcher.newest(hypertable) > last for hypertable, last in self._known.items())
        return self._seen
