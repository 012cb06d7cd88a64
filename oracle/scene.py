"""One seed from beginning to end: tables, writers, syncs while they write, one sync in the quiet after, the verdict."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from integration_tests.cdc.aggregates import calm
from integration_tests.truth import Truth
from oracle.destinations import Destination, Habit
from oracle.faults import Fault, blows
from oracle.havoc import Havoc
from oracle.hurry import Rule
from oracle.judging import Deviation, compare, named_periods, without_twins
from oracle.keeping import keep, settle_settings, start_policies
from oracle.meetings import duels, settlings
from oracle.programme import PROGRAMMES, Programme
from oracle.syncs import Manner, Sync, Syncs
from oracle.tables import make_tables, publish
from oracle.together import meet
from oracle.upkeep import chores, hidden_deletes
from oracle.workload import Author, Policy, Transaction, disturbances
from oracle.writers import Tally, Writers, at_work, write
from testkit.cluster import Cluster
from testkit.database import Database
from testkit.errors import KitError
from testkit.proxy import Proxy
from testkit.server import Server

WRITING_SECONDS: Final = 4.0
TAIL_SECONDS: Final = 0.5
"""For so long is written after the sync before the last, which then finds changes, whatever there was to read before."""
WRITERS: Final = 4
KEEPERS: Final = 2
"""Sessions that compress, merge, split and refresh, where the programme has them."""


@dataclass(frozen=True, slots=True)
class Play:
    """What a seed means: drawn from it and the programme alone."""

    seed: int
    policy: Policy
    manner: Manner
    programme: Programme = PROGRAMMES["rows"]

    @classmethod
    def of(
        cls, seed: int, programme: Programme = PROGRAMMES["rows"], *, manner: Manner | None = None
    ) -> Play:
        """The play of a seed; its syncs end as the programme has it, unless `manner` says how."""
        return cls(seed, programme.policy(seed), manner or programme.manner(seed), programme)

    @property
    def habits(self) -> Sequence[Habit]:
        """The destinations that it can be judged by: one that applies what comes needs syncs that tell nothing twice."""
        if self.manner.once:
            return (Habit.CLOCK, Habit.ARRIVAL)
        return (Habit.CLOCK, Habit.COUNTED)


@dataclass(slots=True)
class Outcome:
    """What came of a seed."""

    play: Play
    tally: Tally = field(default_factory=Tally)
    syncs: int = 0
    broken_off: int = 0
    """Syncs that were cut or killed."""
    records: int = 0
    twins: int = 0
    """Keys that a table of the source holds twice, of the one that has most."""
    deviations: list[Deviation] = field(default_factory=list)
    error: str | None = None
    """With which a sync ended."""
    gave_up: list[str] = field(default_factory=list)
    """Errors that may pass, with which disturbed syncs ended: the next sync went on."""
    blows: Counter[Fault] = field(default_factory=Counter)
    """What befell the syncs."""
    seconds: float = 0.0

    @property
    def well(self) -> bool:
        """Whether every destination holds what it should."""
        return self.error is None and not self.deviations


def play(
    cluster: Cluster,
    what: Play,
    *,
    keep: Path | None = None,
    without: Rule | None = None,
    seconds: float = WRITING_SECONDS,
    writers: int = WRITERS,
) -> Outcome:
    """Play a seed on a fresh database of the server.

    Args:
        cluster: the server.
        what: the seed's play.
        keep: the folder for what the syncs of a failing seed printed; nothing is kept without.
        without: a rule of the connector to switch off.
        seconds: how long is written, at least; whoever writes goes on until the sync that runs then has ended, except
            where syncs are disturbed.
        writers: how many write at random, beside those that meet.

    Raises psycopg errors that ended a writer, and KitError.
    """
    started = time.monotonic()
    outcome = Outcome(what)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oracle-")))
        database = stack.enter_context(cluster.database())
        havoc = _havoc(stack, cluster, database) if what.manner is Manner.DISTURBED else None
        heard = _synced(database, what, outcome, folder, without, seconds, writers, havoc)
        if outcome.error is None:
            outcome.deviations += _judged(database, what, heard, outcome)
        if keep is not None and not outcome.well:
            _keep(keep / f"seed-{what.seed}-{what.manner.name.lower()}", heard.syncs, outcome)
    outcome.seconds = time.monotonic() - started
    return outcome


@dataclass(slots=True)
class _Heard:
    """The syncs of a seed and what destinations have made of them."""

    destinations: list[Destination]
    syncs: list[Sync] = field(default_factory=list)


def _synced(
    database: Database,
    what: Play,
    outcome: Outcome,
    folder: Path,
    without: Rule | None,
    seconds: float,
    writers: int,
    havoc: Havoc | None,
) -> _Heard:
    random = Random(f"{what.seed}/syncs")
    slot = f"oracle_{database.name}"
    if what.programme.upkeep:
        settle_settings(database)
    make_tables(database, what.programme.tables)
    first = Transaction(Author(what.seed, -1).first_rows())
    write(database, [first], lambda: False, time.sleep, outcome.tally)
    address = havoc.address if havoc is not None else {}
    syncs = Syncs(database, slot, what.programme.tables, what.manner, random, folder, without, address)
    heard = _Heard([Destination(habit, syncs.keys) for habit in what.habits])
    with at_work(lasting=havoc is not None) as working:
        for writer in range(writers):
            working.join(partial(write, database, Author(what.seed, writer).transactions()))
        working.join(partial(write, database, iter(disturbances(what.seed, what.policy))))
        end = time.monotonic() + seconds
        publish(database, slot, what.programme.tables)
        if what.programme.upkeep:
            _keep_up(working, database, what)
        working.join(partial(meet, database, duels(what.seed)))
        if not what.programme.has_policies(
            what.seed
        ):  # they hold up the barrier that each new chunk is in need of
            working.join(partial(meet, database, settlings(what.seed)))
        if havoc is not None:
            working.join(partial(havoc.wreak, blows(what.seed)))
            working.stop_after(seconds)
        while time.monotonic() < end and outcome.error is None:
            _hear(heard, syncs.sync(), outcome)
        time.sleep(TAIL_SECONDS if havoc is None else 0)
        outcome.tally.add(working.end())
    if havoc is not None:
        outcome.blows = havoc.dealt
        database.disconnect()  # from a server that may have crashed
    if what.programme.upkeep:
        calm(database)
    if outcome.error is None:
        _hear(heard, syncs.sync(to_the_end=True), outcome)
    return heard


def _havoc(stack: ExitStack, cluster: Cluster, database: Database) -> Havoc:
    """What disturbs the syncs, with a proxy that they go through. Raises KitError."""
    if not isinstance(cluster, Server):
        raise KitError(f"{cluster.label} is no server of the kit's own: it cannot be made to crash")
    proxy = stack.enter_context(Proxy(cluster.address.host, cluster.address.port))
    return Havoc(cluster, proxy, database)


def _keep_up(working: Writers, database: Database, what: Play) -> None:
    for session in range(KEEPERS):
        working.join(partial(keep, database, chores(what.seed, session)))
    if what.policy is Policy.HIDDEN:
        working.join(partial(keep, database, hidden_deletes(what.seed), hiding=True))
    if what.programme.has_policies(what.seed):
        start_policies(database, what.programme.tables, what.policy)


def _hear(heard: _Heard, sync: Sync, outcome: Outcome) -> None:
    outcome.syncs += 1
    outcome.broken_off += not sync.whole
    outcome.error = sync.error
    if sync.gave_up is not None:
        outcome.gave_up.append(sync.gave_up)
    outcome.records += sum(map(len, sync.output.records.values()))
    heard.syncs.append(sync)
    for destination in heard.destinations:
        destination.hear(sync.output, sync.kept)


def _judged(database: Database, what: Play, heard: _Heard, outcome: Outcome) -> list[Deviation]:
    found = []
    for table in what.programme.tables:
        truth = Truth.of(database, table.query)
        key = [table.columns.index(column) for column in table.key]
        for destination in heard.destinations:
            copy = destination.copies[table.name]
            repeats = destination.habit is Habit.CLOCK and not what.manner.once and not copy.key
            stored, held, twins = without_twins(truth.rows, truth.parsed(copy.rows()), key)
            outcome.twins = max(outcome.twins, twins)
            deviation = compare(
                table.name,
                destination.habit.value,
                stored,
                held,
                what.policy,
                may_repeat=repeats,
                reshaped=named_periods(table.name, (line for sync in heard.syncs for line in sync.logged)),
            )
            if deviation is not None:
                found.append(deviation)
    return found


def _keep(folder: Path, syncs: Sequence[Sync], outcome: Outcome) -> None:
    """Write down what each sync printed, and what is wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, sync in enumerate(syncs, start=1):
        (folder / f"{number:03}.jsonl").write_bytes(b"\n".join(sync.output.lines()) + b"\n")
    (folder / "verdict.txt").write_text("\n".join([outcome.error or "", *map(str, outcome.deviations)]))
