"""What a reader does to the application: statements that fail because of a publication, locks that others queue behind.

The connector makes no publication that breaks anything, and holds no lock for longer than a slice takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg
import pytest

from integration_tests.cdc.aggregates import aggregate, ending_well, refresh, table_of
from integration_tests.cdc.conftest import Followed, fill
from integration_tests.cdc.scenes import blocked, until
from integration_tests.inprocess import InProcess
from source_timescaledb.airbyte.ground import Ground
from testkit.database import Database

CREATE_SLOT = "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')"
HYPERTABLE = "SELECT create_hypertable('{}', 'time')"
WRITERS_SECONDS = 1.0
PATIENCE = "SET lock_timeout = '{}'"
COMPRESS = "SELECT compress_chunk(c, true) FROM show_chunks('metrics') c"
DECOMPRESS = "SELECT decompress_chunk(c, true) FROM show_chunks('metrics') c"


def make_plain(database: Database, table: str) -> None:
    database.execute(f"CREATE TABLE {table} (time timestamptz NOT NULL, n int)".encode())


def test_trap_28_a_publication_of_all_tables_lets_no_hypertable_be_made(followed: Followed) -> None:
    """Since 2.20, nor a continuous aggregate. One that lists the table by its name always did that."""
    database, superuser = followed.database, followed.database.as_superuser()
    fill(database)
    make_plain(database, "later")
    refusing: list[Callable[[], None]] = [lambda: database.execute(HYPERTABLE.format("later").encode())]
    if tuple(map(int, database.cluster.timescaledb.split(".")[:2])) < (2, 20):
        superuser.execute("CREATE PUBLICATION everything FOR TABLE later")
    else:
        superuser.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        refusing += [lambda: aggregate(database, "hourly")] * database.cluster.community
    for statement in refusing:
        with pytest.raises(psycopg.Error, match="publication") as refused:
            statement()
        assert refused.value.sqlstate == "TS101"
    superuser.execute("DROP PUBLICATION everything")
    followed.settings["manage_publication"] = "full"

    ending_well(followed.sync("metrics", "events"))

    for statement in refusing:
        statement()
    database.execute("INSERT INTO later VALUES ('2024-01-01', 1)")
    assert ending_well(followed.sync("metrics", "events")).records == {}


def test_trap_29_updates_and_refreshes_fail_once_what_has_no_identity_is_published(
    followed: Followed,
) -> None:
    database = followed.database
    fill(database)
    database.execute("ALTER TABLE events REPLICA IDENTITY DEFAULT")
    tables = ["events"]
    statements: list[Callable[[], None]] = [
        lambda: database.execute("UPDATE events SET what = 'changed' WHERE what = 'n5'"),
        lambda: database.execute("DELETE FROM events WHERE what = 'n6'"),
    ]
    if database.cluster.community:
        aggregate(database, "hourly")
        database.execute("UPDATE metrics SET value = 1")
        tables.append(table_of(database, "hourly"))
        statements.append(lambda: refresh(database, "hourly"))
    database.execute(f"CREATE PUBLICATION naive FOR TABLE {', '.join(tables)}".encode())
    for statement in statements:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="replica identity"):
            statement()
    database.execute("DROP PUBLICATION naive")
    followed.settings["manage_publication"] = "full"

    ended = followed.sync()

    (error,) = {error["message"]: error for error in ended.errors}.values()
    assert error["failure_type"] == "config_error"
    assert 'ALTER TABLE "public"."events" REPLICA IDENTITY FULL;' in error["message"]
    assert database.value("SELECT count(*) FROM pg_publication") == 0
    for statement in statements:
        statement()
    database.execute('ALTER TABLE "public"."events" REPLICA IDENTITY FULL;')
    ending_well(followed.sync())
    for statement in statements:
        statement()
    followed.settings["manage_publication"] = "chunks"
    ending_well(followed.sync("metrics", "events"))
    followed.mirrors("metrics", "events")


@pytest.mark.community
@pytest.mark.usefixtures("small_slices")
def test_trap_30_whoever_reads_a_chunk_for_long_stalls_compression_and_behind_it_everybody(
    community: Followed,
) -> None:
    database = community.database
    fill(database, rows=3000)
    database.execute(
        "ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')"
    )
    chunk, *_ = database.rows("SELECT show_chunks('metrics')::text ORDER BY 1")[0]
    with (
        closing(database.connect()) as reader,
        closing(database.connect()) as policy,
        ThreadPoolExecutor() as executor,
    ):
        reader.execute(f"SELECT count(*) FROM {chunk}".encode())
        compressing = executor.submit(policy.execute, "SELECT compress_chunk(%s)", [chunk])
        until(blocked(database, policy, by=reader))
        database.execute(PATIENCE.format("100ms").encode())
        for statement in (
            "SELECT count(*) FROM metrics",
            "INSERT INTO metrics VALUES ('2024-01-01', 99, 1, 'x')",
        ):
            with pytest.raises(psycopg.errors.LockNotAvailable):
                database.execute(statement.encode())
        reader.rollback()
        compressing.result()
        policy.rollback()
    community.publish("metrics")

    def policies() -> None:
        """Nobody waits longer than a slice may last, and some more on a slow machine."""
        with closing(database.connect()) as application:
            application.autocommit = True
            application.execute(PATIENCE.format("5s").encode())
            for number, statement in enumerate((COMPRESS, DECOMPRESS, COMPRESS)):
                application.execute(statement)
                application.execute("INSERT INTO metrics VALUES ('2024-01-01', 99, %s, 'x')", [number])
                application.execute("DELETE FROM metrics WHERE device = 99")

    with ThreadPoolExecutor() as executor:
        running = []
        acts = {("RECORD", 1): lambda: running.append(executor.submit(policies))}
        ending_well(community.sync("metrics", acts=acts))
        running[0].result()

    ending_well(community.sync("metrics"))
    community.mirrors("metrics")


@contextmanager
def open_writer(database: Database) -> Iterator[psycopg.Connection]:
    with closing(database.connect()) as writer:
        writer.execute("DELETE FROM parts WHERE id = 1")
        yield writer


@pytest.mark.any_server
def test_trap_31_a_slot_is_not_made_while_anybody_writes(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = followed.database
    fill(database)
    followed.settings["manage_publication"] = "full"
    with (
        open_writer(database) as writer,
        closing(database.connect("superuser", options="-c statement_timeout=0")) as maker,
        ThreadPoolExecutor() as executor,
    ):
        made = executor.submit(maker.execute, CREATE_SLOT, ["naive"])
        until(blocked(database, maker, by=writer))
        maker.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            made.result()
        with monkeypatch.context() as patched:
            patched.setattr(Ground, "_patience", WRITERS_SECONDS)
            catalog = followed.source().catalog("incremental", ["parts"])
            ended = InProcess(followed.config, retry_seconds=1.0).read(catalog)
        (error,) = ended.errors
        assert error["failure_type"] == "transient_error"
        assert f"process {writer.info.backend_pid} (role {database.owner}" in error["message"]
        assert (
            database.rows("SELECT slot_name FROM pg_replication_slots WHERE slot_name = %s", [followed.slot])
            == []
        )

    ending_well(followed.sync("parts"))

    followed.mirrors("parts")
