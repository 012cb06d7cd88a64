"""`python -m oracle.soak`, which `make soak` runs: disturb the syncs of a thousand seeds, judge them, write the page."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from oracle.command import KEPT, carry_out, seed_parser, seeds_of, surroundings_of, tell
from oracle.programme import PROGRAMMES
from oracle.report import line
from oracle.scene import Play
from oracle.soak.report import Run, page
from oracle.stages import Staging, played
from oracle.syncs import Manner
from testkit.servers import Candidate, candidate, candidates

PAGE: Final = "soak.md"
WRITTEN_EVERY: Final = 50
"""The page is written after so many runs: a soak takes an hour, and what it has found so far is worth having."""


def main(arguments: list[str] | None = None) -> int:
    """Soak; 1 when a run did not recover or could not be played, and a sentence says why."""
    return carry_out(seed_parser("python -m oracle.soak", __doc__, seeds=1000), arguments, run)


def run(options: argparse.Namespace, command: str) -> list[Run]:
    """Play the seeds on the servers in turn, and write the page into the output folder.

    Raises:
        KitError: there is no such server.
    """
    chosen = [candidate(name) for name in options.server or ()] or [
        one for one in candidates() if one.root is not None
    ]
    where = surroundings_of(chosen, command)
    dealt = [(chosen[seed % len(chosen)], seed) for seed in seeds_of(options)]
    plays = [
        (_play(server, seed), Staging([server.name], KEPT if options.keep else None))
        for server, seed in dealt
    ]
    options.output.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    for (server, _), outcome in zip(dealt, played(plays, options.jobs), strict=True):
        runs.append(Run(server.label, outcome))
        tell(f"{server.label}: {line(outcome)}")
        if len(runs) % WRITTEN_EVERY == 0 or len(runs) == len(plays):
            (options.output / PAGE).write_text(page(where, runs))
    tell(f"written: {options.output / PAGE}")
    return runs


def _play(server: Candidate, seed: int) -> Play:
    programme = PROGRAMMES["compression" if server.community else "rows"]
    return Play.of(seed, programme, manner=Manner.DISTURBED)


if __name__ == "__main__":
    sys.exit(main())
