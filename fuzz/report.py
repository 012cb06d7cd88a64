"""The page: what was fed to the decoder, and what came of it. Pure: counts in, text out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.report import table
from benchmarks.surroundings import Surroundings
from fuzz.campaign import Finding
from fuzz.examination import MUTANTS, Tally
from fuzz.mutations import Mutation
from fuzz.sessions import Fate

NO_MESSAGE: Final = "none"
_FATES: Final[Mapping[Fate, str]] = {
    Fate.WHOLE: "whole",
    Fate.MISPLACED: "some left out, repeated or in another place",
    Fate.DAMAGED: "some damaged",
}
_PAGE: Final = """\
# The decoder, fuzzed

Written by `{command}`.

Sessions of a server are made up from a seed: some transactions of relations of {layouts} layouts, with values of each
kind of type, markers, truncates, messages. Each message is decoded by itself, and so are {mutants} damaged copies of it.
Then the session goes the way of a sync, from frames to lines, as it is, with messages out of their place, or with some
damaged: once by the fast path of inserts, once with each row decoded and written by itself.

What must hold, of each: it decodes to what was encoded, or is refused by the one documented error, which holds no value;
what was decoded, encoded again, gives the same bytes; the fast row is the plain row; the fast way tells the same lines
as the plain one, or refuses with the same sentence; lines of valid messages are JSON wherever these stand. And no other
exception, no time without end, no memory out of proportion. A session is played again by its number: `--seed {seed}
--first NUMBER --inputs 1`; what failed is kept in `fuzz-output/` for `--replay`.

{facts}

## Messages by themselves

By what they were decoded as.

{kinds}

By what was done to them.

{damages}

## Sessions

{sessions}

Lines written: {lines}.

## Failures

{failures}
"""


def page(where: Surroundings, seed: int, tally: Tally, findings: Sequence[Finding], layouts: int) -> str:
    """The whole page."""
    facts = [
        ("Date", where.date),
        ("Connector", where.connector),
        ("Python", where.python),
        ("Machine", where.machine),
        ("Seed", str(seed)),
        ("Sessions", f"{tally.sessions.total():,}"),
        ("Inputs", f"{tally.total:,}"),
    ]
    failures = "\n".join(f"- session {one.number}: {one.what}" for one in findings)
    return _PAGE.format(
        command=where.command,
        layouts=layouts,
        mutants=MUTANTS,
        seed=seed,
        facts=table(("", ""), facts),
        kinds=_kinds(tally),
        damages=_damages(tally),
        sessions=_sessions(tally),
        lines=f"{tally.lines:,}",
        failures=failures or "None.",
    )


def _kinds(tally: Tally) -> str:
    valid, damaged = Counter[str](), Counter[str]()
    for (kind, mutation, _), number in tally.inputs.items():
        (valid if mutation is Mutation.NONE else damaged)[kind] += number
    kinds = [*sorted({*valid, *damaged} - {NO_MESSAGE}), NO_MESSAGE]
    rows = [(_named(kind), f"{valid[kind]:,}", f"{damaged[kind]:,}") for kind in kinds]
    return table(("kind", "valid", "damaged"), rows)


def _named(kind: str) -> str:
    return "refused" if kind == NO_MESSAGE else kind


def _damages(tally: Tally) -> str:
    told = Counter[tuple[Mutation, str]]()
    for (_, mutation, outcome), number in tally.inputs.items():
        told[mutation, outcome] += number
    rows = [
        (one.value, *(f"{told[one, outcome]:,}" for outcome in ("decoded", "refused")))
        for one in Mutation
        if one is not Mutation.ORDER
    ]
    return table(("damage", "decoded", "refused"), rows)


def _sessions(tally: Tally) -> str:
    rows = [
        (_FATES[fate], outcome, f"{number:,}")
        for (fate, outcome), number in sorted(
            tally.sessions.items(), key=lambda item: (item[0][0].value, -item[1])
        )
    ]
    return table(("messages", "outcome", "sessions"), rows)
