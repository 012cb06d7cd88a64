"""Slices read from a replica: none of their load on the primary, and nothing of the past."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from testkit.connector import Connector
from testkit.database import Database
from testkit.protocol import configured_catalog
from testkit.roots import Root
from testkit.run import Result
from testkit.server import Server, Standby

pytestmark = pytest.mark.any_server

ROWS = 5_000


class Pair(NamedTuple):
    """A primary's database and its standby."""

    primary: Server
    standby: Standby
    database: Database


@pytest.fixture
def pair(root: Root) -> Iterator[Pair]:
    with Server(root) as primary, primary.database() as database:
        database.execute("CREATE TABLE metrics (time timestamptz NOT NULL, value int)")
        database.execute(
            "SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')"
        )
        insert(database, 0, ROWS)
        database.grant_select("metrics")
        with primary.standby() as standby:
            standby.caught_up()
            yield Pair(primary, standby, database)


def insert(database: Database, start: int, count: int) -> None:
    database.execute(
        "INSERT INTO metrics SELECT timestamptz '2024-01-01' + i * interval '1 minute', i"
        " FROM generate_series(%s::int, %s::int - 1) i",
        (start, start + count),
    )


def read(pair: Pair, workdir: Path, host: Server, **environment: str) -> Result:
    settings: dict[str, Any] = {"replica_host": host.address.host, "replica_port": host.address.port}
    connector = Connector(pair.database.config(timescaledb=settings), workdir, environment=environment)
    return connector.read(configured_catalog(connector.discover().catalog))


def rows_scanned(server: Server, database: Database) -> int:
    with server.connect(database.name) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::int FROM pg_stat_all_tables"
            " WHERE relname LIKE '\\_hyper\\_%'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_chunks_are_scanned_on_the_replica_and_not_on_the_primary(pair: Pair, tmp_path: Path) -> None:
    result = read(pair, tmp_path, pair.standby)

    assert sorted(row["value"] for row in result.rows("metrics")) == list(range(ROWS))
    assert rows_scanned(pair.primary, pair.database) == 0
    assert rows_scanned(pair.standby, pair.database) > 0


def test_rows_the_replica_has_not_replayed_yet_are_waited_for(pair: Pair, tmp_path: Path) -> None:
    with pair.standby.connect() as connection:
        connection.execute("SELECT pg_wal_replay_pause()")
    insert(pair.database, ROWS, 10)

    behind = read(pair, tmp_path / "behind", pair.standby, SOURCE_TIMESCALEDB_RETRY_SECONDS="1")
    with pair.standby.connect() as connection:
        connection.execute("SELECT pg_wal_replay_resume()")
    caught_up = read(pair, tmp_path / "caught up", pair.standby)

    assert [error["failure_type"] for error in behind.errors] == ["transient_error"]
    assert "replayed" in behind.errors[0]["message"]
    assert behind.rows("metrics") == []
    assert len(caught_up.rows("metrics")) == ROWS + 10


def test_a_primary_is_no_replica(pair: Pair, tmp_path: Path) -> None:
    result = read(pair, tmp_path, pair.primary)

    assert result.exit_code == 1
    assert [error["failure_type"] for error in result.errors] == ["config_error"]
    assert "not in recovery" in result.errors[0]["message"]


def test_a_replica_of_another_primary_is_refused(pair: Pair, root: Root, tmp_path: Path) -> None:
    with Server(root, own_identity=True) as stranger, stranger.standby() as other:
        with stranger.connect() as connection:
            role = pair.database.reader
            password = pair.database.passwords["reader"]
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'".encode())
            connection.execute(f"CREATE DATABASE {pair.database.name} OWNER {role}".encode())
        other.caught_up()

        result = read(pair, tmp_path, other)

    assert [error["failure_type"] for error in result.errors] == ["config_error"]
    assert "another primary" in result.errors[0]["message"]
