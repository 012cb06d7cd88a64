"""Rows in tiered storage: left out with a warning, or read after all others, through the hypertable."""

from __future__ import annotations

import itertools
import threading
from collections import Counter

import pytest

from integration_tests.cdc.scenes import until
from integration_tests.inprocess import Ended, InProcess
from integration_tests.slices import shrink_slices
from integration_tests.tiers import bound, make_tiering, move, tier
from integration_tests.truth import Truth
from testkit.database import Database

DAYS = 6
ROWS = 24
"""In each chunk."""


@pytest.fixture
def tiered(database: Database) -> Database:
    """`metrics`, of which the chunks of the first and the third day are in tiered storage."""
    make_metrics(database)
    chunks = chunks_of(database)
    move(database, "metrics", chunks[0])
    move(database, "metrics", chunks[2])
    return database


def make_metrics(database: Database) -> None:
    database.execute("CREATE TABLE metrics (time timestamptz NOT NULL, device int, number int, note text)")
    database.execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')")
    database.execute(
        "INSERT INTO metrics SELECT '2024-01-01'::timestamptz + i * interval '1 hour', i % 5, i, 'note ' || i"
        f" FROM generate_series(0, {DAYS * ROWS - 1}) i".encode()
    )
    database.grant_select("metrics")
    make_tiering(database)
    tier(database, "metrics")


def chunks_of(database: Database) -> list[str]:
    query = (
        "SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks"
        " WHERE hypertable_name = 'metrics' AND NOT chunk_name LIKE '%tier' ORDER BY range_start"
    )
    return [name for (name,) in database.rows(query)]


def sync(database: Database, tiered_chunks: str = "read", **settings: object) -> InProcess:
    return InProcess(database.config(timescaledb={"tiered_chunks": tiered_chunks, **settings}))


