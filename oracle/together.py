"""Carries out meetings: two connections that wait for each other where a meeting says so.

What keeps a meeting from taking place (a chunk was dropped under an INSERT, a lock is not to be had) is a part of the
workload: both transactions are rolled back and counted. A lost connection is not, and ends the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Final

import psycopg
from psycopg import sql
from typing_extensions import Self

from oracle.meetings import Duel, Settling
from oracle.tables import PUBLICATION
from oracle.writers import LOCK_SECONDS, Sleep, Tally, take_step
from testkit.database import Database

POLL_SECONDS: Final = 0.005
WAITING_SECONDS: Final = 0.5
"""How long one waits for the other, or for the connector to publish a chunk: nothing tells that it will."""

_BLOCKED: Final = "SELECT %s = ANY(pg_blocking_pids(%s))"
_PUBLISHED: Final = """
SELECT EXISTS (SELECT FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
WHERE p.pubname = %s AND r.prrelid = %s)
"""
_CHUNK: Final = sql.SQL("SELECT tableoid FROM {} WHERE time = %s LIMIT 1")


class Pair:
    """Two connections of the tables' owner; a context manager. `sleep` returns early when it is time to end."""

    def __init__(self, database: Database, stopped: Callable[[], bool], sleep: Sleep, tally: Tally) -> None:
        self._database = database
        self._stopped = stopped
        self._sleep = sleep
        self._stack = ExitStack()
        self.tally = tally

    def __enter__(self) -> Self:
        options = f"-c lock_timeout={LOCK_SECONDS}s"
        self._one, self._other = (
            self._stack.enter_context(closing(self._database.connect("owner", options=options)))
            for _ in range(2)
        )
        self._thread = self._stack.enter_context(ThreadPoolExecutor(1))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def meet(self, meeting: Duel | Settling) -> None:
        """Carry one out. Raises psycopg errors of a connection that was lost."""
        self._sleep(meeting.after)
        if self._stopped():
            return
        try:
            if isinstance(meeting, Duel):
                self._duel(meeting)
            else:
                self._settle(meeting)
            self.tally.committed += 2
        except psycopg.Error:
            for connection in (self._one, self._other):
                if connection.broken:
                    raise
                connection.rollback()
            self.tally.failed += 2

    def _duel(self, duel: Duel) -> None:
        take_step(self._one, duel.first)
        second = self._thread.submit(take_step, self._other, duel.second)
        try:
            self._wait(lambda: second.done() or self._is_blocked())
            take_step(self._one, duel.last)
            self._one.commit()
        except psycopg.Error:
            self._one.rollback()  # for which the other one waits
            second.exception()
            raise
        second.result()
        self._other.commit()

    def _is_blocked(self) -> bool:
        pids = [self._one.info.backend_pid, self._other.info.backend_pid]
        return self._one.execute(_BLOCKED, pids).fetchone() == (True,)

    def _settle(self, settling: Settling) -> None:
        take_step(self._one, settling.birth)
        self._one.commit()
        take_step(self._other, settling.first)
        chunk = self._chunk(settling)
        self._wait(lambda: self._is_published(chunk))
        self._sleep(settling.stays)
        take_step(self._other, settling.last)
        self._other.commit()

    def _chunk(self, settling: Settling) -> int:
        query = _CHUNK.format(sql.Identifier(settling.table.name))
        row = self._other.execute(query, settling.birth.parameters[:1]).fetchone()
        return int(row[0]) if row is not None else 0

    def _is_published(self, chunk: int) -> bool:
        return self._other.execute(_PUBLISHED, [PUBLICATION, chunk]).fetchone() == (True,)

    def _wait(self, condition: Callable[[], bool]) -> None:
        for _ in range(int(WAITING_SECONDS / POLL_SECONDS)):
            if condition() or self._stopped():
                return
            self._sleep(POLL_SECONDS)


def meet(
    database: Database,
    meetings: Iterable[Duel | Settling],
    stopped: Callable[[], bool],
    sleep: Sleep,
    tally: Tally,
) -> None:
    """Carry out meetings one after the other until they end or `stopped` says so.

    Raises psycopg errors of a connection that was lost.
    """
    with Pair(database, stopped, sleep, tally) as pair:
        for meeting in meetings:
            if stopped():
                break
            pair.meet(meeting)
