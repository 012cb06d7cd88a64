"""Which states continue on which timelines."""

from __future__ import annotations

import pytest

from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.timeline import Fork, WalPoint, parse_forks, server_problems

HISTORY = """1\t0/3000148\tno recovery target specified

# by hand
2\t0/5000000\tbefore 2024-01-01 00:00:00+00
"""
HERE = WalPoint("7", 3, Lsn(0x9000000))
FORKS = [Fork(1, Lsn(0x3000148)), Fork(2, Lsn(0x5000000))]


def test_a_history_file_tells_where_each_timeline_was_left() -> None:
    assert parse_forks(HISTORY) == FORKS


@pytest.mark.parametrize(
    ("timeline", "lsn"), [(1, 0x3000147), (1, 0x3000148), (2, 0x4000000), (2, 0x5000000), (3, 0x9000000)]
)
def test_a_state_from_before_its_timeline_was_left_continues(timeline: int, lsn: int) -> None:
    assert server_problems(HERE, WalPoint("7", timeline, Lsn(lsn)), FORKS) == []


@pytest.mark.parametrize(
    ("timeline", "lsn", "words"),
    [
        (1, 0x3000149, "from 1 to 3 at 0/3000148"),
        (2, 0x5000001, "from 2 to 3 at 0/5000000"),
        (4, 0x1, "does not come from it"),
        (3, 0x9000001, "set back to the past"),
    ],
)
def test_a_state_from_elsewhere_does_not(timeline: int, lsn: int, words: str) -> None:
    (problem,) = server_problems(HERE, WalPoint("7", timeline, Lsn(lsn)), FORKS)

    assert words in str(problem)
