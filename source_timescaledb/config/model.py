"""The configuration as a whole, in the order in which the Airbyte UI asks for it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, SecretStr, WithJsonSchema

from source_timescaledb.config.encryption import Require, SslMode
from source_timescaledb.config.replication import Cdc, ReplicationMethod, Standard
from source_timescaledb.config.section import Names, Section, expected
from source_timescaledb.config.timescaledb import Timescaledb
from source_timescaledb.config.tunnel import NoTunnel, TunnelMethod
from source_timescaledb.config.url_parameters import UrlParameters


def _url_parameters(value: Any) -> UrlParameters:
    try:
        return UrlParameters.parse(str(value))
    except ValueError as must_be:
        raise expected(str(must_be)) from None


JdbcUrlParameters = Annotated[
    UrlParameters, BeforeValidator(_url_parameters), WithJsonSchema({"type": "string"})
]


class Configuration(Section):
    """How to reach a TimescaleDB database, and how to read it."""

    model_config = ConfigDict(title="TimescaleDB Source Spec")

    host: str = Field(
        title="Host",
        description="Host name of the database.",
        min_length=1,
        pattern=r"\S",
        json_schema_extra={"group": "db"},
    )
    port: int = Field(
        default=5432,
        title="Port",
        description="Port of the database.",
        ge=1,
        le=65535,
        examples=[5432],
        json_schema_extra={"group": "db"},
    )
    database: str = Field(
        title="Database Name",
        description="Name of the database.",
        min_length=1,
        json_schema_extra={"group": "db"},
    )
    username: str = Field(
        title="Username",
        description="Name of the role that reads the database.",
        min_length=1,
        json_schema_extra={"group": "auth"},
    )
    password: SecretStr | None = Field(
        default=None,
        title="Password",
        description="Password of that role.",
        json_schema_extra={"group": "auth", "always_show": True},
    )
    ssl_mode: SslMode = Field(
        default=Require(mode="require"),
        title="SSL Modes",
        description="How the connection to the database is encrypted.",
        json_schema_extra={"group": "security"},
    )
    schemas: Names = Field(
        default=(),
        title="Schemas",
        description="The schemas to read, case sensitive. Empty means every schema that the role may use.",
        json_schema_extra={"group": "db", "uniqueItems": True},
    )
    jdbc_url_params: JdbcUrlParameters = Field(
        default_factory=UrlParameters,
        title="JDBC URL Parameters (Advanced)",
        description="Further connection parameters in the notation of JDBC, written as "
        "key1=value1&key2=value2. Those that libpq knows too are used, others are ignored with "
        "a line in the log.",
        json_schema_extra={"group": "advanced", "pattern_descriptor": "key1=value1&key2=value2"},
    )
    tunnel_method: TunnelMethod = Field(
        default=NoTunnel(tunnel_method="NO_TUNNEL"),
        title="SSH Tunnel Method",
        description="Whether to reach the database through an SSH tunnel, and how to log in to the jump "
        "server.",
        json_schema_extra={"group": "security"},
    )
    replication_method: ReplicationMethod = Field(
        default=Standard(method="Standard"),
        title="Update Method",
        description="How new and changed rows are found.",
        json_schema_extra={"group": "advanced", "display_type": "radio"},
    )
    check_privileges: bool = Field(
        default=True,
        title="Check table privileges",
        description="While discovering, leave out tables that the role may not read.",
        json_schema_extra={"group": "performance"},
    )
    checkpoint_target_interval_seconds: int = Field(
        default=300,
        title="Checkpoint Target Time Interval",
        description="The longest, in seconds, that a sync should read before it emits its state, from which it can be "
        "resumed. States come at least that often: without CDC one follows every chunk, and every second within a long "
        "one; with CDC one follows five seconds of reading at most, or so many as are set here if those are fewer.",
        ge=1,
        le=86_400,
        json_schema_extra={"group": "performance"},
    )
    max_db_connections: int | None = Field(
        default=None,
        title="Max Concurrent Connections to Database",
        description="The most connections to open at the same time. Empty means as many as the settings "
        "need.",
        ge=1,
        json_schema_extra={"group": "performance"},
    )
    timescaledb: Timescaledb = Field(
        default_factory=Timescaledb,
        title="TimescaleDB",
        json_schema_extra={"group": "timescaledb"},
    )

    @property
    def cdc(self) -> Cdc | None:
        """The settings of change data capture, or None where a cursor finds the changes."""
        match self.replication_method:
            case Cdc() as cdc:
                return cdc
            case _:
                return None

    def readers(self, writers: int) -> int:
        """How many readers a sync has where so many writers take records at the same time.

        That is `parallel_chunks`; where it is left to us, one for each writer at least, as in Airbyte's own database
        sources. One of `max_db_connections` is the catalog's; if there is but one, they share it.
        """
        asked = self.timescaledb.parallel_chunks
        left_to_us = "parallel_chunks" not in self.timescaledb.model_fields_set
        wanted = max(asked, writers) if left_to_us else asked
        return wanted if self.max_db_connections is None else max(1, min(wanted, self.max_db_connections - 1))
