"""What a sync remembers of a stream, so that the next process goes on where this one stopped.

Progress is a position in a fixed order plus the few things finished ahead of it, never a list of all that is done: it
stays below 4 KiB at 50,000 chunks, because readers run at most a few chunks ahead of the oldest unfinished one.
Anything a resumed run must see exactly as the first run saw it is kept resolved: the time window (an interval before
"now" means another moment tomorrow), the order, the cursor's upper bound.

Every object carries `version`. What we do not know we refuse (`state.codec`); nothing unreadable is ever taken as
empty.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1

Bounds = tuple[int, int]
"""A half-open range in TimescaleDB's internal integers."""

Covered = Bounds | tuple[int, int, int]
"""A range of time, with how much of it nobody had, in gaps that were closed; without gaps that is left out."""

Key = tuple[str, ...]
"""The values of a table's key columns, as the text PostgreSQL reads back exactly."""


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseIdentity(_Fact):
    """Which database a state belongs to: a cluster's identity and the database's oid in it."""

    system: str
    """`pg_control_system().system_identifier`; empty where the role may not see it."""
    oid: int
    name: str


class ChunkProgress(_Fact):
    """How far a hypertable is read: chunks in (range start, id) order, then those born later in id order."""

    unit: Literal["chunks"] = "chunks"
    hypertable: int
    order: Literal["oldest_first", "newest_first"] = "oldest_first"
    through: int
    """The highest chunk id when the read was planned; chunks past it were born later."""
    after: Bounds | None = None
    """(range start, id) of the last chunk before which, in order, everything is finished."""
    late_after: int = 0
    """The id of the last late chunk up to which every late chunk is finished."""
    last_chunk: int = 0
    """The highest chunk id seen so far."""
    open: dict[int, tuple[Bounds, ...]] = Field(default_factory=dict)
    """Ranges finished in chunks past `after`, by chunk id."""
    window: Bounds | None = None
    """What `snapshot_since` left of time when the read was planned."""
    finished: dict[str, tuple[Covered, ...]] | None = None
    """The time that finished chunks cover, by their ranges in the other dimensions (`snapshot.territory`)."""


class KeyProgress(_Fact):
    """How far a plain table is read: everything below `through`, and the ranges finished above it."""

    unit: Literal["keys"] = "keys"
    key: tuple[str, ...]
    through: Key | None = None
    open: tuple[tuple[Key | None, Key | None], ...] = ()


Progress = Annotated[ChunkProgress | KeyProgress, Field(discriminator="unit")]


class CursorPosition(_Fact):
    """Where an incremental stream stands between syncs, and inside one."""

    field: str
    value: str | None = None
    """The highest cursor value of the last finished sync, as PostgreSQL's text; None before the first."""
    count: int = 0
    """How many rows had exactly that value then, or none: if there are more now, they are read again, none is missed."""
    endless: int = 0
    """How many rows had infinity or NaN, which are past every value, then; the same rule."""
    upper: str | None = None
    """The highest value when the running sync started: what this sync reads up to, inclusive."""
    upper_count: int = 0
    upper_endless: int = 0
    type: str = ""
    """The column's type, for its order; empty in states of before it was kept."""


class Seen(_Fact):
    """What was known of the database, and of a stream's relation: by it is told what is new (`hypertables.landmarks`)."""

    hypertable: int
    column: int
    interval: int | None = None


class StreamState(_Fact):
    """The state of one stream outside CDC."""

    version: Literal[1] = 1
    state_type: Literal["full_refresh", "cursor_based"]
    database: DatabaseIdentity
    relation: int
    """The oid of the relation read; another oid under the same name means it was recreated."""
    complete: bool = False
    progress: Progress | None = None
    """Where a running read stands; None before the first slice and after the last."""
    cursor: CursorPosition | None = None
    seen: Seen | None = None


class Audited(_Fact):
    """What the last audit of a hypertable's compressed chunks left to compare with (`cdc.ledger`)."""

    sketch: str
    """How many rows each chunk has that was counted (`cdc.sketch`)."""
    counted: tuple[Bounds, ...]
    """Which those are: chunks with ids from, and including, the first to the second."""
    through: int
    """The highest id of any chunk then."""
    seen: str
    """What had been written then: `pg_current_snapshot()`."""
    current: bool = True
    """Whether all chunks that were compressed then are counted, and nothing was told since."""


class FollowedState(_Fact):
    """The state of one stream whose changes are followed."""

    version: Literal[1] = 1
    state_type: Literal["cdc"] = "cdc"
    relation: int
    """The oid of the relation; another oid under the same name means it was recreated."""
    complete: bool = False
    """Whether everything that existed when the stream was first read has been read; new chunks still follow."""
    progress: Progress | None = None
    """Where its snapshot stands; kept for a hypertable that is complete, because it tells which chunks are new."""
    entry: int = 0
    """The oid of the publication's entry for the table; 0 where it is published in another way, or was not kept."""
    exposed: bool = False
    """Whether a destination may hold rows of parts that are not read yet: all removals are told until they are."""
    tiered: bool = False
    """Whether its rows in tiered storage, if it had any then, have been read."""
    audit: Audited | None = None
    """None where no chunk of it was compressed."""
    seen: Seen | None = None


class ChunkEventsState(_Fact):
    """The state of the stream of chunk events."""

    version: Literal[1] = 1
    state_type: Literal["chunk_events"] = "chunk_events"
    database: DatabaseIdentity
    memory: str
    """All chunks as they were (`hypertables.chunk_memory`), as base64."""
    lsn: int | None = None
    """A position in the log by which nothing else had become of them."""


class LogPosition(_Fact):
    """What all followed streams share: how far the write-ahead log is told, and whose log that is."""

    version: Literal[1] = 1
    state_type: Literal["cdc"] = "cdc"
    database: DatabaseIdentity
    timeline: int
    slot: str
    publication: int = 0
    """The oid of the publication, since it tells whether it is still the same one; 0 where it was not kept."""
    lsn: str
    """Every transaction whose commit ends before or at it has been told: `16/B374D848`."""
    clock: int
    """The order clock (`_ab_cdc_lsn`)."""
    open: bool = True
    """Whether records may have been emitted that no state counts: false only in the last state of a clean end."""
