from __future__ import annotations

import logging

import pytest

from source_timescaledb.airbyte.circuits import circuit
from source_timescaledb.counters import BreakerState, SyncCounters
from source_timescaledb.errors import UnavailableError
from source_timescaledb.postgres.breaker import FAILURES


def test_a_circuit_that_opens_is_told_of_once_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counters = SyncCounters()
    breaker = circuit("replica", logging.getLogger("test"), counters)

    def nobody() -> None:
        raise UnavailableError("Nobody there.")

    for _ in range(FAILURES):
        with pytest.raises(UnavailableError):
            breaker.attempt(nobody)

    assert counters.breakers["replica"] is BreakerState.OPEN
    assert caplog.messages == [
        "The replica is left alone for 5 seconds: nobody has answered there 5 times in a row."
    ]
