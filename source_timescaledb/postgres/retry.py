"""How long to keep trying.

A transient error is tried again after a random pause between nothing and a bound that doubles ("full
jitter"): many connectors that lost one server must not come back to it in step. What is not transient is
raised at once, since trying again could only repeat it.

The budget is a time without progress, not a number of attempts: whoever reads a terabyte over a bad network
may stumble every minute for hours, as long as each minute brought rows. So whoever makes progress says so,
and the budget starts again. When it is spent one error tells what was tried and for how long; its kind stays
transient, and the platform decides about the next sync.

Where a circuit breaker stands before the server (`postgres.breaker`), each attempt asks it. One that it holds back was
none: it is neither counted nor told, and only waited out.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import psycopg
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from source_timescaledb.errors import TransientError
from source_timescaledb.postgres.breaker import Breaker, CircuitOpenError
from source_timescaledb.sqlstates import connector_error

Result = TypeVar("Result")

FIRST_PAUSE_SECONDS: Final = 0.25
MOST_DOUBLINGS: Final = 10


class Budget:
    """A time to spend without progress."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Begin again, because progress was made."""
        self._since = self._clock()
        self.failures = 0

    @property
    def spent(self) -> float:
        """Seconds since the last progress."""
        return self._clock() - self._since

    @property
    def left(self) -> float:
        """Seconds that may still be spent, never negative."""
        return max(0.0, self.seconds - self.spent)


class Patience:
    """Tries things until they succeed, or a budget that they share is spent."""

    def __init__(
        self,
        budget: Budget,
        *,
        sleep: Callable[[float], None] = time.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
        on_retry: Callable[[TransientError, float], None] | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        """Take a budget, and how to sleep, to draw between two bounds and to tell of a pause, in seconds."""
        self.budget = budget
        self._sleep = sleep
        self._uniform = uniform
        self._on_retry = on_retry
        self._breaker = breaker

    def keep_trying(self, action: Callable[[], Result], doing: str) -> Result:
        """Return what `action` returns as soon as it does not fail transiently.

        Args:
            action: raises ConnectorError or psycopg.Error when it fails.
            doing: what it does, as the subject of a sentence.

        Raises:
            ConnectorError: of another kind than transient, at the first time; or one TransientError when the
                budget is spent.
        """

        def attempt() -> Result:
            try:
                return action()
            except psycopg.Error as error:
                self.budget.failures += 1
                raise connector_error(error, doing) from None
            except TransientError:
                self.budget.failures += 1
                raise

        attempts = Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=self._pause,
            stop=self._is_over,
            sleep=self._sleep,
            before_sleep=self._tell,
            reraise=True,
        )
        guarded = attempt if self._breaker is None else partial(self._breaker.attempt, attempt)
        try:
            return attempts(guarded)
        except TransientError as last:
            if self.budget.failures <= 1:
                raise
            raise _exhausted(last, self.budget, doing) from None

    def _pause(self, state: RetryCallState) -> float:
        doublings = max(0, min(self.budget.failures - 1, MOST_DOUBLINGS))
        bound = min(_error(state).longest_pause, FIRST_PAUSE_SECONDS * 2**doublings)
        return min(self._uniform(0.0, bound), self.budget.left)

    def _is_over(self, _: RetryCallState) -> bool:
        return self.budget.left <= 0

    def _tell(self, state: RetryCallState) -> None:
        error = _error(state)
        if self._on_retry and state.next_action and not isinstance(error, CircuitOpenError):
            self._on_retry(error, state.next_action.sleep)


def _exhausted(last: TransientError, budget: Budget, doing: str) -> TransientError:
    return TransientError(
        f"{doing} was tried {budget.failures} times within {budget.spent:.0f} seconds. The last time: "
        f"{last.message}",
        remedy=last.remedy,
        detail=last.detail,
        statements=last.statements,
    )


def _error(state: RetryCallState) -> TransientError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, TransientError)
    return error
