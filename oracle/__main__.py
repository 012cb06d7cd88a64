"""`python -m oracle`, which `make oracle` runs: play seeds, compare, and write the page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from oracle.command import KEPT, carry_out, seed_parser, seeds_of, surroundings_of, tell
from oracle.hurry import Rule
from oracle.programme import PROGRAMMES, Programme
from oracle.report import line, page
from oracle.scene import Outcome, Play
from oracle.stages import Staging, played
from oracle.syncs import Manner
from testkit.errors import NoServerError
from testkit.servers import NO_COMMUNITY, Candidate, candidate, candidates


def main(arguments: list[str] | None = None) -> int:
    """Play the seeds; 1 when one failed, or could not be played, and a sentence says why."""
    return carry_out(_parser(), arguments, run)


def run(options: argparse.Namespace, command: str) -> list[Outcome]:
    """Play on the chosen servers and write the programme's page into the output folder.

    Raises:
        KitError: there is no such server, or a seed could not be played.
    """
    without = Rule[options.without.upper()] if options.without else None
    programme = PROGRAMMES[options.programme]
    chosen = _servers(options.server, programme)
    where = surroundings_of(chosen, command)
    plays = [
        Play.of(seed, programme, manner=manner)
        for seed in seeds_of(options)
        for manner in ((None, Manner.KILLED) if options.kills else (None,))
    ]
    staging = Staging([one.name for one in chosen], KEPT if options.keep else None, without)
    outcomes: list[Outcome] = []
    for outcome in played([(one, staging) for one in plays], options.jobs):
        outcomes.append(outcome)
        tell(line(outcome))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / programme.page).write_text(page(where, outcomes, without))
    tell(f"written: {options.output / programme.page}")
    return outcomes


def _servers(names: Sequence[str] | None, programme: Programme) -> list[Candidate]:
    """Those that are named, else all that can play the programme."""
    found = [candidate(name) for name in names or ()] or [
        one for one in candidates() if one.community or not programme.upkeep
    ]
    if not found:
        raise NoServerError(NO_COMMUNITY)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = seed_parser("python -m oracle", __doc__, seeds=200)
    parser.add_argument(
        "--programme", choices=list(PROGRAMMES), default="rows", help="what is played (default rows)"
    )
    parser.add_argument(
        "--kills", action="store_true", help="play each seed once more with syncs that are killed"
    )
    parser.add_argument(
        "--without",
        choices=[rule.name.lower() for rule in Rule],
        help="switch a rule of the connector off: seeds must fail",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
