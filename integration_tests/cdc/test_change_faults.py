"""Faults of what is written, renamed, dropped or kept while changes are followed, with the connector in its own process.

The numbers are those of the table of faults (`docs/faults.md`). What each change amounts to in all its forms is shown
where the connector runs inside the test: `test_states`, `test_rows`, `test_schema_changes`, `test_routing`, `test_audit`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg
import pytest

from integration_tests.cdc.conftest import PUBLICATION, Followed
from integration_tests.cdc.scenes import TABLES, until
from integration_tests.cdc.test_compression import COMPRESS, WORDS, make_compressible
from integration_tests.cdc.test_faults import change, confirmed, once, position
from source_timescaledb.cdc.followed import CDC_COLUMNS, DELETED_AT
from testkit.database import Database
from testkit.protocol import Json, Output
from testkit.run import At, Result

pytestmark = pytest.mark.any_server

WATCHER = "source_timescaledb.hypertables.watcher"
HYPERTABLES = ("metrics", "events")
TURN = """
SELECT CASE WHEN is_compressed THEN decompress_chunk(chunk) ELSE compress_chunk(chunk) END
 FROM (SELECT format('%I.%I', chunk_schema, chunk_name)::regclass AS chunk, is_compressed
       FROM timescaledb_information.chunks WHERE hypertable_name IN ('metrics', 'events')) AS c
