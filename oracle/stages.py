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

import psycopg

from oracle.hurry import Rule
from oracle.scene import Outcome, Play, play
from oracle.syncs import Manner
from testkit.cluster import Cluster
from testkit.errors import KitError
from testkit.servers import candidate


@dataclass(frozen=True, slots=True)
class Staging:
    """How plays are played."""

    servers: Sequence[str]
    """Names; seeds are dealt out to them in rounds, so that each gets every policy and every manner."""
    keep: Path | None
    without: Rule | None = None

    def server_of(self, what: Play) -> str:
        """The name of the server that a seed is played on."""
        return self.servers[what.programme.turn(what.seed) % len(self.servers)]


def played(plays: Sequence[tuple[Play, Staging]], jobs: int) -> Iterator[Outcome]:
    """What came of each play, in their order; so many at a time. Raises KitError, and psycopg errors of writers.

    A disturbed play that fails itself, as where a server does not come back, is an outcome too.
    """
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as stages:
        try:
            yield from stages.map(_on_stage, plays)
        finally:
            stages.shutdown(wait=False, cancel_futures=True)


def _on_stage(what: tuple[Play, Staging]) -> Outcome:
    one, staging = what
    try:
        return play(_running(staging.server_of(one)), one, keep=staging.keep, without=staging.without)
    except (KitError, psycopg.Error) as reason:
        if one.manner is not Manner.DISTURBED:
            raise
        return Outcome(one, error=f"the play itself failed: {reason}")


@cache
def _running(name: str) -> Cluster:
    """This process's server of that name; it ends with the process."""
    stack = ExitStack()
    util.Finalize(None, stack.close, exitpriority=1)
    return stack.enter_context(candidate(name).open())
