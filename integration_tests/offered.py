"""What a database offers, and whether all of it can be read: what the tests of `discover` have in common."""

from __future__ import annotations

from typing import Any, Final

from psycopg import sql

from integration_tests.inprocess import Ended, InProcess
from integration_tests.truth import Truth
from testkit.database import Database
from testkit.protocol import Json, configured

Name = tuple[str, str]
"""A schema and a name in it."""

DAYS: Final = "timestamptz '2024-01-01 00:00Z' + i * interval '1 hour'"
"""The i-th hour, for chunks of a day."""


def identifier(name: Name) -> str:
    return sql.Identifier(*name).as_string(None)


def let_read_everything(database: Database, *schemas: str) -> None:
    for schema in schemas:
        for right in ("USAGE ON SCHEMA {}", "SELECT ON ALL TABLES IN SCHEMA {}"):
            database.execute(
                sql.SQL(f"GRANT {right} TO {{}}").format(
                    sql.Identifier(schema), sql.Identifier(database.reader)
                )
            )


def source(database: Database, schemas: tuple[str, ...] = (), **overrides: Any) -> InProcess:
    """The connector for these schemas, all by default; other settings are those of `timescaledb`."""
    return InProcess(database.config(schemas=list(schemas), timescaledb=overrides))


def streams(catalog: Json) -> dict[Name, Json]:
    found = {(stream["namespace"], stream["name"]): stream for stream in catalog["streams"]}
    assert len(found) == len(catalog["streams"])
    return found


def select(catalog: Json, *names: Name, sync_mode: str = "full_refresh") -> Json:
    """A configured catalog of these streams, all by default; names are those of schema and table."""
    found = streams(catalog)
    return {"streams": [configured(found[name], sync_mode, None) for name in names or found]}


def read_whole(source: InProcess, *names: Name) -> Ended:
    output = source.read(select(source.discover(), *names))
    assert output.failure is None
    assert output.errors == []
    return output


def assert_rows(database: Database, output: Ended, name: Name, where: str = "true") -> None:
    truth = Truth.of(database, f"SELECT * FROM {identifier(name)} WHERE {where}")
    assert truth.rows
    assert truth.parsed(output.records[name]) == truth.rows


def keys(stream: Json) -> list[str] | None:
    found = stream.get("source_defined_primary_key")
    return [name for (name,) in found] if found else None