"""
"""Compress each chunk that is not compressed, and decompress the others."""
TURN_ONE = f"{TURN} ORDER BY random() LIMIT 1"
LARGE = "(SELECT string_agg(md5((i * {0})::text), '') FROM generate_series(1, 300) i)"


@pytest.fixture
def compressible(community_database: Database) -> Followed:
    """Two hypertables in which compression is allowed, published and not read yet."""
    make_compressible(community_database)
    followed = Followed(community_database, f"slot_{community_database.name}")
    followed.publish(*HYPERTABLES)
    return followed


def refused(ended: Result, *words: str) -> None:
    """Fail unless it ended with one config error that has all these words."""
    assert ended.exit_code == 1
    assert [error["failure_type"] for error in ended.errors] == ["config_error"], ended.errors
    assert [word for word in words if word not in ended.errors[0]["message"]] == [], ended.errors


def told(output: Output) -> list[Json]:
    """All rows, but for when they were told."""
    return [
        {name: value for name, value in row.items() if name not in CDC_COLUMNS or name == DELETED_AT}
        for rows in output.records.values()
        for row in rows
    ]


def test_fault_05_a_state_that_nobody_kept_has_let_nothing_go(synced: Followed, tmp_path: Path) -> None:
    kept = synced.state
    change(synced)

    lost = synced.run(tmp_path, *TABLES)
    synced.destinations.clear()
    synced.state = kept
    let_go = confirmed(synced)
    again = synced.run(tmp_path, *TABLES)

    assert (lost.exit_code, again.exit_code) == (0, 0)
    assert let_go == position(kept)
    assert told(again) == told(lost)


def test_fault_06_the_same_state_twice_gives_the_same_rows(synced: Followed, tmp_path: Path) -> None:
    kept = synced.state
    synced.database.execute("UPDATE parts SET note = 'changed' WHERE id < 10")
    synced.database.execute("DELETE FROM metrics WHERE device = 1")

    first = synced.run(tmp_path, *TABLES)
    synced.state = kept
    second = synced.run(tmp_path, *TABLES)

    assert told(first) == told(second)
    assert len(told(first)) == 9 + 43
    synced.mirrors("metrics", "parts")


def test_fault_20_an_idle_stream_in_a_busy_database_ends_and_moves_on(
    synced: Followed, tmp_path: Path
) -> None:
    before = position(synced.state)
    synced.database.execute("CREATE TABLE noise (n int)")
    busy, stop = 0, threading.Event()

    def write() -> None:
        nonlocal busy
        with closing(synced.database.connect()) as writer:
            while not stop.wait(0.01):
                writer.execute("INSERT INTO noise SELECT generate_series(1, 1000)")
                writer.commit()
                busy += 1

    writing = threading.Thread(target=write)
    writing.start()
    until(lambda: busy > 10)
    ended = synced.run(tmp_path, *TABLES)
    stop.set()
    writing.join()

    assert (ended.exit_code, ended.records) == (0, {})
    assert position(ended.state()) > before


@pytest.mark.skipif(find_spec(WATCHER) is None, reason="this version has no watcher")
def test_fault_24_a_chunk_is_found_by_looking_where_the_listener_was_killed(
    synced: Followed, tmp_path: Path
) -> None:
    superuser = synced.database.as_superuser()

    def bear_a_chunk_unheard() -> None:
        superuser.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'source-timescaledb watcher'"
        )
        synced.database.execute("INSERT INTO events VALUES ('2025-05-05', 'unheard')")

    change(synced)
    ended = synced.run(tmp_path, *TABLES, at=[At("RECORD", 100, once(bear_a_chunk_unheard))])

    assert ended.exit_code == 0
    assert [row for row in ended.rows("events") if row["what"] == "unheard"]
    synced.mirrors(*TABLES)


@contextmanager
def shape_changing(database: Database) -> Iterator[Callable[[], None]]:
    """Rows of one transaction before and after its table changes, then of the next one."""
    with closing(database.connect()) as writer:

        def write() -> None:
            writer.execute("INSERT INTO parts VALUES (5001, 'before')")
            writer.execute("ALTER TABLE parts ADD COLUMN size int")
            writer.execute("INSERT INTO parts VALUES (5002, 'within', 2)")
            writer.commit()
            writer.execute("ALTER TABLE parts RENAME note TO label")
            writer.execute("INSERT INTO parts VALUES (5003, 'after', 3)")
            writer.commit()

        yield write


def test_fault_28_columns_that_come_and_go_in_mid_stream_are_honoured(
    synced: Followed, tmp_path: Path
) -> None:
    with shape_changing(synced.database) as write:
        write()

        ended = synced.run(tmp_path, *TABLES)

    assert ended.exit_code == 0
    assert [(row["id"], row["label"], row["size"]) for row in ended.rows("parts")] == [
        (5001, "before", None),
        (5002, "within", 2),
        (5003, "after", 3),
    ]


def test_fault_28_a_selected_column_that_is_dropped_is_an_error_that_names_it(
    synced: Followed, tmp_path: Path
) -> None:
    catalog = synced.source().catalog("incremental", list(TABLES))
    synced.database.execute("ALTER TABLE parts DROP COLUMN note")

    ended = synced.start(tmp_path, catalog).wait()

    refused(ended, "public.parts", "note")
    assert ended.records == {}


def test_fault_29_a_hypertable_under_another_name_is_another_stream_and_the_old_one_an_error(
    synced: Followed, tmp_path: Path
) -> None:
    catalog = synced.source().catalog("incremental", ["metrics"])
    synced.database.execute("ALTER TABLE metrics RENAME TO measurements")
    synced.database.execute("INSERT INTO measurements VALUES ('2024-01-01', 50, 1, 'new')")

    ended = synced.start(tmp_path, catalog).wait()
    renamed = synced.run(tmp_path, "measurements", "events", "parts")

    refused(ended, "public.metrics")
    assert renamed.exit_code == 0
    assert {name for _, name in renamed.records} == {"measurements"}
    synced.mirrors("measurements")


def test_fault_30_a_table_that_leaves_the_publication_is_refused(synced: Followed, tmp_path: Path) -> None:
    synced.database.execute(f"ALTER PUBLICATION {PUBLICATION} DROP TABLE parts".encode())
    synced.database.execute("UPDATE parts SET note = 'unseen'")
    before = position(synced.state)

    ended = synced.run(tmp_path, *TABLES)

    refused(ended, "public.parts", PUBLICATION)
    assert position(synced.state) == before


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL", "USING INDEX parts_pkey"])
def test_fault_32_a_large_value_that_an_update_leaves_alone_is_never_null(
    followed: Followed, tmp_path: Path, identity: str
) -> None:
    database = followed.database
    database.execute(f"ALTER TABLE parts REPLICA IDENTITY {identity}".encode())
    database.execute("ALTER TABLE parts ADD COLUMN small int")
    database.execute(f"INSERT INTO parts SELECT i, {LARGE.format('i')} FROM generate_series(1, 20) i")
    followed.publish("parts")
    followed.sync("parts")
    database.execute("UPDATE parts SET small = id")

    ended = followed.run(tmp_path, "parts")

    assert [len(row["note"]) for row in ended.rows("parts")] == [9600] * 20
    followed.mirrors("parts")


@pytest.mark.parametrize("policy", ["warn", "fail"])
def test_fault_33_a_truncated_hypertable_is_a_warning_or_an_error_as_set(
    synced: Followed, tmp_path: Path, policy: str
) -> None:
    synced.settings["truncated_tables"] = policy
    synced.database.execute("TRUNCATE metrics")

    ended = synced.run(tmp_path, *TABLES)

    assert ended.records == {}
    if policy == "warn":
        assert ended.exit_code == 0
        assert [line for line in ended.logs if "public.metrics" in line and "TRUNCATE" in line]
    else:
        refused(ended, "public.metrics", "TRUNCATE")


def test_fault_34_a_changed_key_is_a_delete_and_an_insert(synced: Followed, tmp_path: Path) -> None:
    synced.database.execute("UPDATE metrics SET device = device + 100 WHERE device = 2")
    synced.database.execute("UPDATE parts SET id = id + 1000 WHERE id = 7")

    ended = synced.run(tmp_path, *TABLES)

    assert [(row["id"], row[DELETED_AT] is None) for row in ended.rows("parts")] == [(7, False), (1007, True)]
    synced.mirrors("metrics", "parts")


def test_fault_40_a_chunk_is_read_only_when_those_who_wrote_to_it_unpublished_have_ended(
    synced: Followed, tmp_path: Path
) -> None:
    """The writer's rows are in no publication and, until it commits, in no snapshot: without the wait they were lost."""
    with closing(synced.database.connect()) as writer:
        writer.execute("INSERT INTO events VALUES ('2025-05-05', 'one'), ('2025-05-05', 'two')")
        catalog = synced.source().catalog("incremental", list(TABLES))
        run = synced.start(tmp_path, catalog)
        time.sleep(1.5)
        waited = run.process.poll() is None
        writer.commit()
        synced._hear(catalog, ended := run.wait())

    assert waited
    assert ended.exit_code == 0
    assert sorted(row["what"] for row in ended.rows("events")) == ["one", "two"]
    synced.mirrors("events")


