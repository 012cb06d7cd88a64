"""How much a stream will have emitted: told anew while it is read, and right at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.hypertables.model import (
    OPEN_ABOVE,
    OPEN_BELOW,
    Chunk,
    ChunkStatus,
    Dimension,
    Hypertable,
    QualifiedName,
    Span,
    TimeKind,
)
from source_timescaledb.hypertables.statistics import Statistics
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.snapshot.forecast import Expected, Forecast
from source_timescaledb.snapshot.key_plan import KeyPlan
from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.snapshot.slices import ChunkSlice
from source_timescaledb.state.model import Key

NAME = QualifiedName("public", "metrics")
TABLE = Hypertable(7, 700, NAME, (Dimension(1, "time", TimeKind.INTEGER, None),))
LINE = 10


def chunk(number: int, span: Span | None = None) -> Chunk:
    return Chunk(
        id=number,
        oid=1000 + number,
        name=QualifiedName("_timescaledb_internal", f"_hyper_7_{number}_chunk"),
        status=ChunkStatus.PLAIN,
        box=(span or Span(100 * number, 100 * number + 100),),
        compressed=None,
        tiered=False,
        rows=-1,
        pages=0,
    )


def never(_lower: Key | None, _upper: Key | None, _rows: int) -> Key | None:
    raise AssertionError("a hypertable's bounds are not asked of the server")


@dataclass
class Reading:
    """A read of chunks with so many rows each, as the writer sees it."""

    truth: Mapping[int, int]
    statistics: Statistics
    width: float | None = None
    told: int = 0
    estimates: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.plan = ChunkPlan(
            TABLE, [chunk(number) for number in self.truth], Pace(limit=1, first=self.width)
        )
        self.forecast = Forecast(self.plan, self.statistics)
        self.estimates.append(self.expected.rows)

    @property
    def expected(self) -> Expected:
        return self.forecast.expected(rows=self.told, size=self.told * LINE, read=self.told)

    def step(self) -> None:
        slice_ = self.plan.take(never)
        assert isinstance(slice_, ChunkSlice)
        self.plan.confirm(slice_)
        self.forecast.confirm(slice_)
        self.told += round(self.truth[slice_.chunk.id] * slice_.chunk.share_of(slice_.span))
        self.estimates.append(self.expected.rows)

    def finish(self) -> None:
        while not self.plan.exhausted:
            self.step()


def known(rows: Sequence[int]) -> dict[int, float]:
    return {number: float(count) for number, count in enumerate(rows, start=1)}


def truth(rows: Sequence[int]) -> dict[int, int]:
    return dict(enumerate(rows, start=1))


def test_statistics_that_are_right_make_estimates_that_stay() -> None:
    reading = Reading(truth([10, 20, 30]), Statistics(chunks=known([10, 20, 30])))
    reading.finish()

    assert reading.estimates == [60, 60, 60, 60]


def test_a_chunk_without_statistics_is_taken_for_an_average_one() -> None:
    reading = Reading(truth([10, 30, 0]), Statistics(chunks={1: 10.0, 2: 30.0}))

    assert reading.estimates == [60]


def test_what_was_read_corrects_what_is_left_the_more_of_it_was_read() -> None:
    reading = Reading(truth([200] * 4), Statistics(chunks=known([100] * 4)))
    reading.finish()

    assert reading.estimates == [400, 200 + 375, 400 + 300, 600 + 175, 800]


def test_without_any_statistics_there_is_no_estimate_until_something_is_read() -> None:
    reading = Reading(truth([40] * 4), Statistics())
    reading.finish()

    assert reading.estimates == [0, 160, 160, 160, 160]


def test_a_part_of_a_chunk_counts_as_its_part_of_the_time() -> None:
    reading = Reading(truth([1000]), Statistics(chunks=known([2000])), width=25)
    reading.step()

    assert reading.estimates == [2000, 250 + round(1500 * (0.25 * 0.5 + 0.75))]


def test_a_chunk_that_is_born_meanwhile_is_expected_too() -> None:
    reading = Reading(truth([10, 10]), Statistics(chunks=known([10, 10])))
    reading.finish()
    reading.plan.extend([chunk(3)])

    assert reading.expected.rows == 30


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=20))
def test_whatever_the_statistics_said_the_end_is_the_truth_and_nothing_falls_below_what_is_told(
    chunks: list[tuple[int, int]],
) -> None:
    rows = truth([actual for actual, _ in chunks])
    reading = Reading(rows, Statistics(chunks=known([expected for _, expected in chunks])))
    while not reading.plan.exhausted:
        reading.step()
        assert reading.expected.rows >= reading.told

    assert reading.expected == Expected(sum(rows.values()), sum(rows.values()) * LINE)


def test_bytes_follow_from_the_lines_told_and_before_that_from_the_heap() -> None:
    reading = Reading(truth([50, 50]), Statistics(chunks=known([50, 50]), row_size=300.0))

    assert reading.expected == Expected(100, 30_000)
    reading.step()
    assert reading.expected == Expected(100, 100 * LINE)


def test_changes_count_as_told_but_say_nothing_of_the_rows_that_are_left() -> None:
    reading = Reading(truth([10, 10]), Statistics(chunks=known([10, 10])))
    reading.step()

    assert reading.forecast.expected(rows=10 + 500, size=5100, read=10).rows == 520


def test_a_table_is_expected_to_have_the_rows_that_the_server_counts_and_no_fewer_than_are_told() -> None:
    plan = KeyPlan(("id",), Pace(limit=1))
    forecast = Forecast(plan, Statistics(total=100.0))

    assert [forecast.expected(rows=rows, size=0, read=rows).rows for rows in (0, 60, 150)] == [100, 100, 150]
    slice_ = plan.take(lambda _lower, _upper, _rows: None)
    assert slice_ is not None
    plan.confirm(slice_)
    assert forecast.expected(rows=60, size=0, read=60).rows == 60


def test_with_nothing_left_to_read_what_is_told_is_all() -> None:
    assert Forecast(None, Statistics()).expected(rows=7, size=70, read=0) == Expected(7, 70)


@pytest.mark.parametrize(
    ("span", "part", "share"),
    [
        (Span(0, 100), Span(0, 25), 0.25),
        (Span(0, 100), Span(50, 500), 0.5),
        (Span(0, 100), Span(100, 200), 0.0),
        (Span(OPEN_BELOW, 100), Span(OPEN_BELOW, 100), 1.0),
        (Span(100, OPEN_ABOVE), Span(200, 300), 1.0),
    ],
)
def test_the_share_of_a_chunk_is_by_time(span: Span, part: Span, share: float) -> None:
    assert chunk(1, span).share_of(part) == share
