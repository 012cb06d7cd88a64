"""The facts about a TimescaleDB database that everything else is decided by; values only, no I/O.

A hypertable is a table whose rows live in chunks. A chunk is a box: one half-open range in every dimension of its
hypertable. The first open dimension, its *time*, decides which chunk a row belongs to and never changes for a row
inside a chunk (an UPDATE that would move a row to another chunk is refused by the chunk's check constraint), so a
range of time inside a chunk names a fixed set of rows for as long as nobody writes. That is what slices are cut by.

TimescaleDB keeps every range as a pair of 64-bit integers, whatever the type of the column: microseconds since 1970
for dates, timestamps and version 7 UUIDs, the plain number for integers (`ts_time_value_to_internal`,
src/time_utils.c@2.19.3). The extremes of int64 mean that the box is open on that side. We keep them so, exact at any
size, and turn them into SQL literals only where a query is written (`hypertables.bounds`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntFlag
from typing import Final, NamedTuple

from source_timescaledb.remedy import Statement, brief
from source_timescaledb.types.model import Kind, PgType

OPEN_BELOW: Final = -(2**63)
OPEN_ABOVE: Final = 2**63 - 1


class QualifiedName(NamedTuple):
    """A name with its schema, unquoted."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


class Span(NamedTuple):
    """A half-open range in TimescaleDB's internal integers; the extremes of int64 mean unbounded."""

    lower: int
    upper: int

    @property
    def empty(self) -> bool:
        """Whether nothing can lie in it."""
        return self.lower >= self.upper

    @property
    def bounded(self) -> bool:
        """Whether both ends are real values, so that the span has a width."""
        return self.lower != OPEN_BELOW and self.upper != OPEN_ABOVE

    def meet(self, other: Span) -> Span:
        """What both spans cover."""
        return Span(max(self.lower, other.lower), min(self.upper, other.upper))

    def opened(self, outer: Span) -> Span:
        """The same span inside `outer`, open on the sides where `outer` ends anyway."""
        return Span(
            OPEN_BELOW if self.lower <= outer.lower else self.lower,
            OPEN_ABOVE if self.upper >= outer.upper else self.upper,
        )


EVERYTHING: Final = Span(OPEN_BELOW, OPEN_ABOVE)
SCATTERED: Final = Span(OPEN_ABOVE - 1, OPEN_ABOVE)
"""What the catalog says of a tiered chunk that is empty, or whose rows lie between those of other chunks
(`ts_osm_chunk_range_is_invalid`, src/chunk.c@2.29.2)."""


class TimeKind(Enum):
    """How the values of a time dimension are written in SQL."""

    TIMESTAMPTZ = "timestamptz"
    TIMESTAMP = "timestamp"
    DATE = "date"
    INTEGER = "integer"
    UUID = "uuid"
    OPAQUE = "opaque"
    """Behind a custom partitioning function: ranges say nothing about the column's own values."""


class Dimension(NamedTuple):
    """One axis of a hypertable: open (time) or closed (a hash of a column)."""

    id: int
    column: str
    time: TimeKind | None
    """How the column's values relate to ranges; None for a closed dimension."""
    function: QualifiedName | None
    """The partitioning function of a closed dimension, or a custom one of an open dimension."""
    interval: int | None = None
    """The length of the range that a new chunk gets in an open dimension."""


class ChunkStatus(IntFlag):
    """The bits of `_timescaledb_catalog.chunk.status` (src/chunk.h@2.29.2)."""

    PLAIN = 0
    COMPRESSED = 1
    UNORDERED = 2
    FROZEN = 4
    PARTIAL = 8


class CompressedRelation(NamedTuple):
    """The relation that holds a chunk's compressed rows."""

    oid: int
    name: QualifiedName


class Chunk(NamedTuple):
    """One chunk as the catalog had it when the registry was read; a tuple, because there are tens of thousands."""

    id: int
    oid: int
    name: QualifiedName
    status: ChunkStatus
    box: tuple[Span, ...]
    """One span per dimension, in the order of the hypertable's dimensions."""
    compressed: CompressedRelation | None
    tiered: bool
    """Whether it is the foreign table that stands for rows in object storage (OSM)."""
    rows: float
    """The server's own estimate (`pg_class.reltuples`), negative where it has none."""
    pages: int
    """The heap's size in 8 KiB pages by the server's statistics, 0 where it has none."""
    file: int | None = None
    """The number of the heap's file (`pg_class.relfilenode`), another after every rewrite; None where unknown."""

    @property
    def span(self) -> Span:
        """Its range in time."""
        return self.box[0]

    def share_of(self, span: Span) -> float:
        """Which part of its time a part of it covers; where it is open on a side, anything in it is all of it."""
        part = self.span.meet(span)
        if part.empty:
            return 0.0
        return (part.upper - part.lower) / (self.span.upper - self.span.lower) if self.span.bounded else 1.0


