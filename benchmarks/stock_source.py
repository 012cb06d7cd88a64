"""The comparison: a source for one table, written as airbyte-cdk's documentation shows it.

`AbstractSource` with one `Stream` per table; a server-side cursor so that memory stays bounded, rows as dictionaries,
and values that JSON does not know turned into ones that it does by psycopg's own loaders. One query, one transaction, no
checkpoints. `limit` in the configuration ends it early: at its rate a whole table would take the benchmark too long.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

import psycopg
from airbyte_cdk.entrypoint import launch
from airbyte_cdk.models import ConnectorSpecification, SyncMode
from airbyte_cdk.sources import AbstractSource
from airbyte_cdk.sources.streams import Stream
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.numeric import FloatLoader
from psycopg.types.string import TextLoader

ROWS_PER_FETCH: Final = 1000
JSON_TYPES: Final = {
    "smallint": "integer",
    "integer": "integer",
    "bigint": "integer",
    "real": "number",
    "double precision": "number",
    "numeric": "number",
    "boolean": "boolean",
    "ARRAY": "array",
}


class Table(Stream):
    """A table of the schema `public`."""

    primary_key = None
    namespace = "public"

    def __init__(self, config: Mapping[str, Any], table: str) -> None:
        self._config = config
        self._table = table

    @property
    def name(self) -> str:
        """The table's name."""
        return self._table

    @cache  # noqa: B019 - as the CDK caches its own
    def get_json_schema(self) -> Mapping[str, Any]:
        """The columns and their JSON types."""
        with connect(self._config) as connection:
            columns = connection.execute(
                "SELECT column_name, data_type FROM information_schema.columns"
                " WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position",
                [self._table],
            ).fetchall()
        properties = {
            name: {"type": ["null", JSON_TYPES.get(data_type, "string")]} for name, data_type in columns
        }
        return {"type": "object", "properties": properties}

    def read_records(
        self,
        sync_mode: SyncMode,  # noqa: ARG002 - the CDK's signature
        cursor_field: list[str] | None = None,  # noqa: ARG002 - as above
        stream_slice: Mapping[str, Any] | None = None,  # noqa: ARG002 - as above
        stream_state: Mapping[str, Any] | None = None,  # noqa: ARG002 - as above
    ) -> Iterable[Mapping[str, Any]]:
        """Every row, in the order of the table."""
        query = sql.SQL("SELECT * FROM {} LIMIT {}").format(
            sql.Identifier("public", self._table), sql.Literal(self._config.get("limit"))
        )
        with (
            connect(self._config) as connection,
            connection.cursor(name="records", row_factory=dict_row) as cursor,
        ):
            cursor.itersize = ROWS_PER_FETCH
            yield from cursor.execute(query)


class StockSource(AbstractSource):
    """One stream: the table that the configuration names."""

    def spec(self, logger: logging.Logger) -> ConnectorSpecification:  # noqa: ARG002 - the CDK's signature
        """Anything goes."""
        return ConnectorSpecification(connectionSpecification={"type": "object", "properties": {}})

    def check_connection(
        self,
        logger: logging.Logger,  # noqa: ARG002 - the CDK's signature
        config: Mapping[str, Any],
    ) -> tuple[bool, Any]:
        """Whether the database lets us in."""
        connect(config).close()
        return True, None

    def streams(self, config: Mapping[str, Any]) -> list[Stream]:
        """The table."""
        return [Table(config, config["table"])]


def connect(config: Mapping[str, Any]) -> psycopg.Connection[Any]:
    """A connection that loads what JSON does not know as numbers and text."""
    connection = psycopg.connect(
        host=config["host"],
        port=config["port"],
        dbname=config["database"],
        user=config["username"],
        password=config["password"],
    )
    connection.adapters.register_loader("numeric", FloatLoader)
    connection.adapters.register_loader("bytea", TextLoader)
    return connection


if __name__ == "__main__":
    launch(StockSource(), sys.argv[1:])
