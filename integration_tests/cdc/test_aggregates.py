"""Continuous aggregates whose changes are followed: a refresh tells each changed bucket once, whatever kind it is.

The rows lie in a hypertable of TimescaleDB's own. What a destination holds afterwards is compared with that hypertable,
not with the view, which may compute more.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import psycopg
import pytest

from integration_tests.cdc.aggregates import (
    DAILY,
    SIX_HOURLY,
    aggregate,
    calm,
    ending_well,
    eventually,
    identify,
    mirrors,
    publish,
    refresh,
    refresh_by_policy,
    start_background_workers,
    table_of,
)
from integration_tests.cdc.conftest import PUBLICATION, Followed, fill, make_tables
from integration_tests.inprocess import Ended
from source_timescaledb.cdc.followed import DELETED_AT
from testkit.database import Database

pytestmark = pytest.mark.community

FIRST: Final = "time < '2024-01-01 06:00Z'"
"""The rows of the first bucket."""
CHANGES: Final = f"""
UPDATE metrics SET value = value + 0.5 WHERE device = 1 AND {FIRST};
DELETE FROM metrics WHERE device = 2 AND {FIRST};
INSERT INTO metrics VALUES ('2024-01-01 00:00:00.1Z', 77, 1, 'new')
"""
CHANGED: Final = {(1, True), (2, False), (77, True)}
"""Devices of the first bucket, and whether the bucket is still there."""


@pytest.fixture
def followed(community_database: Database) -> Followed:
    """A hypertable with rows of three days; no aggregate and no publication yet."""
    make_tables(community_database)
    fill(community_database)
    return Followed(community_database, f"slot_{community_database.name}")


@pytest.fixture
def synced(followed: Followed) -> Followed:
    """The same with the aggregate `hourly`, synced once."""
    aggregate(followed.database, "hourly")
    publish(followed, "hourly")
    ended = ending_well(followed.sync("hourly"))
    assert len(ended.rows("hourly")) == 84
    mirrors(followed, "hourly")
    return followed


def change(database: Database, statements: str = CHANGES) -> None:
    for statement in statements.split(";"):
        database.execute(statement.encode())


def told(ended: Ended, name: str = "hourly", column: str = "device") -> list[tuple[Any, bool]]:
    """Each record's device, and whether its bucket is there."""
    return [(row[column], row[DELETED_AT] is None) for row in ended.rows(name)]


@pytest.mark.parametrize("merge", ["off", "on"])
def test_a_refresh_tells_each_changed_bucket_once_and_those_that_vanished_as_deleted(
    synced: Followed, merge: str
) -> None:
    synced.database.execute(f"SET timescaledb.enable_merge_on_cagg_refresh = {merge}".encode())
    change(synced.database)
    refresh(synced.database, "hourly")

    ended = ending_well(synced.sync("hourly"))

    assert sorted(told(ended)) == sorted(CHANGED)
    assert set(ended.records) == {("public", "hourly")}
    mirrors(synced, "hourly")
    assert ending_well(synced.sync("hourly")).records == {}


def test_discover_offers_a_followed_aggregate_as_followed_with_its_groups_as_key(synced: Followed) -> None:
    offered = {stream["name"]: stream for stream in synced.source().discover()["streams"]}

    assert offered["hourly"]["source_defined_primary_key"] == [["bucket"], ["device"]]
    assert offered["hourly"]["source_defined_cursor"]
    assert offered["hourly"]["default_cursor_field"] == ["_ab_cdc_lsn"]
    assert DELETED_AT in offered["hourly"]["json_schema"]["properties"]


def test_a_full_refresh_of_a_followed_aggregate_is_read_as_without_changes(synced: Followed) -> None:
    source = synced.source()

    ended = ending_well(source.read(source.catalog("full_refresh", ["hourly"])))

    assert len(ended.rows("hourly")) == 84
    assert DELETED_AT not in ended.rows("hourly")[0]


def test_buckets_of_a_new_chunk_arrive_and_its_changes_after_them(synced: Followed) -> None:
    database = synced.database
    for value in (1, 2, 3):
        database.execute(
            "INSERT INTO metrics VALUES ('2025-05-05', 1, %s, 'x')"
            " ON CONFLICT (device, time) DO UPDATE SET value = EXCLUDED.value",
            [value],
        )
        refresh(database, "hourly")

        ended = ending_well(synced.sync("hourly"))

        assert [row["total"] for row in ended.rows("hourly")] == [value]
    mirrors(synced, "hourly")


