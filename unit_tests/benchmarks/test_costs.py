"""Ratios and medians: what the benchmark page says is what was measured."""

from __future__ import annotations

import pytest

from benchmarks.costs import Contest, Cost, Figures, Measure, Run, Spread, typical


def run(
    rows: int = 1000,
    wall: float = 2.0,
    client_cpu: float = 1.0,
    server_cpu: float = 1.0,
    peak_memory: int = 10_000_000,
    start_up: float = 0.0,
) -> Run:
    return Run(
        rows, 5000, Cost(wall, client_cpu, server_cpu, peak_memory), Cost(start_up, start_up, 0.0, 5_000_000)
    )


def contest(*rounds: tuple[Run, Run]) -> Contest:
    made = Contest("rows", "some rows", "floor")
    for floor, other in rounds:
        made.add({"floor": floor, "other": other})
    return made


def test_start_up_is_taken_away_from_wall_and_client_time_only() -> None:
    one = run(wall=3.0, client_cpu=2.5, server_cpu=1.0, start_up=1.5)

    assert {measure: measure.of(one) for measure in Measure} == {
        Measure.WALL: 1.5,
        Measure.START_UP_INCLUDED: 3.0,
        Measure.CLIENT_CPU: 1.0,
        Measure.SERVER_CPU: 1.0,
        Measure.MEMORY: 10_000_000,
    }


def test_a_run_over_fewer_rows_is_compared_per_row() -> None:
    floor, slow = run(rows=1000, wall=1.0), run(rows=100, wall=2.0)

    assert Measure.WALL.ratio(slow, floor) == pytest.approx(20)


def test_memory_is_compared_as_it_is_whatever_the_rows() -> None:
    floor, other = run(rows=1000, peak_memory=10), run(rows=100, peak_memory=30)

    assert Measure.MEMORY.ratio(other, floor) == 3


@pytest.mark.parametrize("wall", [0.0, 0.01, -0.5])
def test_what_is_shorter_than_the_clock_can_tell_has_no_ratio(wall: float) -> None:
    assert Measure.WALL.ratio(run(wall=1.0), run(wall=wall)) is None
    assert Measure.WALL.ratio(run(wall=wall), run(wall=1.0)) is None


def test_each_round_is_compared_with_its_own_floor() -> None:
    made = contest(
        (run(wall=1.0), run(wall=2.0)), (run(wall=4.0), run(wall=4.0)), (run(wall=2.0), run(wall=6.0))
    )

    assert made.ratio("other", Measure.WALL) == Spread(2.0, 1.0, 3.0)


def test_a_contest_too_short_to_tell_has_no_ratio() -> None:
    made = contest((run(wall=0.001), run(wall=2.0)))

    assert made.ratio("other", Measure.WALL) is None


def test_the_floor_is_not_among_those_compared_with_it() -> None:
    made = contest((run(), run()), (run(), run()))

    assert (made.contenders, made.rounds) == (["other"], 2)


def test_the_typical_cost_is_the_median_of_each_part() -> None:
    costs = [Cost(1.0, 9.0, 5.0, 100), Cost(2.0, 8.0, 4.0, 300), Cost(3.0, 1.0, 6.0, 200)]

    assert typical(costs) == Cost(2.0, 8.0, 5.0, 200)


def test_rates_are_those_after_start_up() -> None:
    figures = Figures.over([run(rows=1000, wall=3.0, client_cpu=2.0, server_cpu=0.5, start_up=1.0)])

    assert (figures.rows_per_second, figures.bytes_per_second) == (500, 2500)
    assert (figures.client_cpu_per_million, figures.server_cpu_per_million) == (1000, 500)
    assert (figures.wall, figures.start_up) == (3.0, 1.0)


def test_a_run_no_longer_than_its_start_up_has_no_rate() -> None:
    figures = Figures.over([run(wall=1.0, start_up=1.1)])

    assert (figures.rows_per_second, figures.bytes_per_second) == (None, None)
