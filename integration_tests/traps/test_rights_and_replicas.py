"""Rows that a role may not see, rights that end with a chunk, snapshots that a standby gets wrong.

A chunk has neither the policies of its hypertable nor the column privileges that were granted before it was born; where
either matters the connector reads through the hypertable, and follows no changes. It asks no standby what was seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import psycopg
import pytest

from integration_tests.cdc.conftest import Followed, fill, make_tables
from integration_tests.inprocess import InProcess
from integration_tests.truth import Truth
from testkit.database import Database
from testkit.roots import Root
from testkit.server import Server, Standby


class Pair(NamedTuple):
    """A database that is followed, on a primary, and the primary's standby."""

    followed: Followed
    standby: Standby


@pytest.fixture
def pair(root: Root) -> Iterator[Pair]:
    with Server(root) as primary, primary.database() as database:
        make_tables(database)
        fill(database)
        followed = Followed(database, f"slot_{database.name}")
        followed.publish("events")
        with primary.standby() as standby:
            yield Pair(followed, standby)


@pytest.mark.any_server
def test_trap_33_a_snapshot_of_a_standby_calls_transactions_seen_that_are_open(pair: Pair) -> None:
    followed, standby = pair
    database = followed.database
    with closing(database.connect()) as writer, closing(standby.connect(database.name)) as reading:
        writer.execute("INSERT INTO events VALUES ('2024-01-01', 'open')")
        (xid,) = writer.execute("SELECT pg_current_xact_id()::text").fetchone() or ("",)
        database.execute("INSERT INTO events VALUES ('2024-01-01', 'committed')")
        standby.caught_up()
        seen = "SELECT pg_visible_in_snapshot(%s::xid8, pg_current_snapshot()), count(*) FROM events WHERE what = 'open'"
        assert reading.execute(seen, [xid]).fetchone() == (True, 0), "seen, and not there"
        followed.settings |= {"replica_host": standby.address.host, "replica_port": standby.address.port}

        refused = followed.sync("events")

        (error,) = refused.errors
        assert (refused.records, error["failure_type"]) == ({}, "config_error")
        assert "its snapshots do not tell which transactions they see" in error["message"]
        writer.commit()
    without = InProcess(
        database.config(
            username=database.owner, password=database.passwords["owner"], timescaledb=followed.settings
        )
    )
    ended = without.read(without.catalog(streams=["events"]))
    assert ended.failure is None
    truth = Truth.of(database, "events")
    assert truth.parsed(ended.rows("events")) == truth.rows


def chunks(database: Database) -> list[str]:
    return [name for (name,) in database.rows("SELECT show_chunks('metrics')::text ORDER BY 1")]


def test_trap_34_a_chunk_that_is_read_by_its_own_name_knows_no_policies(followed: Followed) -> None:
    database = followed.database
    fill(database)
    database.grant_select("metrics")
    database.execute("ALTER TABLE metrics ENABLE ROW LEVEL SECURITY")
    database.execute(
        f"CREATE POLICY even ON metrics FOR SELECT TO {database.reader} USING (device % 2 = 0)".encode()
    )
    reader = database.session("reader")
    count = "SELECT count(*) FROM {} WHERE device % 2 = 1"
    assert reader.execute(count.format("metrics").encode()).fetchone() == (0,)
    assert reader.execute(count.format(chunks(database)[0]).encode()).fetchone() == (43,)
    followed.publish("metrics")
    database.grant_replication()
    followed.as_reader = True

    ended = InProcess(database.config()).read()
    refused = followed.sync("metrics")

    truth = Truth.of(database, "metrics", role="reader")
    assert truth.parsed(ended.rows("metrics")) == truth.rows
    assert refused.records == {}
    assert "row-level security" in refused.errors[0]["message"]


def test_trap_35_column_privileges_end_with_the_chunks_of_their_moment(followed: Followed) -> None:
    database = followed.database
    fill(database)
    database.execute(f"GRANT SELECT (time, device) ON metrics TO {database.reader}".encode())
    database.execute("INSERT INTO metrics VALUES ('2025-05-05', 1, 1, 'a later chunk')")
    reader = database.session("reader")
    first, *_, last = chunks(database)
    assert len(reader.execute(f"SELECT time, device FROM {first}".encode()).fetchall()) == 100
    for statement in (f"SELECT time, device FROM {last}", "LOCK TABLE metrics IN ACCESS SHARE MODE"):
        with reader.transaction(), pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(statement.encode())
    followed.publish("metrics")
    database.grant_replication()
    followed.as_reader = True

    ended = InProcess(database.config()).read()
    refused = followed.sync("metrics")

    truth = Truth.of(database, "SELECT time, device FROM metrics", role="reader")
    assert ended.failure is None
    assert truth.parsed(ended.rows("metrics")) == truth.rows
    assert refused.records == {}
    assert "readable for the role in some columns only" in refused.errors[0]["message"]
