"""Rows in tiered storage beside changes: they are told once, at the end of the first load, and no log tells of them."""

from __future__ import annotations

import pytest

from integration_tests.cdc.conftest import Followed, fill
from integration_tests.inprocess import Ended
from integration_tests.tiers import make_tiering, move, tier
from testkit.database import Database


def ending_well(ended: Ended) -> Ended:
    assert ended.failure is None, (ended.errors, ended.logged)
    return ended


def oldest(database: Database, table: str) -> str:
    query = (
        "SELECT format('%%I.%%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks"
        " WHERE hypertable_name = %s AND NOT chunk_name LIKE '%%tier' ORDER BY range_start LIMIT 1"
    )
    return str(database.value(query, [table]))


@pytest.fixture
def tiered(followed: Followed) -> Followed:
    """`metrics` and `events` without a key, each with its first chunk in tiered storage."""
    database = followed.database
    make_tiering(database)
    fill(database)
    for table in ("metrics", "events"):
        tier(database, table)
        move(database, table, oldest(database, table))
    followed.publish("ONLY metrics", "ONLY events")
    followed.settings["tiered_chunks"] = "read"
    return followed


def test_rows_in_tiered_storage_are_told_once(tiered: Followed) -> None:
    ending_well(tiered.sync("metrics", "events"))
    tiered.mirrors("metrics", "events")

    tiered.database.execute("INSERT INTO metrics VALUES ('2024-01-02 12:34:56', 70, 1, 'new')")
    tiered.database.execute("DELETE FROM events WHERE time >= '2024-01-03'")
    ended = ending_well(tiered.sync("metrics", "events"))

    assert [row["note"] for row in ended.rows("metrics")] == ["new"]
    assert {row["what"] for row in ended.rows("events")} <= {f"n{number}" for number in range(200, 300)}
    tiered.mirrors("metrics", "events")


def test_rows_that_move_after_they_were_told_are_not_told_again(tiered: Followed) -> None:
    ending_well(tiered.sync("metrics", "events"))
    for table in ("metrics", "events"):
        move(tiered.database, table, oldest(tiered.database, table))

    ended = ending_well(tiered.sync("metrics", "events"))

    assert ended.records == {}
    tiered.mirrors("metrics", "events")


def test_rows_that_were_left_out_are_told_once_they_are_asked_for(tiered: Followed) -> None:
    tiered.settings["tiered_chunks"] = "skip"
    skipped = ending_well(tiered.sync("metrics", "events"))
    tiered.settings["tiered_chunks"] = "read"

    ended = ending_well(tiered.sync("metrics", "events"))

    assert len([line for line in skipped.logged if "in tiered storage, which are not read" in line]) == 2
    assert {row["time"][:10] for row in ended.rows("metrics")} == {"2024-01-01"}
    tiered.mirrors("metrics", "events")
    assert ending_well(tiered.sync("metrics", "events")).records == {}


def test_every_state_of_a_first_load_leads_to_all_rows(tiered: Followed) -> None:
    whole = ending_well(tiered.sync("metrics"))

    for count in range(1, len(whole.states) + 1):
        tiered.state = whole.state(count)
        ending_well(tiered.sync("metrics"))
        tiered.mirrors("metrics")


def test_a_publication_is_made_of_what_it_can_take(tiered: Followed) -> None:
    tiered.database.execute("DROP PUBLICATION changes")
    tiered.settings["manage_publication"] = "full"
    tiered.database.as_superuser().execute("SELECT pg_drop_replication_slot(%s)", [tiered.slot])

    ending_well(tiered.sync("metrics", "events"))
    tiered.database.execute("UPDATE metrics SET note = 'changed' WHERE time >= '2024-01-03'")
    ending_well(tiered.sync("metrics", "events"))

    tiered.mirrors("metrics", "events")


def test_the_remedy_for_a_missing_publication_works(tiered: Followed) -> None:
    """A publication takes no foreign table: `FOR TABLE metrics` fails (22023)."""
    tiered.database.execute("DROP PUBLICATION changes")
    succeeded, message, _ = tiered.source().check()
    assert not succeeded
    _, _, rest = message.partition("CREATE PUBLICATION ")
    statement, _, _ = rest.partition(";")

    tiered.database.execute(f"CREATE PUBLICATION {statement}".encode())

    succeeded, message, logs = tiered.source().check()
    assert succeeded, message
    assert any(
        "Rows in tiered storage are in no log: those of public.events, public.metrics" in line
        for line in logs
    )
    ending_well(tiered.sync("metrics", "events"))
    tiered.mirrors("metrics", "events")
