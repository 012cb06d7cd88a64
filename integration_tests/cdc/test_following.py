"""A sync reads everything once, and each one after it what has changed since."""

from __future__ import annotations

from integration_tests.cdc.conftest import Followed, fill

TABLES = ("metrics", "events", "parts")


def test_the_first_sync_reads_everything_once(followed: Followed) -> None:
    fill(followed.database)
    followed.publish(*TABLES)

    ended = followed.sync(*TABLES)

    assert ended.failure is None, ended.logged
    followed.mirrors(*TABLES)
    assert sum(len(rows) for rows in ended.records.values()) == 900


def test_the_next_sync_tells_what_changed_and_nothing_else(followed: Followed) -> None:
    fill(followed.database)
    followed.publish(*TABLES)
    followed.sync(*TABLES)
    database = followed.database
    database.execute("INSERT INTO metrics VALUES ('2024-01-02 12:00:00.5+00', 99, 1.5, 'new')")
    database.execute("UPDATE metrics SET value = -1 WHERE device = 3 AND value < 50")
    database.execute("DELETE FROM metrics WHERE device = 4 AND value < 50")
    database.execute("UPDATE parts SET id = id + 10000 WHERE id <= 5")
    database.execute("INSERT INTO events VALUES ('2024-01-02', 'again'), ('2024-01-02', 'again')")

    ended = followed.sync(*TABLES)

    assert ended.failure is None, ended.logged
    assert len(ended.rows("metrics")) == 1 + 7 + 7
    assert len(ended.rows("parts")) == 10
    assert len(ended.rows("events")) == 2
    followed.mirrors(*TABLES)


def test_a_sync_with_nothing_new_ends_at_once_and_moves_on(followed: Followed) -> None:
    fill(followed.database)
    followed.publish(*TABLES)
    first = followed.sync(*TABLES)

    second = followed.sync(*TABLES)

    assert second.records == {}
    assert (
        second.states[-1].message["global"]["shared_state"]["lsn"]
        != (first.states[-1].message["global"]["shared_state"]["lsn"])
    )


def test_rows_of_a_chunk_that_is_born_between_syncs_arrive_once(followed: Followed) -> None:
    fill(followed.database)
    followed.publish(*TABLES)
    followed.sync(*TABLES)
    followed.database.execute("INSERT INTO metrics VALUES ('2025-05-05', 1, 1, 'a new chunk')")
    followed.database.execute("INSERT INTO events VALUES ('2025-05-05', 'a new chunk')")

    ended = followed.sync(*TABLES)

    assert ended.failure is None, ended.logged
    assert len(ended.rows("metrics")) == 1
    assert len(ended.rows("events")) == 1
    followed.database.execute("UPDATE metrics SET note = 'changed' WHERE time = '2025-05-05'")
    assert len(followed.sync(*TABLES).rows("metrics")) == 1
    followed.mirrors(*TABLES)
