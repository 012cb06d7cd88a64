"""Carries out what the authors have thought up, each on a connection of its own, until it is time to end.

Writers that meet may fail: a key is there already, two wait for each other, a row would leave its chunk, a chunk was
dropped under an INSERT. All that is a part of the workload; the transaction is rolled back and counted. A lost connection
is not, and ends the seed, except where the server itself is made to crash: then whoever works connects again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg

from oracle.workload import Ending, Step, Transaction
from testkit.database import Database

LOCK_SECONDS: Final = 3
RETURN_SECONDS: Final = 0.1
MOST: Final = 16
"""So many may work side by side."""


Sleep = Callable[[float], None]


@dataclass(slots=True)
class Tally:
    """What became of a writer's transactions."""

    committed: int = 0
    rolled_back: int = 0
    failed: int = 0

    def add(self, other: Tally) -> None:
        """Count another's too."""
        self.committed += other.committed
        self.rolled_back += other.rolled_back
        self.failed += other.failed


Work = Callable[[Callable[[], bool], Sleep, Tally], object]
"""Writes until it is told to stop, sleeps as it is told, so that it notices soon, and counts what became of it.

Called again it goes on with what is left.
"""


class Writers:
    """Writers at work; `end` lets them finish their transactions and returns what became of them all.

    `lasting` ones survive their server: they come back until they get in.
    """

    def __init__(self, *, lasting: bool = False) -> None:
        self._stop = threading.Event()
        self._executor = ThreadPoolExecutor(MOST)
        self._writing: list[Future[Tally]] = []
        self._lasting = lasting

    def join(self, work: Work) -> None:
        """Let somebody work, beside the others."""
        self._writing.append(self._executor.submit(self._work, work))

    def stop_after(self, seconds: float) -> None:
        """Let them finish their transactions after so long, whoever still reads."""
        timer = threading.Timer(seconds, self._stop.set)
        timer.daemon = True
        timer.start()

    def end(self) -> Tally:
        """Raises psycopg errors that ended a writer."""
        self._stop.set()
        tally = Tally()
        for writing in self._writing:
            tally.add(writing.result())
        self._executor.shutdown()
        return tally

    def _work(self, work: Work) -> Tally:
        tally = Tally()
        while not self._ends(work, tally):
            tally.failed += 1
            self._sleep(RETURN_SECONDS)
        return tally

    def _ends(self, work: Work, tally: Tally) -> bool:
        """Whether it came to its end, or there is no time left to come back. Raises psycopg errors."""
        try:
            work(self._stop.is_set, self._sleep, tally)
        except psycopg.Error:
            # whichever came first: of two who meet, one may fail and the other lose its connection
            if not self._lasting:
                raise
            return self._stop.is_set()
        return True

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)


@contextmanager
def at_work(*, lasting: bool = False) -> Iterator[Writers]:
    """Writers that have ended when the block has, however it ends; at first there is none."""
    working = Writers(lasting=lasting)
    try:
        yield working
    finally:
        working.end()


def write(
    database: Database,
    transactions: Iterable[Transaction],
    stopped: Callable[[], bool],
    sleep: Sleep,
    tally: Tally,
) -> None:
    """Carry out transactions one after the other until they end or `stopped` says so.

    Raises psycopg errors of a connection that was lost.
    """
    with closing(database.connect("owner", options=f"-c lock_timeout={LOCK_SECONDS}s")) as connection:
        for transaction in transactions:
            sleep(transaction.after)
            if stopped():
                break
            perform(connection, transaction, sleep, tally)


def perform(connection: psycopg.Connection, transaction: Transaction, sleep: Sleep, tally: Tally) -> None:
    """Carry out one transaction and count it."""
    try:
        for step in transaction.steps:
            take_step(connection, step)
            if step.pause:
                sleep(step.pause)
        if transaction.ending is Ending.COMMIT:
            connection.commit()
            tally.committed += 1
        else:
            connection.rollback()
            tally.rolled_back += 1
    except psycopg.Error:
        if connection.broken:
            raise
        connection.rollback()
        tally.failed += 1


def take_step(connection: psycopg.Connection, step: Step) -> None:
    """Run a step's statement. Raises psycopg errors as they come."""
    connection.execute(step.statement.as_string(connection).encode(), step.parameters)
