"""Writes to compressed chunks that the log does not show: what appeared arrives, and where rows vanished is named.

Each scene asks the raw log first, so that the write is known to be invisible on the server at hand.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from integration_tests.cdc.conftest import PUBLICATION
from integration_tests.cdc.test_compression import (
    COMPRESS,
    DECOMPRESS,
    DELETE,
    INSERT,
    TABLES,
    UPDATE,
    Scene,
    each,
    ending_well,
    read_once,
)
from integration_tests.cdc.test_stopping import STOP, left_open
from integration_tests.inprocess import Ended
from integration_tests.truth import Truth
from source_timescaledb.cdc.compressing import DIRECT_COMPRESS, DIRECT_DELETE
from testkit.database import Database
from testkit.run import At

pytestmark = pytest.mark.community

WHOLE_BATCHES = "DELETE FROM metrics WHERE device = 3"
VANISHED = "vanished and the log does not tell which"


@pytest.fixture
def scene(community_database: Database) -> Scene:
    return read_once(community_database)


def warnings(ended: Ended) -> list[str]:
    return [line for line in ended.logged if line.startswith("WARNING")]


def copied(
    database: Database, *, first: str, rows: int, connection: psycopg.Connection | None = None
) -> None:
    """Rows of `events` that are written compressed, a second apart."""
    owner = connection or database.session("owner")
    owner.execute(f"SET {DIRECT_COMPRESS[0]} = on".encode())
    database.execute("DROP TABLE IF EXISTS prepared")
    database.execute(
        "CREATE TABLE prepared AS SELECT %s::timestamptz + i * interval '1 second' AS time, 'd' || i AS what"
        " FROM generate_series(0, %s - 1) i",
        [first, rows],
    )
    lines = database.rows("SELECT time, what FROM prepared ORDER BY time")
    with owner.cursor().copy("COPY events (time, what) FROM STDIN") as copy:
        for line in lines:
            copy.write_row(line)
    database.execute("DROP TABLE prepared")


def test_a_delete_of_whole_batches_is_named_by_its_chunks_and_range_once(scene: Scene) -> None:
    scene.database.execute(WHOLE_BATCHES)
    assert scene.told() == {}, "the log tells nothing"

    ended = ending_well(scene.followed.sync(*TABLES))

    (warning,) = warnings(ended)
    assert f"Rows of public.metrics {VANISHED}" in warning
    assert ", from 2024-01-01 00:00:00 up to 2024-01-02 00:00:00" in warning
    assert warning.count("_chunk, from 2024") == 3
    assert ended.records == {}
    assert warnings(ending_well(scene.followed.sync(*TABLES))) == []


def test_a_delete_of_whole_batches_fails_the_sync_once_where_that_is_asked_for(scene: Scene) -> None:
    scene.followed.settings["invisible_deletes"] = "fail"
    scene.database.execute(WHOLE_BATCHES)
    scene.run(INSERT)

    ended = scene.followed.sync(*TABLES)

    assert ended.failure is not None
    (error,) = ended.errors
    assert error["failure_type"] == "config_error"
    assert VANISHED in error["message"]
    assert "Refresh the stream" in error["message"]
    assert dict(status[1:] for status in ended.statuses) == {"metrics": "INCOMPLETE", "events": "COMPLETE"}
    assert scene.followed.sync(*TABLES).failure is None


def test_a_delete_of_whole_batches_is_told_row_by_row_with_the_setting_that_check_names(scene: Scene) -> None:
    scene.database.as_superuser().execute(
        f'ALTER DATABASE "{scene.database.name}" SET {DIRECT_DELETE} = off'.encode()
    )
    scene.database.disconnect()
    scene.database.execute(WHOLE_BATCHES)

    assert scene.told()["metrics"].bare["Delete"] == 43
    assert scene.sync() == each(43, events=0)


def test_what_compression_and_the_application_do_in_the_open_is_no_finding(scene: Scene) -> None:
    scene.run(INSERT, UPDATE, DELETE, COMPRESS, DECOMPRESS, COMPRESS)
    scene.together("DELETE FROM {table} WHERE {name} = 'n7'", "SAVEPOINT here", DELETE, "ROLLBACK TO here")
    scene.database.execute("VACUUM FULL metrics")

    ended = ending_well(scene.followed.sync(*TABLES))

    assert warnings(ended) == []
    scene.followed.mirrors(*TABLES)
    assert warnings(ending_well(scene.followed.sync(*TABLES))) == []


def test_only_what_vanished_unseen_is_counted_where_the_log_tells_of_other_rows(scene: Scene) -> None:
    scene.run(INSERT, DELETE)
    scene.database.execute(WHOLE_BATCHES + " AND time < '2024-01-02'")
    scene.run(COMPRESS)

    (warning,) = warnings(ending_well(scene.followed.sync(*TABLES)))

    assert ": 14 in chunk" in warning


def test_rows_written_compressed_arrive_once_where_nothing_else_lies_in_their_range(scene: Scene) -> None:
    copied(scene.database, first="2024-01-02 00:01", rows=500)
    assert scene.told() == {}, "the log tells nothing"

    ended = ending_well(scene.followed.sync(*TABLES))

    assert len(ended.rows("events")) == 500
    scene.followed.mirrors(*TABLES)
    (warning,) = warnings(ended)
    assert "500 rows appeared in chunk" in warning
    assert ending_well(scene.followed.sync(*TABLES)).records == {}


def test_rows_told_before_come_twice_only_where_they_lie_among_rows_written_compressed(scene: Scene) -> None:
    """Without a key that is the limit: here, the three rows of the hour."""
    copied(scene.database, first="2024-01-02 00:01", rows=3000)

    ended = ending_well(scene.followed.sync(*TABLES))

    assert len(ended.rows("events")) == 3003


def test_rows_written_compressed_arrive_even_if_they_were_decompressed_since(scene: Scene) -> None:
    """Nobody can tell them from the chunk's others by then, so all of it is read; the UPDATE is told before its row."""
    copied(scene.database, first="2024-01-02 00:01", rows=500)
    scene.database.execute("UPDATE events SET what = 'changed' WHERE what = 'd7'")
    source = scene.followed.source()
    catalog = source.catalog("incremental", TABLES)

    ended = ending_well(source.read(catalog, scene.followed.state))

    told = [row["what"] for row in ended.rows("events")]
    assert told[:2] == ["d7", "changed"]
    assert len(told) == 2 + 100 + 500
    assert {f"d{number}" for number in range(500)} <= set(told)
    assert ending_well(source.read(catalog, ended.state())).records == {}


