"""A circuit breaker round one server: where many attempts in a row found nobody, all wait, and one of them looks.

    CLOSED ──so many failures in a row──> OPEN ──after a while, the next to ask──> HALF_OPEN ──an answer──> CLOSED
                                            ^                                          │
                                            └──────────────────nobody──────────────────┘

Retries with jitter keep one reader from hammering at a server that is down or full; the breaker does so for all readers
together, whose retries know nothing of each other. It is asked by each attempt of each `Patience` of a sync, so it sees
connecting and reading alike.

Only an `UnavailableError` is a failure here. Whoever was refused for a wrong password, a lock, a cancelled statement or
a conflict on a replica has had an answer, and that is what the breaker asks about. So it can neither hide an error that
somebody has to mend nor hold up readers that are being answered: any answer sets the count back.

It decides nothing about the end: an attempt that it holds back fails with the words of the failure that opened it, costs
no try, and the budget of whoever waits goes on running.

pybreaker holds its lock for as long as what it guards takes, which would let one reader read at a time. So while the
circuit is closed attempts run outside of it, and it is told how they ended; only the one that looks runs inside.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, Final, TypeVar

import pybreaker

from source_timescaledb.errors import TransientError, UnavailableError

Result = TypeVar("Result")

FAILURES: Final = 5
OPEN_SECONDS: Final = 5.0


class CircuitState(Enum):
    """Whether attempts are let through; the values are pybreaker's names."""

    CLOSED = pybreaker.STATE_CLOSED
    OPEN = pybreaker.STATE_OPEN
    HALF_OPEN = pybreaker.STATE_HALF_OPEN


@dataclass(frozen=True, slots=True)
class CircuitChange:
    """A circuit that has changed its state."""

    server: str
    """Which server the circuit leads to, in a word: primary, replica."""
    before: CircuitState
    now: CircuitState


Listener = Callable[[CircuitChange], None]
"""Told of each change, by the thread that brought it about, which holds the circuit's lock: it must return at once."""


class CircuitOpenError(TransientError):
    """An attempt was not made, because the server has failed many times in a row; its words are the last one's."""

    longest_pause = 1.0


class Breaker:
    """The circuit that leads to one server, shared by all that is attempted there; safe for threads."""

    def __init__(
        self,
        server: str,
        *,
        failures: int = FAILURES,
        open_seconds: float = OPEN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Close a circuit.

        Args:
            server: which server it leads to, in a word.
            failures: how many in a row open it.
            open_seconds: how long nobody looks then.
            clock: a monotonic clock in seconds.
        """
        self.server = server
        self._listeners: list[Listener] = []
        self._last = UnavailableError("The server has not answered.")
        self._looking = threading.Lock()
        self._circuit = pybreaker.CircuitBreaker(
            fail_max=failures,
            reset_timeout=open_seconds,
            exclude=[lambda error: not isinstance(error, UnavailableError)],
            listeners=[_Tell(self)],
            state_storage=_Memory(clock),
            throw_new_error_on_trip=False,
        )

    def __repr__(self) -> str:
        return f"Breaker({self.server}, {self.state.value})"

    @property
    def state(self) -> CircuitState:
        """Whether attempts are let through at the moment."""
        return CircuitState(self._circuit.current_state)

    def subscribe(self, listener: Listener) -> None:
        """Tell somebody of each change from now on."""
        self._listeners.append(listener)

    def attempt(self, action: Callable[[], Result]) -> Result:
        """Do something with the server, unless it is left alone; what the action raises is raised.

        Raises:
            CircuitOpenError: the action was not even begun.
        """
        if self.state is CircuitState.CLOSED:
            return self._observed(action)
        if not self._looking.acquire(blocking=False):
            raise self._held_back()
        try:
            return self._look(action)
        finally:
            self._looking.release()

    def tell(self, change: CircuitChange) -> None:
        """Tell the listeners of a change."""
        for listener in self._listeners:
            listener(change)

    def _observed(self, action: Callable[[], Result]) -> Result:
        try:
            result = action()
        except Exception as error:
            self._report(error)
            raise
        self._report(None)
        return result

    def _report(self, error: Exception | None) -> None:
        """Tell the circuit how an attempt ended; one begun before it opened has nothing new to say."""

        def ending() -> None:
            if isinstance(error, UnavailableError):
                self._last = error
                raise error

        if self.state is CircuitState.CLOSED:
            with suppress(UnavailableError, pybreaker.CircuitBreakerError):
                self._circuit.call(ending)

    def _look(self, action: Callable[[], Result]) -> Result:
        try:
            return self._circuit.call(action)
        except pybreaker.CircuitBreakerError:
            raise self._held_back() from None
        except UnavailableError as error:
            self._last = error
            raise

    def _held_back(self) -> CircuitOpenError:
        last = self._last
        return CircuitOpenError(last.message, remedy=last.remedy, detail=last.detail)


class _Memory(pybreaker.CircuitMemoryStorage):
    """How long the circuit has been open, by a clock that nobody sets; pybreaker asks for the time of day."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(pybreaker.STATE_CLOSED)
        self._clock = clock
        self._opened: float | None = None

    @property
    def opened_at(self) -> datetime | None:
        """When it would have been opened, if the time of day had gone like our clock since."""
        if self._opened is None:
            return None
        return datetime.now(timezone.utc) - timedelta(seconds=self._clock() - self._opened)

    @opened_at.setter
    def opened_at(self, _: datetime) -> None:
        self._opened = self._clock()


class _Tell(pybreaker.CircuitBreakerListener):
    """Hands a change on to the listeners of a breaker."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def state_change(self, _circuit: Any, before: Any, now: Any) -> None:
        """Tell of one change."""
        states = (CircuitState(state.name) for state in (before, now))
        self._breaker.tell(CircuitChange(self._breaker.server, *states))
