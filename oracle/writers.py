"""Carries out what the authors have thought up, each on a connection of its own, until it is time to end.

Writers that meet may fail: a key is there already, two wait for each other, a row would leave its chunk, a chunk was
dropped under an INSERT. All that is a part of the workload; the transaction is rolled back and counted. A lost connection
is not, and ends the seed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg

from oracle.workload import Author, Ending, Policy, Transaction, disturbances
from testkit.database import Database

LOCK_SECONDS: Final = 3


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


class Writers:
    """Writers at work; `end` lets them finish their transactions and returns what became of them all."""

    def __init__(self, database: Database, seed: int, policy: Policy, writers: int) -> None:
        self._stop = threading.Event()
        self._executor = ThreadPoolExecutor(writers + 1)
        transactions: list[Iterable[Transaction]] = [_endless(Author(seed, one)) for one in range(writers)]
        transactions.append(disturbances(seed, policy))
        self._writing: list[Future[Tally]] = [
            self._executor.submit(write, database, each, self._stop.is_set, self._sleep)
            for each in transactions
        ]

    def end(self) -> Tally:
        """Raises psycopg errors that ended a writer."""
        self._stop.set()
        tally = Tally()
        for writing in self._writing:
            tally.add(writing.result())
        self._executor.shutdown()
        return tally

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)


@contextmanager
def at_work(database: Database, seed: int, policy: Policy, writers: int) -> Iterator[Writers]:
    """Writers that have ended when the block has, however it ends."""
    working = Writers(database, seed, policy, writers)
    try:
        yield working
    finally:
        working.end()


def write(
    database: Database,
    transactions: Iterable[Transaction],
    stopped: Callable[[], bool],
    sleep: Callable[[float], None] = time.sleep,
) -> Tally:
    """Carry out transactions one after the other until they end or `stopped` says so.

    Raises psycopg errors of a connection that was lost.
    """
    tally = Tally()
    with closing(database.connect("owner", options=f"-c lock_timeout={LOCK_SECONDS}s")) as connection:
        for transaction in transactions:
            sleep(transaction.after)
            if stopped():
                break
            perform(connection, transaction, sleep, tally)
    return tally


def perform(
    connection: psycopg.Connection, transaction: Transaction, sleep: Callable[[float], None], tally: Tally
) -> None:
    """Carry out one transaction and count it."""
    try:
        for step in transaction.steps:
            connection.execute(step.statement.as_string(connection).encode(), step.parameters)
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


def _endless(author: Author) -> Iterator[Transaction]:
    while True:
        yield author.transaction()