def days(ended: Ended) -> dict[int, int]:
    """How many rows were read of each day."""
    assert ended.failure is None, (ended.errors, ended.logged)
    assert ended.statuses[-1] == ("public", "metrics", "COMPLETE")
    return dict(Counter(row["number"] // ROWS for row in ended.rows("metrics")))


LOCAL = dict.fromkeys((1, 3, 4, 5), ROWS)
ALL = dict.fromkeys(range(DAYS), ROWS)


def test_rows_in_tiered_storage_are_left_out_with_one_warning(tiered: Database) -> None:
    ended = InProcess(tiered.config()).read()

    assert days(ended) == LOCAL
    (warning,) = [line for line in ended.logged if "tiered" in line]
    assert warning.startswith("WARNING: public.metrics has rows in tiered storage, which are not read")
    assert "Set timescaledb.tiered_chunks to read" in warning


def test_the_warning_names_the_range_where_there_is_one(database: Database) -> None:
    make_metrics(database)
    move(database, "metrics", chunks_of(database)[0])
    bound(database, "metrics", "2024-01-01", "2024-01-02")

    ended = InProcess(database.config()).read()

    (warning,) = [line for line in ended.logged if "tiered" in line]
    assert "chunk public.metrics_tier, from 2024-01-01 00:00:00 up to 2024-01-02 00:00:00" in warning


def test_rows_in_tiered_storage_are_read_last_where_that_is_asked_for(tiered: Database) -> None:
    truth = Truth.of(tiered, "metrics")

    ended = sync(tiered).read()

    assert days(ended) == ALL
    assert truth.parsed(ended.rows("metrics")) == truth.rows
    assert [row["number"] // ROWS for row in ended.rows("metrics")[-2 * ROWS :]] == [0] * ROWS + [2] * ROWS
    assert [line for line in ended.logged if line.startswith("WARNING")] == []


def test_rows_of_one_range_in_tiered_storage_are_read(database: Database) -> None:
    make_metrics(database)
    for chunk in chunks_of(database)[:2]:
        move(database, "metrics", chunk)
    bound(database, "metrics", "2024-01-01", "2024-01-03")

    ended = sync(database).read()

    assert days(ended) == ALL
    assert any("in 1 ranges of time" in line for line in ended.logged)


def test_an_empty_tier_is_nothing(database: Database) -> None:
    make_metrics(database)

    assert days(sync(database).read()) == ALL


def test_a_chunk_that_moves_during_the_read_is_not_missed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_metrics(database)
    monkeypatch.setattr("source_timescaledb.snapshot.crew.QUEUE_BYTES", 1)
    shrink_slices(monkeypatch, 1024)
    chunk = chunks_of(database)[4]

    ended = sync(database, parallel_chunks=1).read(
        acts={("RECORD", ROWS): lambda: move(database, "metrics", chunk)}
    )

    assert days(ended) == ALL


@pytest.mark.parametrize("setting", ["skip", "read"])
@pytest.mark.parametrize("rights", ["columns", "row-level security", "one query"])
def test_tiered_storage_is_out_of_the_way_however_the_hypertable_is_read(
    tiered: Database, rights: str, setting: str
) -> None:
    if rights == "columns":
        tiered.execute(f"REVOKE SELECT ON metrics FROM {tiered.reader}".encode())
        tiered.execute(f"GRANT SELECT (time, number) ON metrics TO {tiered.reader}".encode())
    elif rights == "row-level security":
        tiered.execute("ALTER TABLE metrics ENABLE ROW LEVEL SECURITY")
        tiered.execute("CREATE POLICY half ON metrics USING (device < 5)")

    ended = sync(tiered, setting, chunk_by_chunk=rights != "one query").read()

    assert days(ended) == (ALL if setting == "read" else LOCAL)


def test_row_level_security_holds_in_tiered_storage(tiered: Database) -> None:
    tiered.execute("ALTER TABLE metrics ENABLE ROW LEVEL SECURITY")
    tiered.execute("CREATE POLICY one ON metrics USING (device = 1)")
    truth = Truth.of(tiered, "metrics", role="reader")

    ended = sync(tiered).read()

    assert truth.parsed(ended.rows("metrics")) == truth.rows
    assert {row["device"] for row in ended.rows("metrics")} == {1}


def test_no_other_chunk_is_locked_while_tiered_storage_is_read(tiered: Database) -> None:
    """The storage may take hours: here it waits for a table that somebody holds."""
    with tiered.connect() as holder:
        holder.execute("LOCK TABLE metrics_storage IN ACCESS EXCLUSIVE MODE")
        source = sync(tiered)
        ended: list[Ended] = []
        reading = threading.Thread(target=lambda: ended.append(source.read()))
        reading.start()
        until(lambda: bool(locks(tiered)))
        locked = locks(tiered)
        holder.rollback()
        reading.join()

    assert locked == {"metrics", "metrics_tier"}
    assert days(ended[0]) == ALL


def locks(database: Database) -> set[str]:
    """On which tables a session of ours holds locks that reads tiered storage."""
    query = """
    SELECT c.relname::text FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE a.application_name LIKE 'source-timescaledb%' AND c.relkind <> 'i'
      AND n.nspname IN ('public', '_timescaledb_internal')
      AND EXISTS (SELECT FROM pg_locks t WHERE t.pid = a.pid AND t.relation = 'metrics_tier'::regclass)
    """
    return {name for (name,) in database.as_superuser().execute(query).fetchall()}


def test_a_window_of_time_holds_in_tiered_storage(tiered: Database) -> None:
    ended = sync(tiered, snapshot_since="2024-01-02T00:00:00Z").read()

    assert days(ended) == dict.fromkeys(range(1, DAYS), ROWS)


def test_rows_that_grow_past_a_cursor_are_found_in_tiered_storage(tiered: Database) -> None:
    tiered.execute("UPDATE metrics_storage SET number = number + 10000 WHERE time < '2024-01-02'")
    source = sync(tiered)
    catalog = source.catalog("incremental", metrics="number")

    first = source.read(catalog)
    tiered.execute("INSERT INTO metrics_storage VALUES ('2024-01-01 12:34', 1, 20000, 'late')")
    second = source.read(catalog, first.state())

    assert len(first.rows("metrics")) == DAYS * ROWS
    assert [row["number"] for row in second.rows("metrics")] == [20000]


def test_a_read_that_is_resumed_reads_tiered_storage_once_more_at_most(
    tiered: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("source_timescaledb.airbyte.reading.STATE_SECONDS", 0.0)
    source = sync(tiered)
    catalog = source.catalog()
    whole = source.read(catalog)

    for count in range(1, len(whole.states)):
        rest = source.read(catalog, whole.state(count))
        read = Counter(row["number"] for row in rest.rows("metrics"))
        assert set(range(ROWS)) | set(range(2 * ROWS, 3 * ROWS)) <= read.keys()
        assert set(read.values()) == {1}
    assert source.read(catalog, whole.state()).rows("metrics") == []


@pytest.mark.parametrize("setting", ["skip", "read"])
def test_check_tells_of_tiered_storage(tiered: Database, setting: str) -> None:
    succeeded, _, logs = sync(tiered, setting).check()

    assert succeeded
    told = [line for line in logs if "Rows in tiered storage are not read: public.metrics" in line]
    assert len(told) == (setting == "skip")


@pytest.mark.usefixtures("small_slices")
def test_rows_in_tiered_storage_are_read_although_chunks_are_born_faster_than_they_are_read(
    tiered: Database,
) -> None:
    later = itertools.count(100)

    def bear() -> None:
        for day in (next(later) for _ in range(5)):
            tiered.execute(
                "INSERT INTO metrics VALUES ('2024-01-01'::timestamptz + %s * interval '1 day', 0, %s)",
                [day, day * ROWS],
            )

    ended = sync(tiered).read(acts={("STATE", number): bear for number in range(1, 100)})

    assert "born faster than they are read" in "".join(ended.logged)
    found = days(ended)
    assert {day: rows for day, rows in found.items() if day < 100} == dict.fromkeys(range(DAYS), ROWS)
