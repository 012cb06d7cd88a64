"""Some seeds of the soak in the ordinary suite; `make soak` plays a thousand."""

from __future__ import annotations

import pytest

from oracle.programme import PROGRAMMES
from oracle.report import complaints
from oracle.scene import Play, play
from oracle.syncs import Manner
from testkit.cluster import Cluster
from testkit.roots import Root
from testkit.server import Server

pytestmark = pytest.mark.slow
SECONDS = 2.0


@pytest.mark.any_server
def test_syncs_that_are_disturbed_all_the_while_recover_with_no_help(root: Root) -> None:
    with Server(root) as server:
        recovers(server, Play.of(4, manner=Manner.DISTURBED))


@pytest.mark.community
def test_they_do_so_while_chunks_are_compressed(root: Root) -> None:
    with Server(root) as server:
        recovers(server, Play.of(3, PROGRAMMES["compression"], manner=Manner.DISTURBED))


def recovers(server: Cluster, what: Play) -> None:
    outcome = play(server, what, seconds=SECONDS)

    assert outcome.well, complaints(outcome)
    assert outcome.blows
    assert outcome.records
