"""Watch what a program does to a server: how long its transactions last and how many connections it holds.

A thread asks `pg_stat_activity` some fifty times a second. A transaction shorter than the time between two
looks can be missed, so the longest time between looks is reported too: it bounds the error of what was seen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import psycopg
from typing_extensions import Self

from testkit.cluster import Cluster

LOOK = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start))
                FILTER (WHERE backend_type = 'client backend'), 0)::float8,
       count(*)
FROM pg_stat_activity
WHERE starts_with(application_name, %s) AND pid <> pg_backend_pid()
"""
INTERVAL_SECONDS = 0.02


@dataclass(slots=True)
class Observation:
    """What was seen of the connections with one prefix of `application_name`."""

    longest_transaction_seconds: float = 0.0
    """The greatest age of a transaction; walsenders do not count, theirs are of another kind."""
    most_connections: int = 0
    looks: int = 0
    longest_gap_seconds: float = 0.0
    """The longest time between two looks."""


class Observer:
    """Watches while its `with` block runs; `observation` is the result, during the block too."""

    def __init__(
        self,
        cluster: Cluster,
        application_name: str,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe whom to watch: all connections whose application name starts with the given text."""
        self.observation = Observation()
        self._cluster = cluster
        self._prefix = application_name
        self._interval = interval_seconds
        self._clock = clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="observer", daemon=True)

    def __enter__(self) -> Self:
        self._connection = self._cluster.connect(application_name="testkit observer")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()

    def _watch(self) -> None:
        last = self._clock()
        while not self._ended.is_set():
            try:
                if self._connection.closed:
                    self._connection = self._cluster.connect(application_name="testkit observer")
                self._look()
            except psycopg.OperationalError:
                self._connection.close()  # the server is down, as some tests want it: look again later
            now = self._clock()
            self.observation.longest_gap_seconds = max(self.observation.longest_gap_seconds, now - last)
            last = now
            self._ended.wait(self._interval)

    def _look(self) -> None:
        found = self._connection.execute(LOOK, [self._prefix]).fetchone()
        assert found is not None, "an aggregate has a row"
        seen, (age, connections) = self.observation, found
        seen.longest_transaction_seconds = max(seen.longest_transaction_seconds, age)
        seen.most_connections = max(seen.most_connections, connections)
        seen.looks += 1
