"""A stream whose changes are followed: what it selects, what of it is read, and how its records are written.

A record of a change is the row's JSON object, as a slice would have it, with three fields behind it: `_ab_cdc_lsn`, the
order clock; `_ab_cdc_updated_at`, when the change was committed; `_ab_cdc_deleted_at`, the same for a row that is gone.
(Airbyte's source-postgres has them under these names; destinations deduplicate by the first and honour the last.)

A row that is gone is told by its key, or whole where the replica identity is FULL. A stream without a key has deletes
only under FULL. There each record is one row more or, with `_ab_cdc_deleted_at`, one row less, and an UPDATE is both:
so a destination that appends can count what is left, and one that was given a key by the user keeps the newest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from source_timescaledb.cdc.coverage import Coverage
from source_timescaledb.cdc.ledger import Ledger
from source_timescaledb.counters import StreamCounters
from source_timescaledb.hypertables.model import Column, Hypertable, QualifiedName, Relation
from source_timescaledb.types.row import key

LSN: Final = "_ab_cdc_lsn"
UPDATED_AT: Final = "_ab_cdc_updated_at"
DELETED_AT: Final = "_ab_cdc_deleted_at"
LSN_KEY: Final = f'"{LSN}":'.encode()
"""What stands before the order clock in a record, where `cdc_fields` begins."""
CDC_COLUMNS: Final = (LSN, UPDATED_AT, DELETED_AT)


@dataclass(slots=True)
class FollowedStream:
    """One stream of one sync."""

    relation: Relation
    columns: tuple[Column, ...]
    """The selected ones."""
    metadata: bool
    """Whether records carry the name of their chunk."""
    coverage: Coverage
    ledger: Ledger | None = None
    """Where its rows are counted; None where there is no compression."""
    emitted: int = 0
    """Records of changes since they were last counted."""
    emitted_size: int = 0
    """What their lines weigh."""
    truncated: int = 0
    """How often rows were truncated that had been read."""
    counters: StreamCounters = field(default_factory=lambda: StreamCounters(""))

    @property
    def name(self) -> QualifiedName:
        """The name the user knows."""
        return self.relation.name

    @property
    def hypertable(self) -> Hypertable | None:
        """The hypertable that holds its rows."""
        return self.relation.hypertable

    @property
    def refreshed(self) -> bool:
        """Whether a transaction that deletes rows mostly inserts them again: a refresh of a continuous aggregate."""
        return self.relation.aggregate is not None and bool(self.relation.key)

    def take_emitted(self) -> tuple[int, int]:
        """How many records of changes were emitted since this was last asked, and how many bytes they are."""
        emitted = self.emitted, self.emitted_size
        self.emitted = self.emitted_size = 0
        return emitted

    @property
    def separator(self) -> bytes:
        """What stands between a row's own fields and those of the change."""
        return b"," if self.columns or self.metadata else b""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The columns' names as JSON strings."""
        return tuple(key(column.name).encode() for column in self.columns)


def cdc_fields(clock: int, updated_at: str, *, deleted: bool = False) -> bytes:
    """The last fields of a record, with the closing brace; `updated_at` is ISO 8601 in UTC."""
    return LSN_KEY + b"%d" % clock + after_clock(updated_at, deleted=deleted)


def after_clock(updated_at: str, *, deleted: bool = False) -> bytes:
    """What of them stands behind the clock."""
    gone = f'"{updated_at}"' if deleted else "null"
    return f',"{UPDATED_AT}":"{updated_at}","{DELETED_AT}":{gone}}}'.encode()
