"""What a sync cannot take in by itself it tells in the log, once: what is new while it runs, and since the last one."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from integration_tests.inprocess import Acts, Ended, InProcess
from integration_tests.watched import await_look
from testkit.database import Database
from testkit.protocol import Json

NEWS = ("is a new", "has new columns", "now span")


@dataclass
class Synced:
    """Syncs of two tables, one after the other, each with the state of the one before."""

    database: Database
    catalog: Json
    state: list[Json] = field(default_factory=list)

    def sync(self, acts: Acts | None = None) -> Ended:
        source = InProcess(
            self.database.config(timescaledb={"chunk_poll_seconds": 0.2, "exclude_hypertables": ["hidden*"]})
        )
        ended = source.read(self.catalog, self.state, acts)
        assert ended.failure is None, ended.errors
        self.state = ended.state()
        return ended


@pytest.fixture
def synced(database: Database) -> Synced:
    database.execute("CREATE TABLE metrics (time timestamptz NOT NULL, value float8)")
    database.execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')")
    database.execute("INSERT INTO metrics SELECT '2024-01-01', i FROM generate_series(1, 10) i")
    database.execute("CREATE TABLE parts (id int PRIMARY KEY)")
    database.grant_select("metrics", "parts")
    scene = Synced(database, InProcess(database.config()).catalog("incremental"))
    assert news(scene.sync()) == []
    return scene


def news(ended: Ended) -> list[str]:
    return [line for line in ended.logged if any(part in line for part in NEWS)]


def change(database: Database) -> None:
    """Make what is news, and what is none: a table, and a hypertable that is left out."""
    for table in ("events", "hidden"):
        database.execute(f"CREATE TABLE {table} (time timestamptz NOT NULL)".encode())
        database.execute(f"SELECT create_hypertable('{table}', 'time')".encode())
    database.execute("CREATE TABLE plain (id int)")
    database.grant_select("events", "hidden", "plain")
    database.execute("ALTER TABLE metrics ADD unit text, ADD site text")
    database.execute("ALTER TABLE parts ADD note text")
    database.execute("SELECT set_chunk_time_interval('metrics', interval '7 days')")


SELECT_IT = "Refresh the source schema in the connection to select"
NOT_READ = "has new columns, which are not read before they are selected"
TOLD = [
    f"INFO: public.events is a new hypertable. {SELECT_IT} it.",
    f"INFO: public.metrics {NOT_READ}: unit, site. {SELECT_IT} them.",
    "INFO: New chunks of public.metrics now span 7 days, where they spanned 1 day. Nothing has to be done.",
    f"INFO: public.parts {NOT_READ}: note. {SELECT_IT} them.",
]


def test_what_is_new_since_the_last_sync_is_told_once(synced: Synced) -> None:
    change(synced.database)

    told = news(synced.sync())

    assert told == TOLD
    assert news(synced.sync()) == []


def test_what_is_new_while_a_sync_runs_is_told_by_it_and_not_by_the_next(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("source_timescaledb.airbyte.watching.SURVEY_SECONDS", 0.0)
    synced.database.execute("INSERT INTO metrics VALUES ('2024-01-02', 1)")

    def act() -> None:
        change(synced.database)
        await_look(synced.database)
        await_look(synced.database)

    ended = synced.sync({("RECORD", 1): act})

    assert sorted(news(ended)) == sorted(TOLD)
    assert news(synced.sync()) == []


@pytest.mark.community
def test_a_new_continuous_aggregate_is_told(synced: Synced) -> None:
    database = synced.database
    database.execute(
        "CREATE MATERIALIZED VIEW daily WITH (timescaledb.continuous) AS"
        " SELECT time_bucket('1 day', time) AS bucket, count(*) FROM metrics GROUP BY 1 WITH NO DATA"
    )
    database.grant_select("daily")

    assert news(synced.sync()) == [f"INFO: public.daily is a new continuous aggregate. {SELECT_IT} it."]
    assert news(synced.sync()) == []
