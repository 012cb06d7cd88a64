"""A publication that is missing, dropped or made again never costs a change in silence.

Servers up to PostgreSQL 17 fail at the first change that they decode without it; from 18 on they leave out what it would
have published and go on.
"""

from __future__ import annotations

import pytest

from integration_tests.cdc.conftest import PUBLICATION, Followed, fill
from integration_tests.inprocess import Ended

TABLES = ("metrics", "events", "parts")
DROP = f"DROP PUBLICATION {PUBLICATION}"
MAKE = f"CREATE PUBLICATION {PUBLICATION} FOR TABLE {', '.join(TABLES)}"
CHANGE = "UPDATE parts SET note = 'changed' WHERE id <= 5"


@pytest.fixture
def synced(followed: Followed) -> Followed:
    """Three tables with rows, synced once."""
    fill(followed.database)
    followed.publish(*TABLES)
    ending_well(followed.sync(*TABLES))
    return followed


def ending_well(ended: Ended) -> Ended:
    assert ended.failure is None, (ended.errors, ended.logged)
    return ended


def refused(ended: Ended, words: str) -> None:
    """One config error with these words, no record, and no state that says more than the one before."""
    assert ended.records == {}
    assert [error["failure_type"] for error in ended.errors] == ["config_error"], ended.errors
    assert words in ended.errors[0]["message"]


def test_without_a_publication_nothing_is_read(followed: Followed) -> None:
    fill(followed.database)
    followed.publish(*TABLES)
    followed.database.execute(DROP)

    ended = followed.sync(*TABLES)

    refused(ended, f'There is no publication "{PUBLICATION}"')
    assert ended.states == []


def test_a_publication_that_is_younger_than_the_slot_serves_a_first_sync(followed: Followed) -> None:
    fill(followed.database)
    followed.publish(*TABLES)
    for statement in (DROP, CHANGE, MAKE):
        followed.database.execute(statement.encode())

    ending_well(followed.sync(*TABLES))

    followed.database.execute("UPDATE parts SET note = 'later' WHERE id <= 5")
    ending_well(followed.sync(*TABLES))
    followed.mirrors(*TABLES)


def test_a_publication_that_was_made_again_since_the_last_sync_is_refused_until_all_is_read_again(
    synced: Followed,
) -> None:
    for statement in (DROP, CHANGE, MAKE):
        synced.database.execute(statement.encode())

    for _ in range(2):
        ended = synced.sync(*TABLES)
        refused(ended, f"The publication {PUBLICATION} was made again since the last sync")
        assert ended.states == []

    synced.method["invalid_cdc_cursor_position_behavior"] = "Re-sync data"
    ending_well(synced.sync(*TABLES))
    synced.mirrors("metrics", "parts")


def test_what_is_written_after_the_publication_was_dropped_in_mid_sync_is_not_passed_over(
    synced: Followed,
) -> None:
    database = synced.database

    def drop() -> None:
        database.execute(DROP.encode())
        database.execute(CHANGE.encode())

    before = synced.state[0]["global"]["shared_state"]["lsn"]
    ended = synced.sync(*TABLES, acts={("STATE", 1): drop})

    refused(ended, PUBLICATION)
    assert synced.state[0]["global"]["shared_state"]["lsn"] == before
    refused(synced.sync(*TABLES), f'There is no publication "{PUBLICATION}"')
    database.execute(MAKE.encode())
    refused(synced.sync(*TABLES), "made again since the last sync")


def test_a_publication_that_is_made_again_in_mid_sync_ends_it_before_it_says_so_much(
    synced: Followed,
) -> None:
    database = synced.database

    def make_again() -> None:
        for statement in (DROP, CHANGE, MAKE):
            database.execute(statement.encode())

    before = synced.state[0]["global"]["shared_state"]["lsn"]
    ended = synced.sync(*TABLES, acts={("STATE", 1): make_again})

    refused(ended, PUBLICATION)
    assert synced.state[0]["global"]["shared_state"]["lsn"] == before
    refused(synced.sync(*TABLES), "made again since the last sync")


@pytest.mark.parametrize("table", ["metrics", "parts"])
@pytest.mark.parametrize("manage", ["chunks", "full"])
def test_fault_30_a_table_that_left_the_publication_is_refused_until_it_is_read_again_even_when_it_is_back(
    synced: Followed, table: str, manage: str
) -> None:
    synced.settings["manage_publication"] = manage
    drop, add = (f"ALTER PUBLICATION {PUBLICATION} {word} TABLE {table}" for word in ("DROP", "ADD"))
    synced.database.execute(drop.encode())
    synced.database.execute(CHANGE.encode())
    synced.database.execute("DELETE FROM metrics WHERE device = 1")

    refused(synced.sync(*TABLES), f"public.{table}")
    if manage == "chunks":
        synced.database.execute(add.encode())
    refused(synced.sync(*TABLES), f"public.{table} left the publication {PUBLICATION}")

    synced.refresh(table)
    ending_well(synced.sync(*TABLES))
    synced.mirrors("metrics", "parts")


def test_fault_30_a_chunk_that_left_the_publication_is_refused_until_its_stream_is_read_again(
    synced: Followed,
) -> None:
    (chunk, *_) = synced.database.rows("SELECT show_chunks('metrics')::text ORDER BY 1")[0]
    synced.database.execute(f"ALTER PUBLICATION {PUBLICATION} DROP TABLE ONLY {chunk}".encode())
    synced.database.execute("UPDATE metrics SET note = 'changed' WHERE time < '2024-01-02'")

    for _ in range(2):
        refused(synced.sync(*TABLES), "1 chunks left the publication")

    synced.refresh("metrics")
    ending_well(synced.sync(*TABLES))
    synced.mirrors("metrics", "parts")


def test_a_table_that_leaves_the_publication_and_comes_back_in_mid_sync_ends_it(synced: Followed) -> None:
    def leave() -> None:
        synced.database.execute(f"ALTER PUBLICATION {PUBLICATION} DROP TABLE parts".encode())
        synced.database.execute(CHANGE.encode())
        synced.database.execute(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE parts".encode())

    ended = synced.sync(*TABLES, acts={("STATE", 1): leave})

    refused(ended, f"public.parts left the publication {PUBLICATION}")
    refused(synced.sync(*TABLES), f"public.parts left the publication {PUBLICATION}")