def test_a_real_time_aggregate_is_told_as_far_as_it_is_materialized(followed: Followed) -> None:
    database = followed.database
    aggregate(database, "hourly", real_time=True)
    publish(followed, "hourly")
    ending_well(followed.sync("hourly"))
    database.execute("INSERT INTO metrics VALUES ('2026-01-01', 1, 1, 'not yet materialized')")

    assert ending_well(followed.sync("hourly")).records == {}

    assert database.value("SELECT count(*) FROM hourly") == 85
    mirrors(followed, "hourly")
    refresh(database, "hourly")
    assert told(ending_well(followed.sync("hourly"))) == [(1, True)]
    mirrors(followed, "hourly")


def test_an_aggregate_of_an_aggregate_follows_under_its_own_name(followed: Followed) -> None:
    database = followed.database
    aggregate(database, "hourly")
    aggregate(database, "daily", DAILY)
    publish(followed, "hourly", "daily")
    ending_well(followed.sync("hourly", "daily"))
    mirrors(followed, "hourly", "daily")
    change(database)
    refresh(database, "hourly", "daily")

    ended = ending_well(followed.sync("hourly", "daily"))

    assert len(ended.rows("hourly")) == 3
    assert {row["day"] for row in ended.rows("daily")} <= {"2024-01-01T00:00:00.000000Z"}
    mirrors(followed, "hourly", "daily")


def test_an_aggregate_in_a_schema_of_its_own_comes_out_there(followed: Followed) -> None:
    database = followed.database
    database.execute('CREATE SCHEMA "My reports"')
    aggregate(database, '"My reports"."The hours"')
    publish(followed, "The hours")
    source = followed.source()
    source.config["schemas"] = ["My reports"]
    catalog = source.catalog("incremental")
    first = ending_well(source.read(catalog))
    change(database)
    refresh(database, '"My reports"."The hours"')

    second = ending_well(source.read(catalog, first.state()))

    assert len(first.rows("The hours", "My reports")) == 84
    assert set(second.records) == {("My reports", "The hours")}


def test_columns_that_were_renamed_come_out_under_the_names_of_the_view(synced: Followed) -> None:
    database = synced.database
    change(database)
    refresh(database, "hourly")
    database.execute("ALTER MATERIALIZED VIEW hourly RENAME COLUMN device TO machine")
    database.execute("ALTER MATERIALIZED VIEW hourly RENAME COLUMN bucket TO hour")
    database.execute("ALTER MATERIALIZED VIEW hourly RENAME COLUMN total TO amount")
    database.execute(f"UPDATE metrics SET value = -1 WHERE device = 3 AND {FIRST}".encode())
    refresh(database, "hourly")
    synced.destinations.clear()

    ended = ending_well(synced.sync("hourly"))

    assert sorted(told(ended, column="machine")) == sorted({*CHANGED, (3, True)})
    assert {row["hour"] for row in ended.rows("hourly")} == {"2024-01-01T00:00:00.000000Z"}
    assert all(row["amount"] is not None for row in ended.rows("hourly"))


def test_an_aggregate_under_another_name_is_another_stream(synced: Followed) -> None:
    database = synced.database
    database.execute("ALTER MATERIALIZED VIEW hourly RENAME TO six_hourly")
    change(database)
    refresh(database, "six_hourly")

    ended = ending_well(synced.sync("six_hourly"))

    assert set(ended.records) == {("public", "six_hourly")}
    mirrors(synced, "six_hourly")


def test_groups_of_null_are_rows_like_any_other(followed: Followed) -> None:
    database = followed.database
    aggregate(
        database,
        "notes",
        "SELECT time_bucket('1 day', time) AS day, nullif(device % 3, 1) AS class, left(note, 2) AS start,"
        " count(*) AS number FROM metrics GROUP BY 1, 2, 3",
    )
    publish(followed, "notes")
    ending_well(followed.sync("notes"))
    database.execute("DELETE FROM metrics WHERE device IN (1, 4) AND time < '2024-01-02' AND note LIKE 'n5%'")
    database.execute("UPDATE metrics SET note = NULL WHERE device = 2 AND time > '2024-01-03'")
    refresh(database, "notes")

    ending_well(followed.sync("notes"))

    mirrors(followed, "notes")


def compress(database: Database, name: str = "hourly") -> None:
    database.execute(f"SELECT compress_chunk(c) FROM show_chunks('{name}') c".encode())


@pytest.mark.parametrize("merge", ["off", "on"])
def test_an_aggregate_whose_chunks_are_compressed_neither_loses_nor_invents_buckets(
    synced: Followed, merge: str
) -> None:
    database = synced.database
    database.execute(f"SET timescaledb.enable_merge_on_cagg_refresh = {merge}".encode())
    database.execute("SET timescaledb.enable_compressed_direct_batch_delete = off")
    database.execute("ALTER MATERIALIZED VIEW hourly SET (timescaledb.compress = true)")
    compress(database)
    assert ending_well(synced.sync("hourly")).records == {}
    change(database)
    refresh(database, "hourly")

    ended = ending_well(synced.sync("hourly"))

    assert sorted(told(ended)) == sorted(CHANGED)
    mirrors(synced, "hourly")
    compress(database)
    database.execute("SELECT decompress_chunk(c) FROM show_chunks('hourly') c")
    assert ending_well(synced.sync("hourly")).records == {}
    compress(database)
    database.execute("DELETE FROM metrics WHERE device = 5")
    refresh(database, "hourly")
    assert set(told(ending_well(synced.sync("hourly")))) == {(5, False)}
    mirrors(synced, "hourly")


