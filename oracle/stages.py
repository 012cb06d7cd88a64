"""Seeds played side by side: processes, each with servers of its own, take one play after the other.

A play keeps a core busy for less than half of its time, because its writers sleep and its syncs wait for each other.
Processes, because syncs that run inside one turn the connector's knobs for all of it; servers of their own, because
transactions of one play would hold up the barriers of all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context, util
from pathlib import Path

from oracle.hurry import Rule
from oracle.scene import Outcome, Play, play
from testkit.cluster import Cluster
from testkit.servers import candidate


@dataclass(frozen=True, slots=True)
class Staging:
    """How plays are played."""

    servers: Sequence[str]
    """Names; seeds are dealt out to them in rounds, so that each gets every policy and every manner."""
    keep: Path | None
    without: Rule | None

    def server_of(self, what: Play) -> str:
        """The name of the server that a seed is played on."""
        return self.servers[what.programme.turn(what.seed) % len(self.servers)]


def played(plays: Sequence[Play], staging: Staging, jobs: int) -> Iterator[Outcome]:
    """What came of each play, in their order; so many at a time. Raises KitError, and psycopg errors of writers."""
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as stages:
        try:
            yield from stages.map(_on_stage, plays, [staging] * len(plays))
        finally:
            stages.shutdown(wait=False, cancel_futures=True)


def _on_stage(what: Play, staging: Staging) -> Outcome:
    cluster = _running(staging.server_of(what))
    return play(cluster, what, keep=staging.keep, without=staging.without)


@cache
def _running(name: str) -> Cluster:
    """This process's server of that name; it ends with the process."""
    stack = ExitStack()
    util.Finalize(None, stack.close, exitpriority=1)
    return stack.enter_context(candidate(name).open())
