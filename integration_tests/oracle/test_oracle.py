"""Some seeds in the ordinary suite; `make oracle` plays many more."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from oracle.day.scene import live_through
from oracle.hurry import Rule
from oracle.programme import PROGRAMMES
from oracle.report import complaints
from oracle.scene import Outcome, Play, play
from oracle.syncs import Manner
from testkit.cluster import Cluster
from testkit.connector import REPOSITORY

pytestmark = pytest.mark.slow
SECONDS = 1.0
PROVING = (1, 3, 11)
"""Seeds of which each alone nearly always finds out that a rule is switched off, whichever."""


def test_what_was_told_equals_the_source(server: Cluster) -> None:
    holds(server, 5)


@pytest.mark.any_server
@pytest.mark.parametrize("seed", [6, 7])
def test_it_does_so_where_chunks_are_dropped_and_tables_truncated(server: Cluster, seed: int) -> None:
    holds(server, seed)


def holds(server: Cluster, seed: int) -> None:
    outcome = play(server, Play.of(seed), seconds=SECONDS)

    assert outcome.well, complaints(outcome)
    assert outcome.tally.committed
    assert outcome.records


@pytest.mark.any_server
def test_what_killed_syncs_told_equals_the_source(server: Cluster) -> None:
    outcome = play(server, Play.of(1, manner=Manner.KILLED), seconds=2 * SECONDS)

    assert outcome.well, complaints(outcome)
    assert outcome.broken_off


@pytest.mark.any_server
def test_what_stopped_syncs_told_equals_the_source_and_was_told_once(server: Cluster) -> None:
    outcome = play(server, replace(Play.of(4), manner=Manner.STOPPED), seconds=2 * SECONDS)

    assert outcome.well, complaints(outcome)
    assert outcome.broken_off


@pytest.mark.any_server
@pytest.mark.parametrize("rule", list(Rule))
def test_a_connector_without_one_of_its_rules_is_found_out(server: Cluster, rule: Rule) -> None:
    outcomes = (played(server, seed, without=rule) for seed in PROVING)

    found = next((outcome for outcome in outcomes if not outcome.well), None)

    assert found is not None
    assert found.error is None
    assert found.deviations


@pytest.mark.any_server
@pytest.mark.parametrize("seed", PROVING)
def test_the_seeds_that_find_it_out_find_nothing_wrong_with_all_rules(server: Cluster, seed: int) -> None:
    outcome = played(server, seed)

    assert outcome.well, complaints(outcome)


def played(server: Cluster, seed: int, *, without: Rule | None = None) -> Outcome:
    return play(server, Play.of(seed), without=without, seconds=SECONDS, writers=2)


@pytest.mark.any_server
def test_the_command_writes_its_page_and_tells_a_failure_by_its_status(
    tmp_path: Path, server: Cluster
) -> None:
    words = ["--seeds", "1", "--first", "1", "--server", server.label, "--output", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "oracle", *words, "--without", "filter"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    page = (tmp_path / "oracle.md").read_text()
    assert ("Switched off" in page, "TimescaleDB 2." in page) == (True, True)
    assert done.returncode == (0 if "## Failures\n\nNone." in page else 1), done.stderr


@pytest.mark.community
@pytest.mark.parametrize("seed", [0, 1, 5, 6, 7])
def test_what_was_told_equals_the_source_however_its_chunks_are_kept(
    community_server: Cluster, seed: int
) -> None:
    outcome = play(community_server, Play.of(seed, PROGRAMMES["compression"]), seconds=2 * SECONDS)

    assert outcome.well, complaints(outcome)
    assert outcome.tally.committed
    assert outcome.records


@pytest.mark.community
def test_a_day_of_policies_is_followed_to_its_end(community_server: Cluster) -> None:
    day = live_through(community_server, seed=1, seconds=20)

    assert day.well, day
    assert day.jobs
    assert day.rows
    assert day.syncs > 1
