"""Chunks that are born while nobody looks: their rows arrive, each once, by every way in which a chunk gets published.

    auto     TimescaleDB publishes a new chunk in the transaction that makes it (2.25 and later, if it is told to)
    schema   a superuser has published the whole schema in which chunks lie
    watcher  the connector publishes what it finds, as the owner of the tables and no superuser, and reads it

By the first two every row of the chunk is in the log and in the chunk: it must not be told twice. By the third the log
has only what was written since the connector looked: nothing may be told too few times.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from integration_tests.cdc.conftest import PUBLICATION, Followed, fill
from integration_tests.inprocess import Ended
from source_timescaledb.snapshot.territory import MOST_SPANS

TABLES = ("metrics", "events", "parts")
AUTO = "timescaledb.enable_chunk_auto_publication"
WAYS = ("auto", "schema", "watcher")


def publish_by(followed: Followed, way: str) -> None:
    """Make the publication and the slot, and let the connector change nothing where others see to the chunks."""
    database = followed.database
    superuser = database.as_superuser()
    followed.settings["manage_publication"] = "chunks" if way == "watcher" else "off"
    if way == "auto":
        if superuser.execute("SELECT count(*) FROM pg_settings WHERE name = %s", [AUTO]).fetchone() != (1,):
            pytest.skip("TimescaleDB publishes no chunks by itself before 2.25")
        database.execute(f"ALTER DATABASE {database.name} SET {AUTO} = on".encode())
        database.disconnect()
    if way != "schema":
        followed.publish(*TABLES)
        return
    followed.as_reader = True
    database.grant_replication()
    database.grant_select(*TABLES)
    superuser.execute(
        f"CREATE PUBLICATION {PUBLICATION} FOR TABLES IN SCHEMA _timescaledb_internal, TABLE parts".encode()
    )
    superuser.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [followed.slot])


@pytest.fixture(params=WAYS)
def synced(request: pytest.FixtureRequest, followed: Followed) -> Followed:
    """Three tables, synced once, whose new chunks are published in one of the ways."""
    fill(followed.database)
    publish_by(followed, request.param)
    ending_well(followed.sync(*TABLES))
    return followed


def ending_well(ended: Ended) -> Ended:
    assert ended.failure is None, (ended.errors, ended.logged)
    return ended


def test_a_chunk_that_was_born_and_changed_between_syncs_arrives_as_it_is(synced: Followed) -> None:
    database = synced.database
    database.execute(
        "INSERT INTO metrics SELECT '2025-05-05', i, i, 'born' FROM generate_series(1, 9) i;"
        "INSERT INTO events SELECT '2025-05-05', 'born' FROM generate_series(1, 9) i"
    )
    database.execute("UPDATE metrics SET note = 'changed' WHERE time = '2025-05-05' AND device < 4")
    database.execute("UPDATE metrics SET device = device + 50 WHERE time = '2025-05-05' AND device = 5")
    database.execute("DELETE FROM metrics WHERE time = '2025-05-05' AND device > 7")
    database.execute("INSERT INTO events VALUES ('2025-05-05', 'later')")

    ended = ending_well(synced.sync(*TABLES))

    synced.mirrors(*TABLES)
    assert len(ended.rows("events")) == 10
    database.execute("UPDATE metrics SET note = 'again' WHERE time = '2025-05-05' AND device = 1")
    database.execute("INSERT INTO events VALUES ('2025-05-05', 'again')")
    later = ending_well(synced.sync(*TABLES))
    assert {name: len(rows) for (_, name), rows in later.records.items()} == {"metrics": 1, "events": 1}
    synced.mirrors(*TABLES)


def test_a_chunk_that_is_born_in_a_transaction_with_other_changes_parts_none_of_them(
    synced: Followed,
) -> None:
    with closing(synced.database.connect()) as writer:
        writer.execute("UPDATE parts SET note = 'with a chunk' WHERE id <= 3")
        writer.execute("INSERT INTO metrics VALUES ('2024-01-01 00:00:00.5', 90, 1, 'an old chunk')")
        writer.execute("INSERT INTO metrics VALUES ('2025-05-05', 90, 1, 'a new chunk')")
        writer.execute("SAVEPOINT here")
        writer.execute("INSERT INTO events VALUES ('2025-06-06', 'taken back')")
        writer.execute("ROLLBACK TO here")
        writer.execute(
            "INSERT INTO events VALUES ('2025-05-05', 'a new chunk'), ('2024-01-02', 'an old one')"
        )
        writer.execute("UPDATE metrics SET value = 2 WHERE device = 90")
        writer.execute("DELETE FROM parts WHERE id = 4")
        writer.commit()

    ended = ending_well(synced.sync(*TABLES))

    assert len(ended.rows("events")) == 2
    assert len(ended.rows("parts")) == 4
    synced.mirrors(*TABLES)


def test_a_chunk_that_was_born_and_dropped_between_syncs_is_history_or_nothing(synced: Followed) -> None:
    """What was decoded of it is told under the hypertable's name; where it was never published, nothing is left."""
    database = synced.database
    database.execute("INSERT INTO events VALUES ('2025-05-05', 'short-lived'), ('2025-05-05', 'short-lived')")
    database.execute("INSERT INTO metrics VALUES ('2025-05-05', 1, 1, 'short-lived')")
    for table in ("events", "metrics"):
        database.execute("SELECT drop_chunks(%s, newer_than => '2025-01-01'::timestamptz)", [table])
    database.execute("INSERT INTO events VALUES ('2025-07-07', 'stays')")
    database.execute("UPDATE parts SET note = 'after it' WHERE id = 1")

    ended = ending_well(synced.sync(*TABLES))

    decoded = synced.settings["manage_publication"] == "off"
    history = ["short-lived"] * 2 if decoded else []
    assert [row["what"] for row in ended.rows("events")] == [*history, "stays"]
    assert [row["note"] for row in ended.rows("metrics")] == history[:1]
    assert set(ended.records) <= {("public", name) for name in TABLES}
    synced.mirrors("parts")
    assert ending_well(synced.sync(*TABLES)).records == {}


