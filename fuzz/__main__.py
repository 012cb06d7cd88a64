"""`python -m fuzz`, which `make fuzz` runs: feed the decoder, judge, and write the page."""

from __future__ import annotations

import argparse
import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from typing import Final

from benchmarks.surroundings import surroundings
from fuzz.campaign import Finding, played, replay
from fuzz.examination import Tally
from fuzz.layouts import LAYOUTS
from fuzz.report import page
from testkit.connector import REPOSITORY

INTERRUPTED: Final = 130
KEPT: Final = Path("fuzz-output")
TOLD_SECONDS: Final = 20.0


def main(arguments: list[str] | None = None) -> int:
    """Feed it; 1 when something was wrong."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(words)
    try:
        if options.replay:
            return _replay(options.replay)
        return run(options, shlex.join(["python", "-m", "fuzz", *words]))
    except KeyboardInterrupt:
        return INTERRUPTED


def run(options: argparse.Namespace, command: str) -> int:
    """Play sessions and write the page into the output folder."""
    where = surroundings(None, command, datetime.now(timezone.utc))
    tally, findings = Tally(), list[Finding]()
    start = told = monotonic()
    for lot in played(options.seed, options.first, options.inputs, options.jobs):
        tally.add(lot.tally)
        for finding in lot.findings:
            _tell(f"session {finding.number}: {finding.what}; kept: {finding.write(KEPT)}")
        findings += lot.findings
        if (now := monotonic()) - told > TOLD_SECONDS:
            told = now
            _tell(f"{tally.total:,} inputs, {tally.total / (now - start):,.0f} a second")
    _tell(f"{tally.total:,} inputs in {monotonic() - start:.0f} s, {len(findings)} complaints")
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "fuzz.md"
    path.write_text(page(where, options.seed, tally, findings, LAYOUTS))
    _tell(f"written: {path}")
    return 1 if findings else 0


def _replay(path: Path) -> int:
    wrong = replay(path)
    _tell(wrong or "nothing is wrong with it any more")
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument(
        "--inputs", type=int, default=10_000_000, metavar="N", help="at least so many (default 10,000,000)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="what everything is drawn from (default 1)"
    )
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first session (default 0)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="so many processes (default 2)")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs", help="folder for the page")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="play again what was kept of a complaint")
    return parser


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