def test_a_table_with_a_key_keeps_its_rows_when_a_chunk_is_read_again(scene: Scene) -> None:
    """`merge_chunks` moves the rows of one chunk into another, unseen."""
    first, second = scene.database.rows("SELECT show_chunks('metrics')::text ORDER BY 1")[:2]
    scene.database.execute(f"CALL merge_chunks('{first[0]}', '{second[0]}')".encode())
    assert scene.told() == {}

    ended = ending_well(scene.followed.sync(*TABLES))

    assert len(ended.rows("metrics")) == 200
    scene.followed.mirrors("metrics")
    assert warnings(ending_well(scene.followed.sync(*TABLES))) == []


def test_a_chunk_that_is_split_loses_nothing(scene: Scene) -> None:
    chunk = scene.database.rows("SELECT show_chunks('metrics')::text ORDER BY 1")[0][0]
    try:
        scene.database.execute(f"CALL split_chunk('{chunk}')".encode())
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this version does not split compressed chunks")

    scene.database.execute("DELETE FROM metrics WHERE note = 'n99'")
    ended = ending_well(scene.followed.sync(*TABLES))

    split, counted = warnings(ended)
    assert "Chunks of public.metrics are new and hold what another chunk held before" in split
    assert "from 2024-01-01 12:00:00 up to 2024-01-02 00:00:00" in split
    assert VANISHED in counted
    truth = Truth.of(scene.database, "metrics")
    kept = scene.followed.destinations["metrics"].rows(truth) - truth.rows
    assert [row[3] for row in kept] == ["n99"], "the delete that nobody was told of, and nothing else"
    assert warnings(ending_well(scene.followed.sync(*TABLES))) == []


