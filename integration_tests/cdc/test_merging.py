"""Chunks that are merged or split: what nobody had read of one that is gone is read in the one that has its rows.

`merge_chunks` writes nothing to the log. The chunk that is gone looks dropped, the other one was read before it had those
rows; so whoever trusts either loses them. A chunk that was split off is not published at first, and whatever vanishes
from it until then does so unseen.
"""

from __future__ import annotations

import psycopg
import pytest

from integration_tests.cdc.conftest import PUBLICATION, Followed, fill
from integration_tests.cdc.raw import RawLog
from integration_tests.cdc.scenes import kill
from integration_tests.inprocess import Ended
from testkit.database import Database

pytestmark = pytest.mark.community


def ending_well(ended: Ended) -> Ended:
    assert ended.failure is None, (ended.errors, ended.logged)
    return ended


def chunks(database: Database) -> list[str]:
    """The chunks of `metrics`, the oldest first."""
    query = (
        "SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks"
        " WHERE hypertable_name = 'metrics' ORDER BY range_start"
    )
    return [name for (name,) in database.rows(query)]


def merge(database: Database, place: int) -> None:
    """Merge a chunk and the next one."""
    first, second = chunks(database)[place : place + 2]
    database.execute(f"CALL merge_chunks('{first}', '{second}')".encode())


@pytest.fixture
def synced(community: Followed) -> Followed:
    """Tables that were read once."""
    fill(community.database)
    community.publish("metrics", "parts")
    ending_well(community.sync("metrics", "parts"))
    return community


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("record", [1, 60, 150, 250])
def test_a_chunk_that_is_merged_during_the_first_read_is_read_to_its_end(
    community: Followed, record: int
) -> None:
    database = community.database
    fill(database, days=5)
    community.publish("metrics")
    raw = RawLog(database, PUBLICATION)

    ended = ending_well(
        community.sync(
            "metrics",
            acts={
                ("RECORD", record): lambda: merge(database, 0),
                ("RECORD", record + 5): lambda: merge(database, 1),
            },
        )
    )

    assert raw.told() == {}, "the log tells nothing"
    community.mirrors("metrics")
    assert {"2024-01-05"} <= {str(row["time"])[:10] for row in ended.rows("metrics")}
    database.execute("UPDATE metrics SET note = 'changed' WHERE device = 3")
    ending_well(community.sync("metrics"))
    community.mirrors("metrics")


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("state", [2, 3, 4, 5])
def test_a_row_that_changes_and_vanishes_between_a_merge_and_its_reading_is_not_left_behind(
    community: Followed, state: int
) -> None:
    """Told too early, it would be there for ever: its DELETE comes while the slice that has it is still unread."""
    database = community.database
    fill(database, days=5)
    community.publish("metrics")
    rows = "time >= '2024-01-02' AND time < '2024-01-03' AND device = 2"

    def reshape() -> None:
        merge(database, 0)
        database.execute(f"UPDATE metrics SET note = 'changed' WHERE {rows}".encode())
        database.execute("INSERT INTO metrics VALUES ('2024-01-02 07:07', 2, 0, 'born')")

    def remove() -> None:
        database.execute(f"DELETE FROM metrics WHERE {rows}".encode())

    ending_well(community.sync("metrics", acts={("RECORD", 30): reshape, ("STATE", state): remove}))

    assert database.rows(f"SELECT 1 FROM metrics WHERE {rows}".encode()) == []
    community.mirrors("metrics")


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("place", [("RECORD", 1), ("RECORD", 150), ("STATE", 3)])
def test_a_chunk_that_is_born_and_merged_before_anybody_has_seen_it_is_read(
    community: Followed, place: tuple[str, int]
) -> None:
    database = community.database
    fill(database, days=5)
    community.publish("metrics")

    def bear_and_merge() -> None:
        database.execute(
            "INSERT INTO metrics SELECT '2024-01-06', i, i, 'young' FROM generate_series(1, 20) i"
        )
        merge(database, 4)
        database.execute("DELETE FROM metrics WHERE time >= '2024-01-06' AND device > 10")

    ending_well(community.sync("metrics", acts={place: bear_and_merge}))

    community.mirrors("metrics")


