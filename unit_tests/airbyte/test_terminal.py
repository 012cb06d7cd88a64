"""What a terminal shows of a sync, and when it shows anything."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

import pytest

from source_timescaledb.airbyte.terminal import (
    MOST_STREAMS,
    Line,
    Picture,
    Speedometer,
    in_bytes,
    in_words,
    shows,
)
from source_timescaledb.counters import SyncCounters


@dataclass
class Scene:
    """A sync at a time that the test sets."""

    now: float = 0.0
    counters: SyncCounters = field(init=False)

    def __post_init__(self) -> None:
        self.counters = SyncCounters(clock=lambda: self.now)
        self.picture = Picture(self.counters)


def test_a_stream_is_shown_with_chunks_done_and_in_all_rows_speed_and_the_time_left() -> None:
    scene = Scene()
    stream = scene.counters.stream("public.metrics")
    stream.began, stream.chunks, stream.chunks_left, stream.expected = 0.0, 3, 7, 10_000
    scene.picture.lines()
    scene.now, stream.rows = 2.0, 1000

    assert scene.picture.lines() == [Line("public.metrics", "3 / 10", "1,000", "500", "18 s")]


def test_where_nothing_is_known_of_the_end_no_time_left_is_told() -> None:
    scene = Scene()
    stream = scene.counters.stream("public.metrics")
    stream.began = 0.0
    scene.picture.lines()
    scene.now, stream.rows = 2.0, 1000

    assert [line.left for line in scene.picture.lines()] == [""]


def test_a_stream_that_has_ended_comes_after_those_at_work_with_its_speed_as_a_whole() -> None:
    scene = Scene()
    first, second = scene.counters.stream("a"), scene.counters.stream("b")
    first.began, first.ended, first.rows, first.chunks = 0.0, 4.0, 2000, 1
    second.began = 4.0
    scene.now = 100.0

    assert scene.picture.lines() == [
        Line("b", "0 / 0", "0", "0", ""),
        Line("a", "1 / 1", "2,000", "500", "ended"),
    ]


def test_more_streams_than_fit_are_counted() -> None:
    scene = Scene()
    for number in range(MOST_STREAMS + 5):
        scene.counters.stream(f"s{number}").began = 0.0

    lines = scene.picture.lines()
    assert len(lines) == MOST_STREAMS
    assert lines[-1].stream == "and 6 more"


def test_the_caption_tells_of_the_lag_and_of_retries_where_there_are_any() -> None:
    scene = Scene()
    scene.counters.stream("a").rows = 1234
    scene.now = 65.0

    assert scene.picture.caption == "1,234 rows · 1 min 05 s"
    scene.counters.lag_size, scene.counters.lag_seconds, scene.counters.retries = 5_000_000, 12.0, 2
    assert scene.picture.caption == "1,234 rows · 1 min 05 s · behind the log by 5 MB, 12 s · 2 retries"


def test_names_cannot_draw() -> None:
    scene = Scene()
    scene.counters.stream("public.a\x1b[2J\nb ä [red]").began = 0.0

    assert [line.stream for line in scene.picture.lines()] == ["public.a\ufffd[2J\ufffdb ä [red]"]


def test_speed_is_that_of_the_last_seconds() -> None:
    meter = Speedometer()
    slow = [meter.speed(float(second), 10 * second) for second in range(21)]
    fast = [meter.speed(20.0 + second, 200 + 1000 * second) for second in range(1, 21)]

    assert slow[0] == 0.0
    assert slow[-1] == 10.0
    assert fast[-1] == 1000.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (19_200, "5 h 20 min")],
)
def test_durations_are_told_as_people_say_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 B"), (999, "999 B"), (1500, "2 kB"), (7e9, "7 GB"), (2.5e12, "2.5 TB")]
)
def test_sizes_are_told_as_people_say_them(size: float, words: str) -> None:
    assert in_bytes(size) == words


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    other, end = os.openpty()
    with os.fdopen(end, "w") as file:
        yield file
    os.close(other)


def test_it_is_drawn_on_a_terminal_only_and_only_if_the_protocol_is_told_elsewhere(terminal: TextIO) -> None:
    elsewhere = io.StringIO()
    closed = io.StringIO()
    closed.close()

    assert shows(terminal, elsewhere)
    assert shows(terminal, None)
    assert not shows(terminal, terminal)
    assert not any(shows(screen, elsewhere) for screen in (elsewhere, None, closed))
