"""The connections of the slice readers: opened when needed, never more than allowed, proven before each use.

psycopg's pool opens connections in threads of its own and keeps trying behind the scenes, so that a wrong
password and a busy server look the same to whoever waits. When a wait ends without a connection although
there is room for one more, one is therefore tried in the waiting thread, for the sake of its error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout
from typing_extensions import Self

from source_timescaledb.errors import TransientError
from source_timescaledb.postgres.connection import Connection, ConnectionSettings, open_connection

PATIENCE_SECONDS: Final = 10.0


class ReaderPool:
    """At most `size` connections for reading, borrowed one at a time by each reader."""

    def __init__(
        self,
        settings: ConnectionSettings,
        size: int,
        *,
        purpose: str = "reader",
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._settings = settings
        self._purpose = purpose
        self._lent: set[Connection] = set()
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            connection_class=_opener(settings, purpose),
            min_size=0,
            max_size=size,
            timeout=patience_seconds,
            reconnect_timeout=patience_seconds,
            check=ConnectionPool.check_connection,
            name=purpose,
            open=False,
        )

    def __repr__(self) -> str:
        return f"ReaderPool({self._purpose}, at most {self._pool.max_size})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection that is not borrowed; borrowed ones are closed when they come back."""
        self._pool.close()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a working connection in autocommit mode; a transaction left open is rolled back.

        Raises:
            ConnectorError: why there is none, of the kind that the reason deserves.
        """
        connection = self._borrow()
        self._lent.add(connection)
        try:
            yield connection
        finally:
            self._lent.remove(connection)
            self._pool.putconn(connection)

    def _borrow(self) -> Connection:
        self._pool.open()
        try:
            return self._pool.getconn()
        except PoolTimeout:
            self._explain()
            raise TransientError(
                f"No connection of {self._pool.max_size} for the {self._purpose} became free within "
                f"{self._pool.timeout:g} seconds.",
                remedy="Lower timescaledb.parallel_chunks, or look for what keeps the server busy.",
            ) from None

    def _explain(self) -> None:
        """Raise why no connection can be opened; return where one can, or where all are merely lent."""
        if len(self._lent) < self._pool.max_size:
            open_connection(self._settings, self._purpose).close()


def _opener(settings: ConnectionSettings, purpose: str) -> type[Connection]:
    """Return the class through whose `connect` psycopg's pool opens its connections."""

    class Opener(psycopg.Connection[tuple[Any, ...]]):
        @classmethod
        def connect(cls, *_: Any, **__: Any) -> Connection:  # type: ignore[override]  # as the pool calls it
            return open_connection(settings, purpose)

    return Opener