@pytest.mark.usefixtures("small_slices")
def test_every_state_of_a_read_during_which_chunks_are_merged_leads_to_all_rows(community: Followed) -> None:
    database = community.database
    fill(database, days=5)
    community.publish("metrics")
    cut = ending_well(community.sync("metrics", acts={("STATE", 3): lambda: merge(database, 1)}))
    assert len(cut.states) > 4

    for count in range(1, len(cut.states)):
        community.state = cut.state(count)
        if count == 3:
            merge(database, 0)
        ending_well(community.sync("metrics"))
        community.mirrors("metrics")


def test_a_row_that_comes_before_a_split_and_vanishes_after_it_is_not_left_behind(
    community: Followed,
) -> None:
    """Told by a sync that goes on from a killed one, it would be there for ever: the log has its INSERT only."""
    database = community.database
    fill(database, days=5)
    community.publish("metrics")
    community.sync("metrics", acts={("STATE", 1): kill})
    rows = "metrics WHERE device = 999 AND value = -7"
    database.execute(
        "INSERT INTO metrics SELECT hour, 999, -7, 'short-lived'"
        " FROM generate_series(timestamptz '2024-01-03', '2024-01-03 23:00', interval '1 hour') hour"
    )
    try:
        database.execute(f"CALL split_chunk('{chunks(database)[2]}')".encode())
    except psycopg.errors.UndefinedFunction:
        pytest.skip("this version does not split chunks")
    database.execute(f"DELETE FROM {rows}".encode())

    ending_well(community.sync("metrics"))

    assert database.value(f"SELECT count(*) FROM {rows}".encode()) == 0
    community.mirrors("metrics")


def test_a_chunk_that_no_sync_has_seen_is_read_in_the_one_that_took_it_in(synced: Followed) -> None:
    database = synced.database
    database.execute("INSERT INTO metrics SELECT '2024-01-04', i, i, 'young' FROM generate_series(1, 20) i")
    merge(database, 2)

    ended = ending_well(synced.sync("metrics", "parts"))

    assert {row["note"] for row in ended.rows("metrics")} == {"young"}, "and nothing of what was there before"
    synced.mirrors("metrics", "parts")
    assert ending_well(synced.sync("metrics", "parts")).records == {}


def test_a_large_value_that_an_update_left_alone_is_found_where_the_row_has_gone(synced: Followed) -> None:
    database = synced.database
    large = "'large ' || repeat(md5(device::text), 300)"
    database.execute("ALTER TABLE metrics ALTER COLUMN note SET STORAGE EXTERNAL")
    database.execute(f"UPDATE metrics SET note = {large} WHERE time >= '2024-01-02'".encode())
    ending_well(synced.sync("metrics", "parts"))
    database.execute("UPDATE metrics SET value = -1 WHERE time >= '2024-01-02' AND time < '2024-01-03'")
    merge(database, 0)

    ended = ending_well(synced.sync("metrics", "parts"))

    notes = {str(row["note"])[:6] for row in ended.rows("metrics")}
    assert notes == {"large "}
    synced.mirrors("metrics", "parts")


def test_rows_of_a_new_chunk_that_took_others_in_are_named_and_read(synced: Followed) -> None:
    """Of a compressed chunk and others the compressed one is left: with rows that were told before."""
    database = synced.database
    database.execute(
        "ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')"
    )
    database.execute("INSERT INTO metrics SELECT '2023-12-31', i, i, 'before' FROM generate_series(1, 20) i")
    database.execute("SELECT compress_chunk(%s)", [chunks(database)[0]])
    merge(database, 0)
    database.execute("UPDATE metrics SET note = 'changed' WHERE device = 3")

    ended = ending_well(synced.sync("metrics", "parts"))

    assert [line for line in ended.logged if "hold what another chunk held before" in line]
    synced.mirrors("metrics", "parts")
