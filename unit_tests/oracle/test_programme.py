"""A run of seeds covers all that a programme promises, on each of its servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from oracle.programme import PROGRAMMES
from oracle.scene import Play
from oracle.stages import Staging
from oracle.syncs import Manner
from oracle.workload import Policy


@pytest.mark.parametrize("name", PROGRAMMES)
def test_a_round_of_seeds_has_every_policy_in_every_manner_on_every_server(name: str) -> None:
    programme = PROGRAMMES[name]
    staging = Staging(["one", "other"], None, None)
    plays = [Play.of(seed, programme) for seed in range(4 * len(programme.policies))]

    assert {play.policy for play in plays} == set(programme.policies)
    assert {play.manner for play in plays} == set(programme.manners)
    assert {(play.policy, staging.server_of(play)) for play in plays} == {
        (policy, server) for policy in programme.policies for server in staging.servers
    }


def test_programmes_together_have_every_policy_and_each_has_a_page_of_its_own() -> None:
    assert {policy for one in PROGRAMMES.values() for policy in one.policies} == set(Policy)
    assert len({one.page for one in PROGRAMMES.values()}) == len(PROGRAMMES)
    assert {Path(one.page).suffix for one in PROGRAMMES.values()} == {".md"}


def test_killed_syncs_are_killed_whatever_the_programme() -> None:
    assert Play.of(5, manner=Manner.KILLED).manner is Manner.KILLED
    assert {Play.of(seed).manner for seed in (4, 5)} == {Manner.CUT, Manner.WHOLE}
