"""An audit that cannot be done, or not of all chunks, fails nothing, and the next one finds what it would have found."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from integration_tests.cdc.impatient import WRITERS_SECONDS
from integration_tests.cdc.scenes import begun, blocked, until
from integration_tests.cdc.test_audit import VANISHED, WHOLE_BATCHES, copied, warnings
from integration_tests.cdc.test_compression import (
    TABLES,
    Scene,
    ending_well,
    read_once,
)
from integration_tests.cdc.test_stopping import left_open
from integration_tests.inprocess import Acts, Ended, InProcess
from source_timescaledb.airbyte.ground import Ground
from source_timescaledb.cdc.counting import FIRST
from testkit.database import Database

pytestmark = pytest.mark.community

ROWS_WHEN_COMPRESSED = "SELECT ON _timescaledb_catalog.compression_chunk_size"
LAST_DAY = "'2024-02-20'::timestamptz"
LAST_CHUNK = f"show_chunks('events', newer_than => {LAST_DAY})"
APPEARED_IN = (
    "show_chunks('events', older_than => '2024-01-03'::timestamptz, newer_than => '2024-01-02'::timestamptz)"
)


@pytest.fixture
def scene(community_database: Database) -> Scene:
    return read_once(community_database)


@pytest.fixture
def wide(scene: Scene) -> Scene:
    """`events` has more chunks than are counted at once, counted before, and rows appeared in an early one."""
    scene.database.execute(
        "INSERT INTO events SELECT '2024-02-01'::timestamptz + i * interval '1 day', 'n' FROM generate_series(0, 19) i"
    )
    scene.database.execute(
        "SELECT compress_chunk(c) FROM show_chunks('events', newer_than => '2024-02-01'::timestamptz) c"
    )
    ending_well(scene.followed.sync(*TABLES))
    chunks = scene.database.rows("SELECT show_chunks('events')")
    assert FIRST < len(chunks) < 2 * FIRST
    copied(scene.database, first="2024-01-02 00:01", rows=500)
    return scene


def somebody_waits_for(database: Database, connection: psycopg.Connection) -> Callable[[], bool]:
    """Whether a session, whichever, waits for this one."""
    asked = "SELECT count(*) > 0 FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
    return lambda: database.as_superuser().execute(asked, [connection.info.backend_pid]).fetchone() == (True,)


def sync_while(scene: Scene, *statements: str) -> Ended:
    """A sync during whose second look, between its two groups of chunks, these run, and the last chunk changes its form.

    Each look waits at the last chunk: the first one until the second session stands in line, the second one for that.
    """
    scene.followed.settings["max_transaction_seconds"] = 60  # a count waits for a lock a part of that
    database = scene.database
    ((last,),) = database.rows(f"SELECT {LAST_CHUNK}::text")
    lock = f"LOCK TABLE {last} IN ACCESS EXCLUSIVE MODE".encode()
    with (
        closing(database.connect()) as first,
        closing(database.connect()) as second,
        ThreadPoolExecutor() as threads,
    ):
        acts: Acts = {("STATE", 1): lambda: first.execute(lock)}
        syncing = threads.submit(lambda: scene.followed.sync(*TABLES, acts=acts))
        until(somebody_waits_for(database, first))
        taking = threads.submit(second.execute, lock)
        until(blocked(database, second, by=first))
        first.rollback()
        taking.result()
        until(somebody_waits_for(database, second))
        for statement in statements:
            second.execute(statement.encode())
        second.commit()
        return syncing.result()


def test_rows_that_appeared_wait_for_the_next_sync_where_somebody_goes_on_writing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ground, "_patience", WRITERS_SECONDS)
    copied(scene.database, first="2024-01-02 00:01", rows=500)
    source = InProcess(scene.followed.config, retry_seconds=WRITERS_SECONDS)
    catalog = source.catalog("incremental", TABLES)

    with closing(scene.database.connect()) as writer:
        ended = source.read(catalog, scene.followed.state, {("STATE", 1): lambda: begun(writer)})

    assert ending_well(ended).records == {}
    assert not left_open(ended)
    (warning,) = [line for line in warnings(ended) if "Trying again" not in line]
    assert "public.events: not audited" in warning
    assert "Transactions are still open" in warning
    found = ending_well(source.read(catalog, ended.state()))
    assert {row["what"] for row in found.rows("events")} == {f"d{number}" for number in range(500)}
    assert ending_well(source.read(catalog, found.state())).records == {}


def test_a_catalog_that_may_not_be_read_fails_nothing_and_what_vanished_is_named_once_it_may(
    scene: Scene,
) -> None:
    scene.database.execute("INSERT INTO metrics SELECT '2024-03-01', i, i, 'n' FROM generate_series(1, 50) i")
    scene.sync()
    scene.database.execute(
        "SELECT compress_chunk(c) FROM show_chunks('metrics', newer_than => '2024-02-15'::timestamptz) c"
    )
    scene.database.execute(WHOLE_BATCHES + " AND time > '2024-02-15'")
    superuser = scene.database.as_superuser()

    superuser.execute(f"REVOKE {ROWS_WHEN_COMPRESSED} FROM public".encode())
    denied = ending_well(scene.followed.sync(*TABLES))
    superuser.execute(f"GRANT {ROWS_WHEN_COMPRESSED} TO public".encode())
    named = ending_well(scene.followed.sync(*TABLES))

    (warning,) = warnings(denied)
    assert "public.metrics: not audited" in warning
    (warning,) = warnings(named)
    assert f"Rows of public.metrics {VANISHED}" in warning
    assert ": 1 in chunk" in warning


def test_a_chunk_in_which_rows_appeared_may_be_dropped_while_it_is_counted_again(wide: Scene) -> None:
    drop = "SELECT drop_chunks('events', {}::timestamptz)"

    ended = sync_while(
        wide, drop.format("'2024-01-03'"), f"SELECT drop_chunks('events', newer_than => {LAST_DAY})"
    )

    assert ending_well(ended).records == {}
    assert warnings(ended) == []
    assert warnings(ending_well(wide.followed.sync(*TABLES))) == []


def test_rows_that_appeared_in_a_chunk_that_is_decompressed_while_it_is_counted_again_arrive(
    wide: Scene,
) -> None:
    """Nothing says any more which rows these are, so the chunk's hundred others come with them."""
    decompress = "SELECT decompress_chunk(c) FROM {} c"

    ended = sync_while(wide, decompress.format(APPEARED_IN), decompress.format(LAST_CHUNK))

    assert len(ending_well(ended).rows("events")) == 600
    (warning,) = warnings(ended)
    assert "500 rows appeared in chunk" in warning
    assert ending_well(wide.followed.sync(*TABLES)).records == {}
