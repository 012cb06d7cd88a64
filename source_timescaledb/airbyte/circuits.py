"""What a sync says of its circuits: one line for each change, however long a server is gone, and a gauge."""

from __future__ import annotations

import logging

from source_timescaledb.counters import BreakerState, SyncCounters
from source_timescaledb.postgres.breaker import (
    FAILURES,
    OPEN_SECONDS,
    Breaker,
    CircuitChange,
    CircuitState,
)


def circuit(server: str, logger: logging.Logger, counters: SyncCounters) -> Breaker:
    """A closed circuit to a server (primary, replica) whose changes are logged and counted."""
    breaker = Breaker(server)
    counters.breakers[server] = BreakerState.CLOSED

    def count(change: CircuitChange) -> None:
        counters.breakers[server] = BreakerState[change.now.name]

    def log(change: CircuitChange) -> None:
        match change.now:
            case CircuitState.OPEN:
                logger.warning(
                    "The %s is left alone for %g seconds: nobody has answered there %s.",
                    change.server,
                    OPEN_SECONDS,
                    "this time either"
                    if change.before is CircuitState.HALF_OPEN
                    else f"{FAILURES} times in a row",
                )
            case CircuitState.HALF_OPEN:
                logger.info("One looks whether the %s answers.", change.server)
            case CircuitState.CLOSED:
                logger.info("The %s answers again: all go on.", change.server)

    breaker.subscribe(count)
    breaker.subscribe(log)
    return breaker
