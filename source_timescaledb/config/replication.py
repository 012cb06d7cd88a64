"""How changes are found: `replication_method`, either by a cursor column or from the write-ahead log.

The third method of Airbyte's `source-postgres`, Xmin, cannot exist here: rows of a compressed chunk have no
`xmin` (the server refuses the column), so `reading` refuses it and names these two.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from source_timescaledb.config.section import Section


class LsnCommitBehaviour(str, Enum):
    """When the server may forget the write-ahead log that we have read."""

    WHILE_READING = "While reading Data"
    AFTER_LOADING = "After loading Data in the destination"


class InvalidPositionBehaviour(str, Enum):
    """What to do when the server no longer has the write-ahead log from where the last sync ended."""

    FAIL = "Fail sync"
    RESYNC = "Re-sync data"


class Cdc(Section):
    """Read inserts, updates and deletes from the write-ahead log. Recommended where rows change."""

    model_config = ConfigDict(title="Read Changes using Write-Ahead Log (CDC)")
    method: Literal["CDC"]
    replication_slot: str = Field(
        title="Replication Slot",
        description="Name of the logical replication slot, made with the plugin pgoutput. One slot serves "
        "one connection.",
        min_length=1,
        max_length=63,
        pattern="^[a-z0-9_]+$",
        json_schema_extra={
            "always_show": True,
            "pattern_descriptor": "lower-case letters, digits and underscores",
        },
    )
    publication: str = Field(
        title="Publication",
        description="Name of the publication that lists the hypertables and tables whose changes are read.",
        min_length=1,
        max_length=63,
        json_schema_extra={"always_show": True},
    )
    initial_waiting_seconds: int = Field(
        default=1200,
        title="Initial Waiting Time in Seconds (Advanced)",
        description="How long the first sync waits for transactions that are already open on the server, "
        "since the write-ahead log can only be followed from a moment that none of them spans.",
        ge=120,
        le=2400,
    )
    lsn_commit_behaviour: LsnCommitBehaviour = Field(
        default=LsnCommitBehaviour.AFTER_LOADING,
        title="LSN commit behaviour",
        description="When the server may discard write-ahead log that was read. After loading is safe: a "
        "destination that fails loses nothing. While reading frees disk earlier, but then a "
        "failing destination forces a full re-sync.",
    )
    heartbeat_action_query: str = Field(
        default="",
        title="Heartbeat query (Advanced)",
        description="SQL to run on the primary at the start of each sync, where something watches for it. It is not "
        "needed to let the server discard write-ahead log: each sync leaves a message of its own there.",
    )
    invalid_cdc_cursor_position_behavior: InvalidPositionBehaviour = Field(
        default=InvalidPositionBehaviour.FAIL,
        title="Invalid CDC position behavior (Advanced)",
        description="What to do when the server has already discarded the write-ahead log from where the "
        "last sync ended: fail, so that somebody decides, or read all streams again.",
    )
    initial_load_timeout_hours: int = Field(
        default=8,
        title="Initial Load Timeout in Hours (Advanced)",
        description="After so many hours of first loads a sync ends in good order; the next one goes on there.",
        ge=4,
        le=24,
    )


class Standard(Section):
    """Find new and changed rows by a cursor column, by default the time column. Deletes stay unseen."""

    model_config = ConfigDict(title="Scan Changes with User Defined Cursor")
    method: Literal["Standard"]


ReplicationMethod = Annotated[Cdc | Standard, Field(discriminator="method")]