def test_a_chunk_that_is_split_fails_the_stream_once_where_that_is_asked_for(scene: Scene) -> None:
    scene.followed.settings["invisible_deletes"] = "fail"
    chunk = scene.database.rows("SELECT show_chunks('metrics')::text ORDER BY 1")[0][0]
    try:
        scene.database.execute(f"CALL split_chunk('{chunk}')".encode())
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this version does not split compressed chunks")

    ended = scene.followed.sync(*TABLES)

    assert [error["message"].split(" are new")[0] for error in ended.errors] == ["Chunks of public.metrics"]
    ending_well(scene.followed.sync(*TABLES))
    scene.followed.mirrors(*TABLES)


def test_without_a_key_the_rows_of_a_chunk_that_was_split_off_come_twice(scene: Scene) -> None:
    """That is the limit: a chunk that is born is read."""
    chunk = scene.database.rows("SELECT show_chunks('events')::text ORDER BY 1")[0][0]
    try:
        scene.database.execute(f"CALL split_chunk('{chunk}', '2024-01-01 18:00')".encode())
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this version does not split compressed chunks")

    ended = ending_well(scene.followed.sync(*TABLES))

    assert len(ended.rows("events")) == 25
    (warning,) = warnings(ended)
    assert "public.events" in warning


def test_the_rows_of_a_chunk_that_is_attached_arrive(scene: Scene) -> None:
    database = scene.database
    chunk = database.rows("SELECT show_chunks('metrics')::text ORDER BY 1")[0][0]
    database.execute("SELECT decompress_chunk(%s)", [chunk])
    database.execute(f"CALL detach_chunk('{chunk}')".encode())
    database.execute(f"INSERT INTO {chunk} VALUES ('2024-01-01 00:00:07', 3, 1, 'while detached')".encode())
    ending_well(scene.followed.sync(*TABLES))
    slices = '{"time": ["2024-01-01", "2024-01-02"]}'
    database.execute(f"CALL attach_chunk('metrics', '{chunk}', '{slices}')".encode())

    ended = ending_well(scene.followed.sync(*TABLES))

    assert len(ended.rows("metrics")) == 101
    scene.followed.mirrors("metrics")
    database.execute("UPDATE metrics SET note = 'later' WHERE note = 'while detached'")
    assert scene.sync() == each(1, events=0)


def test_a_compressed_chunk_that_is_truncated_by_its_name_is_named(scene: Scene) -> None:
    chunk = scene.database.rows("SELECT show_chunks('events')::text ORDER BY 1")[0][0]
    scene.database.execute(f"TRUNCATE {chunk}".encode())
    assert scene.told() == {}

    (warning,) = warnings(ending_well(scene.followed.sync(*TABLES)))

    assert "Rows of public.events" in warning
    assert f": 100 in chunk {chunk}" in warning


def test_chunks_that_are_dropped_or_newly_compressed_are_no_finding(scene: Scene) -> None:
    scene.database.execute("SELECT drop_chunks('metrics', older_than => '2024-01-02'::timestamptz)")
    scene.database.execute("INSERT INTO metrics SELECT '2024-02-01', i, i, 'n' FROM generate_series(1, 50) i")
    scene.database.execute("INSERT INTO events SELECT '2024-02-01', 'n' FROM generate_series(1, 50) i")
    scene.run(
        "SELECT compress_chunk(c) FROM show_chunks('{table}', newer_than => '2024-01-15'::timestamptz) c"
    )

    assert warnings(ending_well(scene.followed.sync(*TABLES))) == []
    scene.database.execute("DELETE FROM metrics WHERE device = 7 AND time > '2024-01-15'")

    (warning,) = warnings(ending_well(scene.followed.sync(*TABLES)))

    assert ": 1 in chunk" in warning


