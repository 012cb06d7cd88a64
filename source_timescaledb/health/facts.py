"""What is asked of a server beyond the registry, to judge whether changes can be followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from source_timescaledb.cdc.aggregates import Unrefreshable
from source_timescaledb.cdc.compressing import Compressing
from source_timescaledb.config.replication import Cdc
from source_timescaledb.config.timescaledb import Timescaledb
from source_timescaledb.errors import ConnectorError
from source_timescaledb.hypertables.model import QualifiedName, Relation, ServerFacts
from source_timescaledb.postgres.barrier import OpenWriter
from source_timescaledb.postgres.identity import ReplicaIdentity
from source_timescaledb.postgres.publication import MissingChunk, Publication, PublicationMarks
from source_timescaledb.postgres.slot import Slot
from source_timescaledb.postgres.timeline import Fork, WalPoint
from source_timescaledb.remedy import Statement


@dataclass(frozen=True, slots=True)
class Aim:
    """What is to be done with a server: the settings, and the relations whose changes are to be followed."""

    cdc: Cdc
    settings: Timescaledb
    server: ServerFacts
    relations: Sequence[Relation]
    """Those with changes in the log, and those that are offered and have none."""
    chosen: bool = False
    """Whether a connection has chosen them. Else they are all that there are, and what some of them lack is a warning."""
    unselected: Mapping[QualifiedName, frozenset[str]] = field(default_factory=dict)
    """Columns that a connection leaves out, by relation."""

    @property
    def followable(self) -> list[Relation]:
        """The relations that have changes in the log."""
        return [relation for relation in self.relations if relation.followable]

    @property
    def tiered(self) -> frozenset[QualifiedName]:
        """The tables with a chunk in tiered storage, with which no publication takes them."""
        return frozenset(relation.table for relation in self.relations if relation.tiered)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the server's log stands, as a replication connection is told it."""

    here: WalPoint | None = None
    """None where there is no such connection."""
    forks: tuple[Fork, ...] = ()
    """Where its timeline has left those that it comes from."""
    refusal: ConnectorError | None = None
    """Why there is no such connection."""


@dataclass(frozen=True, slots=True)
class Silent:
    """A relation of whose old rows the log does not tell the key."""

    name: QualifiedName
    mend: Statement
    """After which it does."""


@dataclass(frozen=True, slots=True)
class ReplicationFacts:
    """What a server says of its logical replication, of our rights in it, and of our slot and publication."""

    wal_level: str
    may_replicate: bool
    may_make_temporary: bool
    slots_used: int
    slots_allowed: int
    slot: Slot | None
    publication: Publication | None
    may_create: bool = True
    """Whether the role may make publications in this database."""
    senders_used: int = 0
    senders_allowed: int = 10
    unlisted: tuple[QualifiedName, ...] = ()
    """Tables of which not all changes are published, apart from chunks that are missing."""
    unowned: tuple[QualifiedName, ...] = ()
    """Those of them that the role may not publish."""
    missing: tuple[MissingChunk, ...] = ()
    """Chunks of published hypertables that are not."""
    unsafe: tuple[ReplicaIdentity, ...] = ()
    """Published tables on which the application's UPDATE and DELETE fail."""
    endangered: tuple[ReplicaIdentity, ...] = ()
    """Tables that are to be published, on which they would."""
    silent: tuple[Silent, ...] = ()
    """Of what is to be followed, whose updates and deletes do not tell whose they are."""
    unrefreshable: tuple[Unrefreshable, ...] = ()
    """Continuous aggregates whose refresh fails because their rows are published."""
    unsent: Mapping[QualifiedName, tuple[str, ...]] = field(default_factory=dict)
    """Generated columns whose values are not sent with changes."""
    writers: tuple[OpenWriter, ...] = ()
    """The transactions that have written and not ended, of the whole server."""
    compressing: Compressing = field(default_factory=Compressing)
    """Of the tables that would be followed."""
    standing: Standing = field(default_factory=Standing)
    retained: int = 0
    """Bytes of log that the server keeps for the slot."""
    marks: PublicationMarks | None = None
    """By what the publication is known, and by the oids of relations their entries in it."""