@pytest.mark.community
def test_fault_26_chunks_that_change_their_form_during_a_load_and_after_it_lose_and_invent_nothing(
    compressible: Followed, tmp_path: Path
) -> None:
    database = compressible.database

    def turn() -> None:
        database.execute(TURN)

    loaded = compressible.run(
        tmp_path, *HYPERTABLES, at=[At("RECORD", at, once(turn)) for at in (1, 100, 250)]
    )
    database.execute("UPDATE metrics SET note = 'changed' WHERE device = 1")
    turn()
    turn()
    followed = compressible.run(tmp_path, *HYPERTABLES)

    assert (loaded.exit_code, followed.exit_code) == (0, 0)
    assert all(row[DELETED_AT] is None for row in followed.rows("metrics"))
    compressible.mirrors(*HYPERTABLES)


@pytest.mark.community
@pytest.mark.parametrize("policy", ["warn", "fail"])
def test_fault_27_rows_that_vanish_unseen_from_compressed_chunks_are_named(
    compressible: Followed, tmp_path: Path, policy: str
) -> None:
    compressible.settings["invisible_deletes"] = policy
    compressible.database.execute(COMPRESS.format_map(WORDS["metrics"]).encode())
    compressible.sync(*HYPERTABLES)
    compressible.database.execute("DELETE FROM metrics WHERE device = 3")

    ended = compressible.run(tmp_path, *HYPERTABLES)

    assert ended.records == {}
    lines = ended.logs if policy == "warn" else [error["message"] for error in ended.errors]
    assert [line for line in lines if "public.metrics vanished and the log does not tell which" in line]
    assert ended.exit_code == (0 if policy == "warn" else 1)


@contextmanager
def restless_compression(database: Database) -> Iterator[None]:
    """A writer that compresses and decompresses what it has written, all the time."""
    ending = threading.Event()

    def work() -> None:
        with closing(database.connect()) as owner:
            owner.autocommit = True
            for number in count():
                if ending.is_set():
                    return
                with suppress(psycopg.Error):  # they may run into each other
                    owner.execute(
                        "INSERT INTO events SELECT '2024-03-01'::timestamptz + %s * interval '1 day', 'new'"
                        " FROM generate_series(1, 10)",
                        [number % 20],
                    )
                    owner.execute(TURN_ONE)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        ending.set()
        worker.join()


@pytest.mark.community
@pytest.mark.slow
def test_fault_39_slots_that_are_made_while_chunks_are_compressed_can_be_decoded(
    compressible: Followed, tmp_path: Path
) -> None:
    database = compressible.database
    database.as_superuser().execute("SELECT pg_drop_replication_slot(%s)", [compressible.slot])
    compressible.settings["manage_publication"] = "full"
    with restless_compression(database):
        for number in range(3):
            compressible.slot = f"slot_{number}_{database.name}"
            compressible.state, compressible.destinations = [], {}

            ended = compressible.run(tmp_path, *HYPERTABLES)

            assert ended.exit_code == 0, ended.errors

    assert compressible.run(tmp_path, *HYPERTABLES).exit_code == 0
    compressible.mirrors(*HYPERTABLES)