@dataclass(frozen=True, slots=True)
class Hypertable:
    """A hypertable and its dimensions, time first."""

    id: int
    oid: int
    name: QualifiedName
    dimensions: tuple[Dimension, ...]
    tiered: bool = False
    """Whether a chunk of it stands for rows in object storage (OSM); there is at most one such."""

    @property
    def time(self) -> Dimension:
        """The first open dimension: the one chunks are cut by."""
        return self.dimensions[0]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why the changes of a continuous aggregate are not followed."""

    reason: str
    """A sentence."""
    statements: tuple[Statement, ...] = ()
    """What to run, after which they are."""
    remedy: str = ""
    """What to do where there is nothing to run, as a sentence."""

    @property
    def mend(self) -> str:
        """What to do, as a part of a sentence."""
        return " ".join(filter(None, (brief(self.statements), self.remedy)))


@dataclass(frozen=True, slots=True)
class ContinuousAggregate:
    """A continuous aggregate: the view the user knows and the hypertable that holds its rows."""

    view: QualifiedName
    materialization: Hypertable
    finalized: bool
    """False for the form before 2.7, whose stored rows are partial states only the view can finish."""
    readable: bool
    """Whether our role may read the materialization hypertable itself."""
    followed: bool = False
    """Whether its changes can be followed: asked only where changes are (`cdc.aggregates`)."""
    obstacle: Obstacle | None = None
    """What is in the way, where that was asked."""


class RelationKind(str, Enum):
    """What a stream reads from."""

    HYPERTABLE = "hypertable"
    CONTINUOUS_AGGREGATE = "continuous aggregate"
    TABLE = "table"
    PARTITIONED_TABLE = "partitioned table"
    VIEW = "view"
    MATERIALIZED_VIEW = "materialized view"
    FOREIGN_TABLE = "foreign table"

    @property
    def lockable(self) -> bool:
        """Whether LOCK TABLE takes it and finds rows of its own behind the name."""
        return self in (RelationKind.HYPERTABLE, RelationKind.TABLE, RelationKind.PARTITIONED_TABLE)


_LOGGED: Final = frozenset({RelationKind.TABLE, RelationKind.HYPERTABLE, RelationKind.PARTITIONED_TABLE})


class Column(NamedTuple):
    """One column our role may read."""

    name: str
    type: PgType
    typmod: int
    number: int = 0
    """Its number in its relation (`pg_attribute.attnum`); 0 where it was not asked for."""

    @property
    def scalar(self) -> str:
        """The name of the built-in type its values have below all domains; empty for any other type."""
        type_, _ = self.type.resolved(self.typmod)
        return type_.name if type_.kind is Kind.BASE and type_.schema == "pg_catalog" else ""


@dataclass(frozen=True, slots=True)
class Relation:
    """Anything that becomes a stream, under the name the user knows."""

    oid: int
    name: QualifiedName
    kind: RelationKind
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    """The primary key, else a usable unique index over NOT NULL columns, else nothing."""
    guarded: bool = False
    """Whether row-level security applies to us here, or we hold column privileges only. Chunks carry neither, so such
    a relation is read through its own name (measured: traps 34 and 35 of TimescaleDB 2.29.2)."""
    selectable: bool = True
    """Whether we hold SELECT on all of it, which LOCK TABLE needs."""
    rows: float = -1
    hypertable: Hypertable | None = None
    """The hypertable whose chunks hold its rows, also for a continuous aggregate."""
    aggregate: ContinuousAggregate | None = None

    @property
    def divisible(self) -> bool:
        """Whether its rows can be read chunk by chunk: by the chunk's name, or, where guarded, by naming their time."""
        hypertable = self.hypertable
        return hypertable is not None and not (self.guarded and self.column(hypertable.time.column) is None)

    @property
    def tiered(self) -> bool:
        """Whether rows of it are in tiered storage; no publication takes it with its chunks then."""
        return self.hypertable is not None and self.hypertable.tiered

    @property
    def whole(self) -> QualifiedName:
        """What to read it from in one query.

        The view of a real-time continuous aggregate also computes rows that are not materialized and will still change,
        so the hypertable behind it is read, as it is chunk by chunk.
        """
        if self.aggregate is None or self.hypertable is None or self.guarded:
            return self.name
        return self.hypertable.name

    @property
    def followable(self) -> bool:
        """Whether it has changes in the log: a table, or a continuous aggregate that is prepared (`cdc.aggregates`)."""
        return self.kind in _LOGGED or (self.aggregate is not None and self.aggregate.followed)

    @property
    def tells_chunks(self) -> bool:
        """Whether rows can be asked for by their chunk: views have no `tableoid`, and column privileges none on it."""
        return self.selectable and self.whole == self.table

    @property
    def table(self) -> QualifiedName:
        """The table that holds its rows, as a publication lists it."""
        return self.name if self.hypertable is None else self.hypertable.name

    @property
    def table_oid(self) -> int:
        """The oid of that table."""
        return self.oid if self.hypertable is None else self.hypertable.oid

    def column(self, name: str) -> Column | None:
        """The column of that name, if our role may read it."""
        return next((column for column in self.columns if column.name == name), None)


class ServerVersion(NamedTuple):
    """A version as (major, minor, patch)."""

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> ServerVersion:
        """Read `2.19.3`, `2.31.0-dev`, or `2.28`; anything after the digits is left out."""
        digits = [int("".join(filter(str.isdigit, part.split("-")[0])) or 0) for part in text.split(".")[:3]]
        return cls(*[*digits, 0, 0][:3])

    def __str__(self) -> str:
        return ".".join(map(str, self))


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server says of itself once, at the start of every command."""

    version_number: int
    """`server_version_num`, for example 170011."""
    system_identifier: str
    """The cluster's identity from pg_control; empty where the role may not see it."""
    database: str
    database_oid: int
    role: str
    superuser: bool
    bypasses_row_security: bool
    in_recovery: bool
    encoding: str
    extension: ServerVersion | None
    """The installed TimescaleDB extension of this database, None on plain PostgreSQL."""
    license: str
    """`timescaledb.license`: apache or timescale; empty without the extension."""


@dataclass(frozen=True, slots=True)
class Registry:
    """Every relation the role may read in the chosen schemas, by name."""

    server: ServerFacts
    relations: dict[QualifiedName, Relation] = field(default_factory=dict)
    forbidden: tuple[QualifiedName, ...] = ()
    """Relations that exist in the chosen schemas but that the role may not read at all."""
    missing_schemas: tuple[str, ...] = ()
    unusable_schemas: tuple[str, ...] = ()
    """Schemas the role has no USAGE on."""
