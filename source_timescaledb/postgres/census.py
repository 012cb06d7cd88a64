"""How many connections this process has open: asked by whoever watches a sync, so it costs an entry in a set.

Connections are closed in many places, by faults too. So none reports its end: each is asked whether it is closed, and
one that nobody holds any more is forgotten.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any, Final

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]

_LOCK: Final = threading.Lock()
_KNOWN: Final[weakref.WeakSet[Connection]] = weakref.WeakSet()


def counted(connection: Connection) -> Connection:
    """The same connection, from now on counted among those of this process."""
    with _LOCK:
        _KNOWN.add(connection)
    return connection


def open_connections() -> int:
    """How many of them are open."""
    with _LOCK:
        return sum(not connection.closed for connection in _KNOWN)
