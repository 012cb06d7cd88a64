"""The settings that only TimescaleDB needs, all in one object, all with defaults that lose nothing."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, WithJsonSchema, model_validator
from typing_extensions import Self

from source_timescaledb.config.host_keys import HostKeys
from source_timescaledb.config.section import Names, Section, expected
from source_timescaledb.config.selection import HypertableSelection
from source_timescaledb.config.since import Since


class ManagePublication(str, Enum):
    """What the connector may change in the publication."""

    OFF = "off"
    CHUNKS = "chunks"
    FULL = "full"


class SnapshotOrder(str, Enum):
    """Which chunks the first load reads first."""

    OLDEST_FIRST = "oldest_first"
    NEWEST_FIRST = "newest_first"


class OnVanishedRows(str, Enum):
    """What to do when rows vanished whose keys nobody can name any more."""

    WARN = "warn"
    FAIL = "fail"


class TieredChunks(str, Enum):
    """What to do with rows in object storage."""

    SKIP = "skip"
    READ = "read"


class StateMode(str, Enum):
    """In which of the protocol's two shapes CDC keeps its state."""

    GLOBAL = "global"
    STREAM = "stream"


def _since(value: Any) -> Since:
    try:
        return Since.parse(str(value))
    except (ValueError, OverflowError):
        raise expected(
            'an ISO 8601 date or time, a period before now such as "30 days" or PT12H, or an integer'
        ) from None


StartOfLoad = Annotated[Since, BeforeValidator(_since), WithJsonSchema({"type": "string"})]


def _host_keys(value: Any) -> HostKeys:
    try:
        return HostKeys.parse(str(value))
    except ValueError as must_be:
        raise expected(str(must_be)) from None


KnownHostKeys = Annotated[HostKeys, BeforeValidator(_host_keys), WithJsonSchema({"type": "string"})]


