"""The metrics of a sync, their names and their documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from source_timescaledb.counters import BreakerState, SyncCounters
from source_timescaledb.health.instruments import INSTRUMENTS, Instrument, Kind, documentation

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
NAMES = [one.name for one in INSTRUMENTS]
UNITS = {"By", "s", "{row}", "{chunk}", "{slice}", "{retry}", "{connection}", "{state}"}


def instrument(name: str) -> Instrument:
    (found,) = (one for one in INSTRUMENTS if one.name == f"source_timescaledb.{name}")
    return found


def test_every_metric_has_a_name_of_its_own_in_both_vocabularies() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert len({one.prometheus for one in INSTRUMENTS}) == len(NAMES)


@pytest.mark.parametrize("one", INSTRUMENTS, ids=NAMES)
def test_names_and_units_are_of_the_form_that_both_take(one: Instrument) -> None:
    assert re.fullmatch(r"source_timescaledb(\.[a-z]+)+", one.name)
    assert re.fullmatch(r"source_timescaledb(_[a-z]+)+", one.prometheus)
    assert one.unit in UNITS


def test_the_page_of_metrics_has_the_table_that_follows_from_the_code() -> None:
    assert documentation() in PAGE.read_text()


@pytest.mark.parametrize("one", INSTRUMENTS, ids=NAMES)
def test_a_sync_that_has_just_begun_has_a_value_for_everything(one: Instrument) -> None:
    counters = SyncCounters()
    counters.stream("public.metrics")

    (value,) = one.read(counters)
    assert value[0] >= 0
    assert set(value[1]) == ({one.label} if one.label else set())


def test_each_stream_has_its_own_value() -> None:
    counters = SyncCounters()
    counters.stream("public.metrics").rows = 3
    counters.stream("public.events").rows = 4

    assert list(instrument("rows").read(counters)) == [
        (3, {"stream": "public.metrics"}),
        (4, {"stream": "public.events"}),
    ]


@pytest.mark.parametrize(("state", "value"), [("CLOSED", 0), ("HALF_OPEN", 1), ("OPEN", 2)])
def test_the_breaker_is_a_number_for_each_server(state: str, value: int) -> None:
    counters = SyncCounters()
    counters.breakers["replica"] = BreakerState[state]

    assert list(instrument("breaker.state").read(counters)) == [
        (0, {"server": "primary"}),
        (value, {"server": "replica"}),
    ]


def test_durations_go_on_until_a_stream_has_ended() -> None:
    now = [0.0]
    counters = SyncCounters(clock=lambda: now[0])
    counters.stream("a").began = counters.stream("b").began = 1.0
    counters.stream("b").ended = 3.0
    now[0] = 10.0

    assert [value for value, _ in instrument("stream.duration").read(counters)] == [9.0, 2.0]
    assert [value for value, _ in instrument("sync.duration").read(counters)] == [10.0]


def test_what_only_grows_is_a_counter() -> None:
    counters = {
        one.name.removeprefix("source_timescaledb.") for one in INSTRUMENTS if one.kind is Kind.COUNTER
    }

    assert {"rows", "emitted", "retries", "changes.filtered", "changes.marked", "slices.done"} <= counters
    assert not counters & {
        "queue.size",
        "lag.size",
        "lag.age",
        "wal.retained",
        "connections",
        "breaker.state",
    }
