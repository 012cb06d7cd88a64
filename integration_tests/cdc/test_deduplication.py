"""A key by which a destination deduplicates comes with every row, and with changes, with every deleted one."""

from __future__ import annotations

from typing import Any, Final

import pytest

from integration_tests.cdc.conftest import Followed, fill
from integration_tests.inprocess import Ended, InProcess
from testkit.protocol import Json

pytestmark = pytest.mark.any_server

Key = list[list[str]] | None


def deduplicated(catalog: Json, key: Key) -> Json:
    """Ask for one row per key of the only stream."""
    (stream,) = catalog["streams"]
    stream.update(destination_sync_mode="append_dedup", primary_key=key)
    return catalog


def chosen(followed: Followed, table: str, key: Key) -> Json:
    """The catalog of a table whose changes are followed."""
    return deduplicated(followed.source().catalog("incremental", [table]), key)


def is_refused(ended: Ended, *words: str) -> None:
    """Nothing was read, and the only error has these words."""
    (error,) = ended.errors
    assert error["failure_type"] == "config_error"
    assert [word for word in words if word not in error["message"]] == []
    assert ended.records == {}


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ([["zz"]], "zz"),
        ([[]], "an empty path"),
        ([["id"], []], "an empty path"),
        ([["id", "note"]], "id.note"),
        ([["_ab_cdc_lsn"]], "_ab_cdc_lsn"),
    ],
)
@pytest.mark.parametrize("mode", ["full_refresh", "incremental"])
def test_a_key_that_is_no_column_is_refused(followed: Followed, key: Any, said: str, mode: str) -> None:
    fill(followed.database)
    followed.publish("parts")

    ended = followed.source().read(deduplicated(followed.source().catalog(mode, ["parts"]), key))

    is_refused(ended, f"deduplicates public.parts by what is no selected column of it: {said}.")


@pytest.mark.parametrize("key", [None, [], [["id"]]])
def test_a_key_that_is_not_selected_is_refused(followed: Followed, key: Key) -> None:
    fill(followed.database)
    followed.publish("parts")
    catalog = chosen(followed, "parts", key)
    del catalog["streams"][0]["stream"]["json_schema"]["properties"]["id"]

    is_refused(followed.source().read(catalog), "no selected column of it: id.", "Select the columns")


def test_without_changes_any_columns_are_a_key(followed: Followed) -> None:
    fill(followed.database)
    source = InProcess(
        followed.database.config(
            username=followed.database.owner, password=followed.database.passwords["owner"]
        )
    )

    for mode, table in (("full_refresh", "parts"), ("incremental", "metrics")):
        ended = source.read(deduplicated(source.catalog(mode, [table]), [["note"]]))
        assert ended.failure is None
        assert len(ended.rows(table)) == 300


OTHER_KEYS: Final = {
    "of another index": "ALTER TABLE two REPLICA IDENTITY USING INDEX by_b",
    "of a primary key that came later": "ALTER TABLE two ADD PRIMARY KEY (b)",
    "where the log tells whole rows": "ALTER TABLE two REPLICA IDENTITY FULL; ALTER TABLE two ADD PRIMARY KEY (b)",
}


@pytest.mark.parametrize("what", OTHER_KEYS)
@pytest.mark.parametrize("key", [[["a"]], []], ids=["the connection's key", "the source's key of before"])
def test_a_key_by_which_no_deleted_row_is_told_is_refused(followed: Followed, what: str, key: Key) -> None:
    database = followed.database
    database.execute("CREATE TABLE two (a int NOT NULL, b int NOT NULL, x int)")
    database.execute("CREATE UNIQUE INDEX by_a ON two (a); CREATE UNIQUE INDEX by_b ON two (b)")
    database.execute("INSERT INTO two VALUES (1, 10, 0), (2, 20, 0)")
    before = chosen(followed, "two", key)
    database.execute(OTHER_KEYS[what].encode())
    followed.publish("two")

    ended = followed.source().read(before)

    is_refused(ended, "public.two by a", "rows apart by b", "Refresh the source schema")
    assert followed.source().read(chosen(followed, "two", [["b"]])).failure is None


def test_the_columns_of_the_key_are_a_key_in_any_order_and_number(followed: Followed) -> None:
    fill(followed.database)
    followed.publish("metrics")

    for key in ([["time"], ["device"]], [["device"]], [], None):
        assert followed.source().read(chosen(followed, "metrics", key)).failure is None


def test_without_a_key_of_its_own_a_table_takes_the_connections(followed: Followed) -> None:
    fill(followed.database)
    followed.publish("events")
    catalog = chosen(followed, "events", [["what"]])
    first = followed.source().read(catalog)
    assert first.failure is None
    followed.database.execute("DELETE FROM events WHERE what = 'n7'")
    followed.database.execute("UPDATE events SET what = 'new' WHERE what = 'n8'")

    second = followed.source().read(catalog, first.state())

    told = {(row["what"], row["_ab_cdc_deleted_at"] is None) for row in second.rows("events")}
    assert told == {("n7", False), ("n8", False), ("new", True)}
