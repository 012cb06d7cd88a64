from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import errors

from source_timescaledb.errors import ConfigurationError, TransientError
from source_timescaledb.postgres.retry import Budget, Patience


@dataclass
class Time:
    """A clock that only sleeping moves."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def patience(
    time: Time, seconds: float, uniform: Callable[[float, float], float] = lambda _, most: most
) -> Patience:
    return Patience(Budget(seconds, clock=time.clock), sleep=time.sleep, uniform=uniform)


@dataclass
class Flaky:
    """Fails so many times before it succeeds."""

    failures: int
    error: Exception = field(default_factory=lambda: TransientError("It failed."))
    calls: int = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


def test_what_succeeds_is_done_once_and_without_a_pause() -> None:
    time, action = Time(), Flaky(failures=0)

    assert patience(time, 60).keep_trying(action, "Reading") == "done"
    assert (action.calls, time.pauses) == (1, [])


def test_a_transient_failure_is_tried_again_after_pauses_that_double() -> None:
    time, action = Time(), Flaky(failures=4)

    assert patience(time, 60).keep_trying(action, "Reading") == "done"
    assert time.pauses == [0.25, 0.5, 1.0, 2.0]


def test_a_driver_error_is_judged_before_it_is_tried_again() -> None:
    time = Time()

    assert patience(time, 60).keep_trying(Flaky(1, errors.AdminShutdown()), "Reading") == "done"
    with pytest.raises(ConfigurationError, match="Reading failed: undefined table"):
        patience(time, 60).keep_trying(Flaky(1, errors.UndefinedTable()), "Reading")


def test_a_failure_that_is_not_transient_is_raised_at_once() -> None:
    time, action = Time(), Flaky(1, ConfigurationError("Wrong."))

    with pytest.raises(ConfigurationError, match="Wrong"):
        patience(time, 60).keep_trying(action, "Reading")

    assert (action.calls, time.pauses) == (1, [])


def test_a_spent_budget_ends_in_one_error_that_says_what_was_tried_for_how_long() -> None:
    time = Time()

    with pytest.raises(TransientError) as caught:
        patience(time, 5).keep_trying(
            Flaky(99, TransientError("The server was down.", remedy="Wait.")), "Reading public.metrics"
        )

    assert time.now == 5
    assert str(caught.value) == (
        "Reading public.metrics was tried 6 times within 5 seconds. The last time: The server was down. Wait."
    )


def test_without_a_budget_the_first_failure_is_told_as_it_is() -> None:
    with pytest.raises(TransientError) as caught:
        patience(Time(), 0).keep_trying(Flaky(1), "Reading")

    assert str(caught.value) == "It failed."


def test_progress_starts_the_budget_again() -> None:
    time = Time()
    patient = patience(time, 3)
    action = Flaky(failures=20)

    def read() -> str:
        if action.calls % 4 == 0:
            patient.budget.restart()
        return action()

    assert patient.keep_trying(read, "Reading") == "done"
    assert time.now > 3 * patient.budget.seconds


def test_each_retry_is_told_with_its_error_and_its_pause() -> None:
    time = Time()
    told: list[tuple[str, float]] = []
    patient = Patience(
        Budget(60, clock=time.clock),
        sleep=time.sleep,
        uniform=lambda _, most: most,
        on_retry=lambda error, pause: told.append((error.message, pause)),
    )

    patient.keep_trying(Flaky(2), "Reading")

    assert told == [("It failed.", 0.25), ("It failed.", 0.5)]


@settings(deadline=None)
@given(st.floats(0, 500), st.randoms(use_true_random=False))
def test_no_pause_is_longer_than_the_longest_or_than_the_budget_allows(
    seconds: float, random: Random
) -> None:
    time = Time()
    patient = patience(time, seconds, uniform=random.uniform)

    with pytest.raises(TransientError):
        patient.keep_trying(Flaky(10_000), "Reading")

    assert time.now == pytest.approx(seconds)
    assert all(0 <= pause <= TransientError.longest_pause for pause in time.pauses)
