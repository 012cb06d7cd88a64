"""The ESTIMATEs of one stream: one at its start, then every few seconds while it is read, and the truth at its end.

The platform draws its progress from them. They cost a few additions for each chunk that is left, no question to the
server.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

from airbyte_cdk.models import AirbyteMessage

from source_timescaledb.airbyte.messages import estimate
from source_timescaledb.airbyte.session import Session
from source_timescaledb.counters import StreamCounters
from source_timescaledb.errors import ConfigurationError
from source_timescaledb.hypertables.model import Chunk, QualifiedName, Relation
from source_timescaledb.hypertables.statistics import Statistics, read_statistics
from source_timescaledb.snapshot.forecast import Expected, Forecast
from source_timescaledb.snapshot.plan import Plan
from source_timescaledb.snapshot.slices import Slice

ESTIMATE_SECONDS: Final = 5.0


class Estimates:
    """Estimates of one stream, told when they are due."""

    def __init__(
        self,
        name: QualifiedName,
        plan: Plan | None,
        statistics: Statistics,
        counters: StreamCounters,
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._forecast = Forecast(plan, statistics)
        self._counters = counters
        self._clock = clock
        self._told = Expected(0, 0)
        self._told_at = float("-inf")
        counters.chunks_left = plan.chunks_left if plan is not None else 0

    def confirm(self, slice_: Slice) -> Iterator[AirbyteMessage]:
        """A slice of the stream's plan was told; an ESTIMATE if it is time for one."""
        self._forecast.confirm(slice_)
        return self.due()

    def due(self) -> Iterator[AirbyteMessage]:
        """An ESTIMATE if it is time for one."""
        if self._clock() - self._told_at >= ESTIMATE_SECONDS:
            yield from self.now()

    def now(self) -> Iterator[AirbyteMessage]:
        """An ESTIMATE of where things stand, if it says anything new."""
        counters = self._counters
        expected = self._forecast.expected(
            rows=counters.rows, size=counters.size, read=counters.rows - counters.changes
        )
        counters.expected = expected.rows
        self._told_at = self._clock()
        if expected.rows and expected != self._told:
            self._told = expected
            yield estimate(self._name, expected.rows, expected.size)


def ask_statistics(session: Session, relation: Relation, chunks: Collection[Chunk]) -> Statistics:
    """What the server expects of a relation, and nothing where it does not let us see: no sync fails for an estimate.

    Raises TransientError when the server cannot be asked.
    """
    try:
        return session.ask(
            lambda connection: read_statistics(connection, relation, chunks),
            f"Looking at the statistics of {relation.name}",
        )
    except ConfigurationError:
        return Statistics()
