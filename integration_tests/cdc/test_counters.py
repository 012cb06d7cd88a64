"""What a followed sync counts: changes told, changes that slices hold, TimescaleDB's own, the log behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration_tests.cdc.conftest import Followed, fill
from source_timescaledb.health.telemetry import FILE_VARIABLE
from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.backlog import read_backlog
from testkit.database import Database


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the connector in this process writes its metrics."""
    path = tmp_path / "sync.prom"
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    return path


def value(file: Path, name: str, stream: str = "") -> float:
    """A metric, of a stream or of the sync."""
    wanted = f"source_timescaledb_{name}" + (f'{{stream="public.{stream}"}}' if stream else "")
    (found,) = (line for line in file.read_text().splitlines() if line.startswith(f"{wanted} "))
    return float(found.rpartition(" ")[2])


def test_changes_that_slices_will_hold_are_counted_as_filtered_and_those_told_as_changes(
    followed: Followed, file: Path
) -> None:
    fill(followed.database, rows=30)
    followed.publish("metrics")
    too_early = "UPDATE metrics SET value = -1 WHERE device = 3"
    ended = followed.sync("metrics", acts={("STATE", 1): lambda: followed.database.execute(too_early)})
    (changed,) = followed.database.rows("SELECT count(*) FROM metrics WHERE device = 3")

    assert len(ended.rows("metrics")) == 30
    assert value(file, "changes_filtered_total", "metrics") == changed[0]
    assert value(file, "changes_total", "metrics") == 0

    followed.database.execute("INSERT INTO metrics SELECT time, device + 100, value FROM metrics")
    followed.database.execute("DELETE FROM metrics WHERE device = 103")
    ended = followed.sync("metrics")
    assert value(file, "changes_total", "metrics") == 30 + changed[0] == len(ended.rows("metrics"))
    assert value(file, "changes_filtered_total", "metrics") == 0
    assert value(file, "rows_total", "metrics") == value(file, "changes_total", "metrics")


@pytest.mark.community
def test_what_compression_moves_is_counted_as_timescaledbs_own(community: Followed, file: Path) -> None:
    database = community.database
    fill(database, rows=30)
    database.execute(
        "ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')"
    )
    database.execute("SELECT compress_chunk(c) FROM show_chunks('metrics') c")
    community.publish("metrics")
    community.sync("metrics")
    database.execute("SELECT decompress_chunk(c) FROM show_chunks('metrics') c")
    ended = community.sync("metrics")

    assert ended.rows("metrics") == []
    assert value(file, "changes_marked_total", "metrics") == 30
    assert value(file, "rows_total", "metrics") == 0


def test_the_log_behind_a_sync_and_what_the_server_keeps_are_told(followed: Followed, file: Path) -> None:
    fill(followed.database, rows=30)
    followed.publish("metrics", "parts")
    followed.sync("metrics", "parts")

    assert value(file, "wal_retained_bytes") > 0
    assert value(file, "lag_size_bytes") < 1_000_000
    assert 0 <= value(file, "lag_age_seconds") < 60


def test_a_sync_that_nobody_looks_at_does_not_ask_for_its_lag(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(followed.database, rows=30)
    followed.publish("metrics")
    asked: list[object] = []
    monkeypatch.setattr("source_timescaledb.airbyte.lag.read_backlog", lambda *wanted: asked.append(wanted))
    followed.sync("metrics")

    assert asked == []


def test_the_connections_of_a_sync_are_counted_while_they_are_open(
    followed: Followed, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("source_timescaledb.health.telemetry.FILE_SECONDS", 0.01)
    fill(followed.database, rows=30)
    followed.publish("metrics")
    seen: list[float] = []
    followed.sync("metrics", acts={("RECORD", 30): lambda: seen.append(value(file, "connections"))})

    assert 3 <= seen[0] <= 6
    assert value(file, "connections") == 0


def test_the_end_of_a_stream_is_one_line_in_the_log(followed: Followed) -> None:
    fill(followed.database, rows=30)
    followed.publish("metrics", "parts")
    ended = followed.sync("metrics", "parts")

    summaries = [line for line in ended.logged if " rows, " in line]
    assert [line.split(":")[1].strip() for line in summaries] == ["public.metrics", "public.parts"]
    assert summaries[0].startswith("INFO: public.metrics: 30 rows, ")
    assert "; 3 chunks in 3 slices, " in summaries[0]


def test_a_backlog_is_what_was_written_behind_a_position(database: Database) -> None:
    superuser = database.as_superuser()
    row = superuser.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    assert row is not None
    database.execute("CREATE TABLE written AS SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
    backlog = read_backlog(superuser, "no_such_slot", Lsn.parse(row[0]))

    assert backlog.size > 1_000_000
    assert backlog.retained == 0
    assert read_backlog(superuser, "no_such_slot", Lsn(Lsn.parse(row[0]) + 2**40)).size == 0
    assert superuser.execute(
        "SELECT abs(extract(epoch FROM now()) - 946684800 - %s / 1e6) < 60", [backlog.now]
    ).fetchone() == (True,)