def test_a_compressed_aggregate_is_read_whole_and_then_followed(followed: Followed) -> None:
    database = followed.database
    database.execute("SET timescaledb.enable_compressed_direct_batch_delete = off")
    aggregate(database, "hourly")
    database.execute("ALTER MATERIALIZED VIEW hourly SET (timescaledb.compress = true)")
    compress(database)
    publish(followed, "hourly")
    change(database)
    refresh(database, "hourly")
    ending_well(followed.sync("hourly"))
    mirrors(followed, "hourly")
    database.execute(f"DELETE FROM metrics WHERE {FIRST}".encode())
    refresh(database, "hourly")

    ending_well(followed.sync("hourly"))

    mirrors(followed, "hourly")


def test_buckets_of_a_dropped_aggregate_are_passed_over(synced: Followed) -> None:
    database = synced.database
    aggregate(database, "other")
    identify(database, "other")
    database.execute(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE {table_of(database, 'other')}".encode())
    change(database)
    refresh(database, "hourly", "other")
    database.execute("DROP MATERIALIZED VIEW other")

    ending_well(synced.sync("hourly"))

    mirrors(synced, "hourly")


def test_an_aggregate_that_was_made_anew_is_read_from_the_start(synced: Followed) -> None:
    database = synced.database
    change(database)
    refresh(database, "hourly")
    database.execute("DROP MATERIALIZED VIEW hourly")
    aggregate(database, "hourly", SIX_HOURLY.replace("6 hours", "1 day"))
    identify(database, "hourly")
    database.execute(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE {table_of(database, 'hourly')}".encode())
    synced.destinations.clear()

    ending_well(synced.sync("hourly"))

    mirrors(synced, "hourly")


def test_a_truncated_aggregate_is_said_to_leave_buckets_behind(synced: Followed) -> None:
    synced.database.execute("TRUNCATE hourly")

    ended = ending_well(synced.sync("hourly"))

    assert ended.records == {}
    assert any("TRUNCATE" in line for line in ended.logged)


def test_every_state_of_a_sync_that_is_cut_leads_to_the_same_buckets(synced: Followed) -> None:
    database = synced.database
    for number in range(4):
        database.execute(f"UPDATE metrics SET value = {number} WHERE device = 1".encode())
        database.execute(f"DELETE FROM metrics WHERE device = 2 AND value::int % 4 = {number}".encode())
        refresh(database, "hourly")
    before = synced.state
    ended = ending_well(synced.sync("hourly"))
    for count in range(1, len(ended.states)):
        synced.state = ended.state(count)
        ending_well(synced.sync("hourly"))
        mirrors(synced, "hourly")
    synced.state = before
    ending_well(synced.sync("hourly"))
    mirrors(synced, "hourly")


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("merge", ["off", "on"])
def test_refreshes_while_the_aggregate_is_read_in_slices_are_told_right(
    followed: Followed, merge: str
) -> None:
    database = followed.database
    database.execute("TRUNCATE metrics, events, parts")
    fill(database, days=30, rows=4000)
    database.execute(f"SET timescaledb.enable_merge_on_cagg_refresh = {merge}".encode())
    aggregate(database, "hourly", SIX_HOURLY.replace("6 hours", "10 minutes"))
    database.execute("ANALYZE")
    publish(followed, "hourly")

    def act(where: str) -> None:
        database.execute(f"UPDATE metrics SET value = value + 1 WHERE {where}".encode())
        database.execute(f"DELETE FROM metrics WHERE {where} AND device = 3".encode())
        database.execute(
            "INSERT INTO metrics SELECT time + interval '7 ms', 50, 1, 'new' FROM metrics"
            f" WHERE {where} AND device = 4 ON CONFLICT DO NOTHING".encode()
        )
        refresh(database, "hourly")

    days = ["time < '2024-01-02'", "time > '2024-01-25'", "device = 1", "time < '2024-01-10' AND device < 5"]
    acts = {
        ("RECORD", at): partial(act, where) for at, where in zip((100, 900, 1700, 2500), days, strict=True)
    }

    ended = ending_well(followed.sync("hourly", acts=acts))

    assert len(ended.states) > 3
    ending_well(followed.sync("hourly"))
    mirrors(followed, "hourly")
    assert ending_well(followed.sync("hourly")).records == {}


@pytest.mark.usefixtures("small_slices")
def test_a_first_read_that_was_cut_anywhere_leads_to_the_same_buckets(followed: Followed) -> None:
    database = followed.database
    aggregate(database, "hourly", SIX_HOURLY.replace("6 hours", "20 minutes"))
    publish(followed, "hourly")

    def act() -> None:
        change(database)
        refresh(database, "hourly")

    cut = ending_well(followed.sync("hourly", acts={("STATE", 2): act}))

    assert len(cut.states) > 3
    for count in range(1, len(cut.states)):
        followed.state = cut.state(count)
        ending_well(followed.sync("hourly"))
        mirrors(followed, "hourly")
        database.execute(f"DELETE FROM metrics WHERE device = 4 AND value::int % 9 = {count}".encode())
        refresh(database, "hourly")


@contextmanager
def writing(database: Database, seed: int) -> Iterator[list[psycopg.Error]]:
    """A session that writes rows and refreshes at random, without pause; the errors that it met."""
    stop = threading.Event()
    failures: list[psycopg.Error] = []

    def attempt(connection: psycopg.Connection, statement: str) -> None:
        try:
            connection.execute(statement.encode())
        except psycopg.errors.LockNotAvailable:
            pass  # TimescaleDB lets one refresh of a range run at a time
        except psycopg.Error as error:
            failures.append(error)

    def work() -> None:
        choose = random.Random(seed)
        with database.connect() as connection:
            connection.autocommit = True
            while not stop.is_set():
                attempt(connection, random_statement(choose))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield failures
    finally:
        stop.set()
        thread.join()


def random_statement(choose: random.Random) -> str:
    """A write or a refresh, mostly of the first days, sometimes of a day that has no chunk yet."""
    day = choose.randrange(4) if choose.random() < 0.9 else choose.randrange(40)
    window = f"time >= '2024-01-01'::timestamptz + interval '{day} days' AND device = {choose.randrange(8)}"
    moment = f"'2024-01-01'::timestamptz + interval '{day} days {choose.randrange(86_400)} seconds'"
    rows = f"SELECT {moment}, i, i FROM generate_series(0, 7) i"
    return choose.choice(
        [
            f"UPDATE metrics SET value = value + 1 WHERE {window}",
            f"DELETE FROM metrics WHERE {window} AND value::int % 3 = {choose.randrange(3)}",
            f"INSERT INTO metrics {rows} ON CONFLICT DO NOTHING",
            f"SET timescaledb.enable_merge_on_cagg_refresh = {choose.choice(['on', 'off'])}",
            "CALL refresh_continuous_aggregate('hourly', NULL, NULL)",
            "CALL refresh_continuous_aggregate('daily', NULL, NULL)",
        ]
    )


def runs(database: Database) -> int:
    """How often the server's jobs have run."""
    query = "SELECT coalesce(sum(total_runs), 0)::int FROM timescaledb_information.job_stats"
    found: int = database.value(query)
    return found


def failures_of_jobs(database: Database) -> set[tuple[str, str]]:
    """The ways in which the server's jobs have failed, apart from those that they have without us.

    They wait for each other (55P03, 40P01), and on TimescaleDB 2.21.4 and 2.29.2 a job ends now and then with
    "cannot drop portal" (24000) after its work is committed, also where nobody else is connected.
    """
    query = "SELECT sqlerrcode, err_message FROM timescaledb_information.job_errors"
    return {(code, text) for code, text in database.rows(query) if code not in {"55P03", "40P01", "24000"}}


@pytest.mark.parametrize("seed", [1, 2])
def test_policies_refreshes_and_new_aggregates_succeed_while_syncs_run_and_all_of_it_arrives(
    followed: Followed, seed: int
) -> None:
    database = followed.database
    aggregate(database, "hourly")
    aggregate(database, "daily", DAILY)
    refresh_by_policy(database, "hourly", "daily")
    start_background_workers(database)
    eventually(lambda: runs(database) > 2)
    failures_without_us = failures_of_jobs(database)
    publish(followed, "hourly", "daily")
    before = runs(database)

    with writing(database, seed) as failures:
        for number in range(4):
            ending_well(followed.sync("hourly", "daily"))
            aggregate(database, f"further_{number}")
        while runs(database) < before + 3:
            ending_well(followed.sync("hourly", "daily"))

    assert failures == []
    database.execute("INSERT INTO metrics VALUES ('2023-01-01', 1, 1, 'for the policies to find')")
    eventually(lambda: database.rows("SELECT 1 FROM daily WHERE day = '2023-01-01'"))
    assert failures_of_jobs(database) <= failures_without_us
    calm(database)
    ending_well(followed.sync("hourly", "daily"))
    mirrors(followed, "hourly", "daily")
    assert ending_well(followed.sync("hourly", "daily")).records == {}