def test_a_chunk_that_was_compressed_and_deleted_from_between_two_syncs_is_named(scene: Scene) -> None:
    scene.run(DECOMPRESS)
    scene.sync()
    scene.run(
        "SELECT compress_chunk(c) FROM show_chunks('{table}', older_than => '2024-01-03'::timestamptz) c"
    )
    assert warnings(ending_well(scene.followed.sync(*TABLES))) == []
    scene.run(
        "SELECT compress_chunk(c) FROM show_chunks('{table}', newer_than => '2024-01-03'::timestamptz) c"
    )
    scene.database.execute(WHOLE_BATCHES + " AND time >= '2024-01-03'")

    (warning,) = warnings(ending_well(scene.followed.sync(*TABLES)))

    assert ": 14 in chunk" in warning or ": 15 in chunk" in warning
    assert warnings(ending_well(scene.followed.sync(*TABLES))) == []


def test_a_chunk_that_was_compressed_and_changed_in_the_open_between_two_syncs_is_no_finding(
    scene: Scene,
) -> None:
    scene.run(DECOMPRESS)
    scene.sync()
    scene.run(INSERT, COMPRESS, UPDATE, DELETE)

    assert warnings(ending_well(scene.followed.sync(*TABLES))) == []
    scene.followed.mirrors(*TABLES)
    assert warnings(ending_well(scene.followed.sync(*TABLES))) == []


def test_what_a_killed_sync_found_is_found_again(scene: Scene) -> None:
    copied(scene.database, first="2024-01-02 00:01", rows=500)
    scene.database.execute(WHOLE_BATCHES)
    kept = list(scene.followed.state)

    def killed() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scene.followed.sync(*TABLES, acts={("RECORD", 400): killed})
    assert scene.followed.state == kept

    ended = ending_well(scene.followed.sync(*TABLES))

    assert len(ended.rows("events")) == 500
    assert [VANISHED in line for line in warnings(ended)] == [False, True]


def test_what_a_stopped_sync_found_is_found_again_and_its_state_says_that_it_was_told(
    scene: Scene, tmp_path: Path
) -> None:
    copied(scene.database, first="2024-01-02 00:01", rows=5000)

    stopped = scene.followed.run(tmp_path, *TABLES, at=[At("RECORD", 10, STOP)])

    assert stopped.exit_code == -signal.SIGTERM
    assert len(stopped.rows("events")) > 10
    assert left_open(stopped)

    ended = ending_well(scene.followed.sync(*TABLES))

    assert {row["what"] for row in ended.rows("events")} >= {f"d{number}" for number in range(5000)}
    assert any("appeared" in line for line in warnings(ended))


def test_writers_and_restless_compression_are_no_finding(scene: Scene) -> None:
    """Between the messages of the audit's own sync: transactions that its counts see and those they do not."""
    steps = iter([UPDATE, DELETE, DECOMPRESS, COMPRESS, "DELETE FROM {table} WHERE {name} = 'n9'"])
    scene.run(INSERT)

    def act() -> None:
        if step := next(steps, ""):
            scene.run(step)

    messages: dict[tuple[str, int], Any] = {("STATE", number): act for number in (1, 2)}
    ended = ending_well(scene.followed.sync(*TABLES, acts={**messages, ("RECORD", 1): act}))

    assert warnings(ended) == []
    assert warnings(ending_well(scene.followed.sync(*TABLES))) == []
    scene.followed.mirrors(*TABLES)


def test_a_hypertable_without_compression_is_not_counted(scene: Scene) -> None:
    assert "audit" in scene.followed.state[0]["global"]["stream_states"][0]["stream_state"]
    scene.database.execute("CREATE TABLE plain (time timestamptz NOT NULL, n int)")
    scene.database.execute("SELECT create_hypertable('plain', 'time')")
    scene.database.execute("INSERT INTO plain VALUES ('2024-01-01', 1)")
    scene.database.execute(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE plain".encode())

    ended = ending_well(scene.followed.sync("plain"))

    assert "audit" not in ended.state()[0]["global"]["stream_states"][0]["stream_state"]
