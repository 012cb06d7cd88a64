"""What several tests start from: data that they only read, and slices small enough for little data."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from integration_tests.slices import shrink_slices
from testkit.cluster import Cluster
from testkit.database import Database

Filled = Callable[[Database], None]


@pytest.fixture(scope="session")
def fill_load() -> Filled:
    """Makes `metrics`, 100,000 rows in five chunks, and `parts`, 30,000 rows with a key: some 30 MB of output."""

    def fill(database: Database) -> None:
        database.execute(
            "CREATE TABLE metrics (time timestamptz NOT NULL, device int, value float8, note text)"
        )
        database.execute(
            "SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')"
        )
        database.execute(
            "INSERT INTO metrics SELECT '2024-01-01'::timestamptz + i * interval '4.32 seconds', i % 100, i,"
            " repeat('n', 50) FROM generate_series(0, 99999) i"
        )
        database.execute("CREATE TABLE parts (id int PRIMARY KEY, note text)")
        database.execute("INSERT INTO parts SELECT i, repeat('p', 50) FROM generate_series(1, 30000) i")
        database.grant_select("metrics", "parts")

    return fill


@pytest.fixture(scope="module")
def load(server: Cluster, fill_load: Filled) -> Iterator[Database]:
    """A database with the tables of `fill_load`, which tests leave as they are."""
    with server.database() as database:
        fill_load(database)
        yield database


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of some 64 KiB and a STATE after each, so that little data makes many of both."""
    monkeypatch.setattr("source_timescaledb.airbyte.reading.STATE_SECONDS", 0.0)
    shrink_slices(monkeypatch, 64 * 1024)
