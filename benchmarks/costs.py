"""What runs took, and how one compares with another. Pure: numbers in, numbers out.

Programs take a while before they do anything: an interpreter starts, modules are imported. That part is the same for ten
rows and for ten million, so it is measured alone, by a command of the same program that never asks the server, and taken
away; `START_UP_INCLUDED` keeps it. Memory is the highest of the whole process, start-up and all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import median
from typing import Final

MILLION: Final = 1_000_000
RESOLUTION_SECONDS: Final = 0.02
"""The system counts the processor time of others in hundredths of a second: less than two compares with nothing."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of a program took: seconds, and the most bytes that were resident."""

    wall: float
    client_cpu: float
    server_cpu: float
    peak_memory: int


NOTHING: Final = Cost(0.0, 0.0, 0.0, 0)


def typical(costs: Sequence[Cost]) -> Cost:
    """The median of each part."""
    return Cost(
        wall=median(cost.wall for cost in costs),
        client_cpu=median(cost.client_cpu for cost in costs),
        server_cpu=median(cost.server_cpu for cost in costs),
        peak_memory=int(median(cost.peak_memory for cost in costs)),
    )


@dataclass(frozen=True, slots=True)
class Run:
    """A program has read so many rows and printed so many bytes; `start_up` is what it takes to do nothing."""

    rows: int
    output: int
    cost: Cost
    start_up: Cost = NOTHING

    @property
    def wall(self) -> float:
        """Seconds after start-up."""
        return self.cost.wall - self.start_up.wall

    @property
    def client_cpu(self) -> float:
        """Seconds of the client's processor time after start-up."""
        return self.cost.client_cpu - self.start_up.client_cpu


class Measure(Enum):
    """What is compared. All but memory are compared per row."""

    WALL = "wall"
    START_UP_INCLUDED = "wall, start-up included"
    CLIENT_CPU = "client CPU"
    SERVER_CPU = "server CPU"
    MEMORY = "peak memory"

    def of(self, run: Run) -> float:
        """Its value in a run: seconds or bytes."""
        match self:
            case Measure.WALL:
                return run.wall
            case Measure.START_UP_INCLUDED:
                return run.cost.wall
            case Measure.CLIENT_CPU:
                return run.client_cpu
            case Measure.SERVER_CPU:
                return run.cost.server_cpu
            case Measure.MEMORY:
                return float(run.cost.peak_memory)

    def ratio(self, run: Run, floor: Run) -> float | None:
        """How many times the floor's; None where either is too small to tell."""
        ours, theirs = self.of(run), self.of(floor)
        if self is Measure.MEMORY:
            return ours / theirs if theirs else None
        if min(ours, theirs) < RESOLUTION_SECONDS:
            return None
        return (ours / run.rows) / (theirs / floor.rows)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, and their range."""

    middle: float
    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float | None]) -> Spread | None:
        """The spread of the values there are; None if there are none."""
        known = [value for value in values if value is not None]
        return cls(median(known), min(known), max(known)) if known else None


@dataclass(slots=True)
class Contest:
    """One table, read in turns: the runs of each by name, round by round; all are compared with one, the floor."""

    title: str
    what: str
    floor: str
    everybody: dict[str, list[Run]] = field(default_factory=dict)

    def add(self, runs: Mapping[str, Run]) -> None:
        """Take in a round: one run of each, by name."""
        for name, run in runs.items():
            self.everybody.setdefault(name, []).append(run)

    def ratio(self, contender: str, measure: Measure) -> Spread | None:
        """How many times the floor's a contender's cost was, over the rounds."""
        pairs = zip(self.everybody[contender], self.everybody[self.floor], strict=True)
        return Spread.over(measure.ratio(run, floor) for run, floor in pairs)

    @property
    def rounds(self) -> int:
        """How many rounds there were."""
        return len(self.everybody[self.floor])

    @property
    def contenders(self) -> list[str]:
        """The names of all but the floor."""
        return [name for name in self.everybody if name != self.floor]


@dataclass(frozen=True, slots=True)
class Figures:
    """The medians of one contender's runs, as a person reads them."""

    rows: int
    rows_per_second: float | None
    bytes_per_second: float | None
    """Both None where it was over too soon to tell."""
    wall: float
    start_up: float
    client_cpu_per_million: float
    server_cpu_per_million: float
    peak_memory: int

    @classmethod
    def over(cls, runs: Sequence[Run]) -> Figures:
        """The medians; rates are those after start-up."""
        rows = runs[0].rows
        net, output = median(run.wall for run in runs), median(run.output for run in runs)
        known = net >= RESOLUTION_SECONDS
        return cls(
            rows=rows,
            rows_per_second=rows / net if known else None,
            bytes_per_second=output / net if known else None,
            wall=median(run.cost.wall for run in runs),
            start_up=runs[0].start_up.wall,
            client_cpu_per_million=max(median(run.client_cpu for run in runs), 0.0) * MILLION / rows,
            server_cpu_per_million=median(run.cost.server_cpu for run in runs) * MILLION / rows,
            peak_memory=int(median(run.cost.peak_memory for run in runs)),
        )


@dataclass(frozen=True, slots=True)
class ManyChunks:
    """A hypertable of so many small chunks; seconds are those after start-up."""

    chunks: int
    rows: int
    read_seconds: float
    copy_seconds: float
    discover_seconds: float
    largest_state: int
    """Bytes of the longest STATE message, its line feed included."""
    peak_memory: int

    @property
    def milliseconds_per_chunk(self) -> float:
        """What reading took, by the number of chunks."""
        return 1000 * self.read_seconds / self.chunks


@dataclass(frozen=True, slots=True)
class RecentChunks:
    """A first load with `snapshot_since`, of the last few chunks only."""

    chunks: int
    wanted: int
    scanned: int
    """Chunks that the server says were scanned."""
    rows: int
    read_seconds: float


@dataclass(frozen=True, slots=True)
class HugeChunk:
    """A chunk of many rows."""

    runs: list[Run]
    columns: int
    longest_transaction: float
    """Seconds, as seen in pg_stat_activity."""
    longest_gap: float
    """The longest time between two looks there."""
    limit: float
    """`max_transaction_seconds`."""


@dataclass(frozen=True, slots=True)
class LargeTransaction:
    """A transaction of many rows, followed."""

    rows: int
    bytes_per_second: int | None
    """How fast its reader takes them, at most; None is as fast as they come."""
    output: int
    wall: float
    peak_memory: int


@dataclass(frozen=True, slots=True)
class Chunks:
    """All of part two."""

    many: list[ManyChunks]
    recent: RecentChunks
    huge: HugeChunk