@pytest.mark.parametrize("way", WAYS)
def test_a_chunk_whose_making_spans_a_part_of_the_first_sync_arrives_once(
    followed: Followed, way: str
) -> None:
    fill(followed.database)
    publish_by(followed, way)
    with closing(followed.database.connect()) as writer:

        def make() -> None:
            writer.execute("INSERT INTO events VALUES ('2025-05-05', 'first')")
            writer.execute("INSERT INTO metrics VALUES ('2025-05-05', 90, 1, 'first')")

        def finish() -> None:
            writer.execute("INSERT INTO events VALUES ('2025-05-05', 'second'), ('2025-05-06', 'second')")
            writer.commit()
            followed.database.execute("INSERT INTO events VALUES ('2025-06-06', 'third')")

        acts = {("RECORD", 1): make, ("RECORD", 601): finish}
        ending_well(followed.sync(*TABLES, acts=acts))
    ending_well(followed.sync(*TABLES))

    followed.mirrors(*TABLES)
    assert ending_well(followed.sync(*TABLES)).records == {}


def bear(followed: Followed) -> None:
    """Thirty chunks of `events`, one after the other, two rows in each and two chunks in a transaction."""
    insert = "INSERT INTO events VALUES ('2025-01-01'::timestamptz + %s * interval '1 day', 'born')"
    with closing(followed.database.connect()) as writer:
        for day in range(30):
            for _ in range(2):
                writer.execute(insert.encode(), [day])
                time.sleep(0.01)
            if day % 2:
                writer.commit()


def test_rows_of_chunks_that_are_born_all_the_time_arrive_once(synced: Followed) -> None:
    with ThreadPoolExecutor() as executor:
        born = executor.submit(bear, synced)
        while not born.done():
            ending_well(synced.sync(*TABLES))
        born.result()
    ending_well(synced.sync(*TABLES))

    synced.mirrors("events")


def test_a_sync_ends_although_a_chunk_is_born_in_each_of_its_rounds(synced: Followed) -> None:
    """Each row that is told makes another chunk; what a sync leaves behind, the next ones tell, each row once."""
    database = synced.database
    insert = "INSERT INTO events VALUES ('2025-01-01'::timestamptz + %s * interval '1 day', 'born')"
    days = iter(range(1, 21))

    def bear_one() -> None:
        if (day := next(days, None)) is not None:
            database.execute(insert.encode(), [day])

    bear_one()
    acts = {("RECORD", number): bear_one for number in range(1, 21)}
    told: list[int] = []
    while not told or told[-1]:
        told.append(len(ending_well(synced.sync("events", acts=acts)).rows("events")))

    assert max(told) < 20
    synced.mirrors("events")


def test_late_rows_between_chunks_so_many_that_a_state_closes_the_gaps_fail_nothing(
    followed: Followed,
) -> None:
    """Whether another chunk was there before is not certain once one of those around has gone."""
    database = followed.database
    database.execute(
        "INSERT INTO metrics SELECT '2024-01-01'::timestamptz + i * interval '2 days', 1, i, 'early'"
        " FROM generate_series(0, %s) i",
        [MOST_SPANS + 20],
    )
    followed.settings["invisible_deletes"] = "fail"
    followed.publish("metrics")
    ending_well(followed.sync("metrics"))

    database.execute("INSERT INTO metrics VALUES ('2024-01-06', 1, 1, 'late')")
    late = ending_well(followed.sync("metrics"))
    followed.mirrors("metrics")
    database.execute("SELECT drop_chunks('metrics', older_than => '2024-01-02'::timestamptz)")
    database.execute("INSERT INTO metrics VALUES ('2024-01-08', 1, 1, 'later')")
    later = ending_well(followed.sync("metrics"))

    assert [row["note"] for row in late.rows("metrics")] == ["late"]
    assert [row["note"] for row in later.rows("metrics")] == ["later"]
    assert [line for line in late.logged if "are new and hold" in line] == []
    (warning,) = [line for line in later.logged if "are new and hold" in line]
    assert "what another chunk may have held before" in warning
    assert "from 2024-01-08 00:00:00 up to 2024-01-09 00:00:00" in warning