class Timescaledb(Section):
    """How hypertables are read, followed and repaired. The defaults suit most databases."""

    chunk_by_chunk: bool = Field(
        default=True,
        title="Read chunk by chunk",
        description="Read each hypertable in short transactions, one chunk or a part of it at a time, which "
        "can be resumed anywhere. Off: one query for each hypertable, in one transaction, as a "
        "fallback.",
    )
    include_hypertables: Names = Field(
        default=(),
        title="Include hypertables",
        description="Read only hypertables that match one of these patterns, for example metrics* or "
        "public.cpu_?. A pattern with a dot is compared with schema.name as well, one without "
        "only with the name. Empty means all.",
        examples=[["metrics*", "public.cpu_?"]],
    )
    exclude_hypertables: Names = Field(
        default=(),
        title="Exclude hypertables",
        description="Leave out hypertables that match one of these patterns, even if they are included "
        "above.",
    )
    max_transaction_seconds: float = Field(
        default=1.0,
        title="Longest transaction in seconds",
        description="How long one reading transaction may last. Compression and retention jobs wait behind "
        "it, and queries of the application behind them, so keep it short.",
        ge=0.05,
        le=60,
    )
    parallel_chunks: int = Field(
        default=2,
        title="Chunks read in parallel",
        description="How many chunks are read at the same time, each over a connection of its own.",
        ge=1,
        le=32,
    )
    fetch_rows: int = Field(
        default=1000,
        title="Rows for each fetch",
        description="The most rows a reader takes from the server at once. Large rows are taken fewer at a time.",
        ge=1,
        le=100_000,
    )
    chunk_poll_seconds: float = Field(
        default=5,
        title="Seconds between looks for new chunks",
        description="How often a running sync looks for chunks and hypertables born meanwhile.",
        ge=0.2,
        le=3600,
    )
    use_notifications: bool = Field(
        default=True,
        title="Use notifications",
        description="Also listen for notifications about new chunks, where something in the database sends "
        "them. The regular look above stays.",
    )
    manage_publication: ManagePublication = Field(
        default=ManagePublication.CHUNKS,
        title="Manage the publication",
        description="What CDC may change on the server. chunks: add the missing chunks of hypertables that "
        "the publication lists, where the role may. full: also create the publication and the "
        "slot. off: nothing.",
    )
    replica_host: str | None = Field(
        default=None,
        title="Replica host",
        description="Host of a streaming replica from which chunks are read, to spare the primary. Changes "
        "and the catalog still come from the primary.",
    )
    replica_port: int | None = Field(
        default=None,
        title="Replica port",
        description="Port of the replica, if it differs from the primary's.",
        ge=1,
        le=65535,
    )
    ssh_host_key: KnownHostKeys | None = Field(
        default=None,
        title="SSH host key",
        description="The SHA256 fingerprints of the SSH jump server's host keys, as ssh-keygen -lf prints them, or its "
        "lines of known_hosts. A server with another key is refused. Empty means that the key which the jump server "
        "shows first in a sync is trusted for that sync, and named in the log.",
        examples=["SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"],
        json_schema_extra={"multiline": True},
    )
    ssh_key_passphrase: SecretStr | None = Field(
        default=None,
        title="SSH key passphrase",
        description="The passphrase of the private key for the SSH jump server, if it has one.",
    )
    emit_chunk_metadata: bool = Field(
        default=False,
        title="Emit the chunk's name",
        description="Add a column _ts_chunk with the name of the chunk to every row of a hypertable.",
    )
    snapshot_since: StartOfLoad | None = Field(
        default=None,
        title="Load from",
        description="The first load takes only chunks and rows from here on: an ISO 8601 date or time (UTC "
        'unless it says otherwise), a period before now such as "30 days", "6 months" or PT12H, '
        "or a plain integer for hypertables with an integer time column. Empty means "
        "everything.",
        examples=["2025-01-01T00:00:00Z", "30 days", "PT12H"],
    )
    snapshot_order: SnapshotOrder = Field(
        default=SnapshotOrder.OLDEST_FIRST,
        title="Order of the first load",
        description="Whether the first load reads the oldest or the newest chunks first.",
    )
    tiered_chunks: TieredChunks = Field(
        default=TieredChunks.SKIP,
        title="Rows in tiered storage",
        description="What to do with rows of a hypertable that were moved to object storage (OSM). skip: leave them "
        "out, with a warning. read: read them too, after all other chunks and through the hypertable, which takes as "
        "long as it takes. They are in the first load only: what is in object storage does not change.",
    )
    truncated_tables: OnVanishedRows = Field(
        default=OnVanishedRows.WARN,
        title="When a table is truncated",
        description="TRUNCATE does not say which rows it removed, so CDC cannot delete them at the "
        "destination: warn in the log, or fail the sync.",
    )
    invisible_deletes: OnVanishedRows = Field(
        default=OnVanishedRows.WARN,
        title="When rows vanish unseen",
        description="Deleting whole compressed batches leaves no trace of their keys in the write-ahead "
        "log. When the audit at the end of a sync finds that: warn in the log with the range "
        "concerned, or fail the stream, once.",
    )
    chunk_events: bool = Field(
        default=False,
        title="Stream of chunk events",
        description="Offer a stream timescaledb_chunk_events with the chunks that were born, compressed, "
        "decompressed and dropped, and their ranges.",
    )
    continuous_aggregates: bool = Field(
        default=True,
        title="Continuous aggregates",
        description="Offer each continuous aggregate as a stream.",
    )
    state_mode: StateMode = Field(
        default=StateMode.GLOBAL,
        title="Shape of the CDC state",
        description="With change data capture. global: one state for all streams, those whose changes are not "
        "followed among them, as Airbyte's own databases keep it. stream: one for each stream, for PyAirbyte, which does "
        "not keep a global state. Airbyte takes the other shape only once the connection's state is cleared.",
    )

    @property
    def hypertables(self) -> HypertableSelection:
        """The hypertables that take part."""
        return HypertableSelection(self.include_hypertables, self.exclude_hypertables)

    @model_validator(mode="after")
    def _replica_port_needs_its_host(self) -> Self:
        if self.replica_port is not None and self.replica_host is None:
            raise expected("with replica_host wherever it has replica_port")
        return self
