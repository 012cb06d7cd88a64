"""The connections of the slice readers: opened when needed, never more than allowed, proven before each use.

A connection is opened by the thread that asked for it, so whatever is wrong, a password or a busy server, is that
thread's error at once and with its true name. (A pool with workers of its own, such as psycopg's, can only report
that nothing came in time.) The number of borrowers is bounded, and each holds at most one connection, so the number
of connections is bounded too. The one used last is lent first; those that were in use only at a peak idle until the
pool is closed, which readers of a sync never wait for long.

A connection whose server is gone without a word is hung up on (`postgres.silence`), so that no borrower waits for ever;
its borrower tries again as with any lost connection.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from types import TracebackType
from typing import Final

import psycopg
from psycopg.pq import TransactionStatus
from typing_extensions import Self

from source_timescaledb.errors import TransientError, UnavailableError
from source_timescaledb.postgres import silence
from source_timescaledb.postgres.connection import Connection, ConnectionSettings, Session, open_connection
from source_timescaledb.postgres.reachability import answers
from source_timescaledb.postgres.silence import Line, SilenceWatch
from source_timescaledb.sqlstates import LOST

PATIENCE_SECONDS: Final = 30.0
ROUND_TRIP_SECONDS: Final = 1.0
"""How long a server may take to answer nothing."""


class ReaderPool:
    """At most `size` connections for reading, borrowed one at a time by each reader."""

    def __init__(
        self,
        settings: ConnectionSettings,
        size: int,
        *,
        purpose: str = "reader",
        session: Session = Session.READING,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._settings = settings
        self._size = size
        self._purpose = purpose
        self._session = session
        self._patience_seconds = patience_seconds
        self._places = threading.BoundedSemaphore(size)
        self._idle: deque[Connection] = deque()
        self._silence = SilenceWatch(self._server_answers)
        self._closed = False

    def __repr__(self) -> str:
        return f"ReaderPool({self._purpose}, at most {self._size})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection that is not borrowed; borrowed ones are closed when they come back."""
        self._closed = True
        self._silence.close()
        while connection := self._take_idle():
            connection.close()

    def watched(
        self, connection: Connection, seconds: float | None = None
    ) -> AbstractContextManager[Line | None]:
        """Give a connection to this server up if the server is gone without a word while the block waits for it.

        With `seconds` the server ends by then what it does in the block, so longer silence is enough; without, it is
        asked on another connection whether it is there.
        """
        return self._silence.over(connection, seconds)

    @contextmanager
    def connection(self, *, watched: bool = True) -> Iterator[Connection]:
        """Lend a working connection in autocommit mode; a transaction left open is rolled back.

        It is `watched` all the while, unless its borrower keeps it between questions and watches each of them.

        Raises:
            ConnectorError: why there is none, of the kind that the reason deserves.
        """
        if not self._places.acquire(timeout=self._patience_seconds):
            raise TransientError(
                f"No connection of {self._size} for the {self._purpose} became free within "
                f"{self._patience_seconds:g} seconds.",
                remedy="Lower timescaledb.parallel_chunks, or look for what keeps the server busy.",
            )
        try:
            connection = self._working()
            try:
                with self.watched(connection) if watched else nullcontext():
                    yield connection
            finally:
                self._take_back(connection)
        finally:
            self._places.release()

    def _working(self) -> Connection:
        while connection := self._take_idle():
            if self._answers(connection):
                return connection
            connection.close()
        if self._closed:
            raise TransientError(f"The connections for the {self._purpose} were closed.")
        return open_connection(self._settings, self._purpose, self._session)

    def _server_answers(self) -> bool:
        return answers(replace(self._settings.doorway, seconds=silence.LONGEST_SILENCE_SECONDS))

    def _take_idle(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _take_back(self, connection: Connection) -> None:
        try:
            with self.watched(connection):
                connection.rollback()
        except psycopg.Error:
            connection.close()
        if connection.info.transaction_status is TransactionStatus.IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        if self._closed:
            self.close()

    def _answers(self, connection: Connection) -> bool:
        """Tell whether the server still answers on this connection, at the price of one round trip.

        Raises UnavailableError where it has fallen silent: another connection would have to wait as long again.
        """
        with self.watched(connection, ROUND_TRIP_SECONDS) as line:
            try:
                connection.execute("")
            except psycopg.Error:
                if line is None or not line.given_up:
                    return False
                connection.close()
                raise UnavailableError(
                    f"Connecting for the {self._purpose} failed: the server has fallen silent.",
                    remedy=LOST.remedy,
                ) from None
        return True
