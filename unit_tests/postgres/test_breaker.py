from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from source_timescaledb.errors import (
    ConfigurationError,
    ConnectorError,
    ContentionError,
    TransientError,
    UnavailableError,
)
from source_timescaledb.postgres.breaker import Breaker, CircuitChange, CircuitOpenError, CircuitState
from source_timescaledb.postgres.retry import Budget, Patience

MOST = 3
OPEN_SECONDS = 5.0


@dataclass
class Scene:
    """A breaker, its clock, what it told, and how often the server was asked."""

    now: float = 0.0
    asked: int = 0
    told: list[CircuitChange] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.breaker = Breaker("primary", failures=MOST, open_seconds=OPEN_SECONDS, clock=lambda: self.now)
        self.breaker.subscribe(self.told.append)

    def ask(self, error: Exception | None = None) -> str:
        def action() -> str:
            self.asked += 1
            if error is not None:
                raise error
            return "answer"

        return self.breaker.attempt(action)

    def fail(self, times: int = 1) -> None:
        for number in range(times):
            with pytest.raises(UnavailableError):
                self.ask(UnavailableError(f"Nobody there, {number}.", remedy="Start it."))

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def states(self) -> list[CircuitState]:
        return [change.now for change in self.told]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_server_that_answers_is_asked_each_time(scene: Scene) -> None:
    assert [scene.ask() for _ in range(10)] == ["answer"] * 10
    assert scene.told == []


def test_failures_in_a_row_open_the_circuit_and_the_next_attempt_is_not_made(scene: Scene) -> None:
    scene.fail(MOST)

    with pytest.raises(CircuitOpenError) as caught:
        scene.ask()

    assert str(caught.value) == f"Nobody there, {MOST - 1}. Start it."
    assert scene.asked == MOST
    assert scene.told == [CircuitChange("primary", CircuitState.CLOSED, CircuitState.OPEN)]


@pytest.mark.parametrize(
    "answer", [None, ConfigurationError("No."), ContentionError("Wait."), ValueError("?")]
)
def test_any_answer_sets_the_count_back(scene: Scene, answer: Exception | None) -> None:
    scene.fail(MOST - 1)
    if answer is None:
        scene.ask()
    else:
        with pytest.raises(type(answer)):
            scene.ask(answer)
    scene.fail(MOST - 1)

    assert scene.breaker.state is CircuitState.CLOSED


def test_after_a_while_one_looks_and_an_answer_closes_the_circuit(scene: Scene) -> None:
    scene.fail(MOST)
    scene.now += OPEN_SECONDS

    assert scene.ask() == "answer"

    assert scene.breaker.state is CircuitState.CLOSED
    assert scene.states == [CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED]


def test_whoever_looks_and_finds_nobody_opens_the_circuit_for_as_long_again(scene: Scene) -> None:
    scene.fail(MOST)
    scene.now += OPEN_SECONDS
    scene.fail()
    scene.now += OPEN_SECONDS - 0.1

    with pytest.raises(CircuitOpenError):
        scene.ask()

    assert scene.asked == MOST + 1
    assert scene.states == [CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.OPEN]


def test_while_one_looks_nobody_else_does_and_nobody_waits_for_it(scene: Scene) -> None:
    scene.fail(MOST)
    scene.now += OPEN_SECONDS
    looking, answer = threading.Event(), threading.Event()

    def look() -> None:
        looking.set()
        assert answer.wait(10)

    probe = threading.Thread(target=lambda: scene.breaker.attempt(look))
    probe.start()
    assert looking.wait(10)
    with pytest.raises(CircuitOpenError):
        scene.ask()
    answer.set()
    probe.join(10)

    assert scene.asked == MOST
    assert scene.breaker.state is CircuitState.CLOSED


def test_readers_of_a_closed_circuit_read_at_the_same_time(scene: Scene) -> None:
    both = threading.Barrier(2, timeout=10)

    readers = [threading.Thread(target=lambda: scene.breaker.attempt(both.wait)) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(10)

    assert not both.broken


def test_what_was_begun_before_the_circuit_opened_neither_closes_it_nor_keeps_it_open(scene: Scene) -> None:
    def overtaken() -> None:
        scene.fail(MOST)

    scene.breaker.attempt(overtaken)

    assert scene.breaker.state is CircuitState.OPEN


def patience(scene: Scene, seconds: float, told: list[str]) -> Patience:
    return Patience(
        Budget(seconds, clock=lambda: scene.now),
        sleep=scene.sleep,
        uniform=lambda _, most: most,
        on_retry=lambda error, _pause: told.append(error.message),
        breaker=scene.breaker,
    )


def failing(scene: Scene, error: Callable[[], ConnectorError | None]) -> Callable[[], str]:
    def action() -> str:
        scene.asked += 1
        failure = error()
        if failure is not None:
            raise failure
        return "done"

    return action


def test_whoever_is_patient_waits_the_circuit_out_without_a_try_or_a_word(scene: Scene) -> None:
    told: list[str] = []
    down = UnavailableError("Nobody there.")

    done = patience(scene, 60, told).keep_trying(
        failing(scene, lambda: down if scene.now < OPEN_SECONDS else None), "Reading"
    )

    assert done == "done"
    assert scene.asked == MOST + 1
    assert told == ["Nobody there."] * MOST


def test_a_budget_spent_before_an_open_circuit_tells_why_it_is_open_and_counts_real_tries(
    scene: Scene,
) -> None:
    down = UnavailableError("Nobody there.", remedy="Start it.")

    with pytest.raises(TransientError) as caught:
        patience(scene, 4, []).keep_trying(failing(scene, lambda: down), "Reading public.metrics")

    assert str(caught.value) == (
        f"Reading public.metrics was tried {MOST} times within 4 seconds. The last time: Nobody there. Start it."
    )


class Model(RuleBasedStateMachine):
    """Whatever comes, an open circuit lets nobody through for its time, and then exactly one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene()
        self.failures = 0
        self.opened: float | None = None

    @rule(quarters=st.integers(0, 40))
    def wait(self, quarters: int) -> None:
        self.scene.now += quarters / 4

    @rule(answers=st.booleans())
    def ask(self, answers: bool) -> None:
        before, rested = self.scene.asked, self.opened is None or self.scene.now - self.opened >= OPEN_SECONDS
        try:
            self.scene.ask(None if answers else UnavailableError("Nobody there."))
        except CircuitOpenError:
            assert not rested
            assert self.scene.asked == before
            return
        except UnavailableError:
            self.failures += 1
            if self.opened is not None or self.failures >= MOST:
                self.opened = self.scene.now
        else:
            self.failures, self.opened = 0, None
        assert rested
        assert self.scene.asked == before + 1

    @invariant()
    def the_state_is_the_models(self) -> None:
        assert (self.scene.breaker.state is CircuitState.CLOSED) == (self.opened is None)


Model.TestCase.settings = settings(deadline=None, max_examples=200)
test_the_circuit_is_that_of_its_model = Model.TestCase
