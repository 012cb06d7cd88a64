"""ALTER TABLE between syncs, inside of transactions, and while a sync runs: no value is lost or put elsewhere."""

from __future__ import annotations

import pytest

from integration_tests.cdc.conftest import Followed, fill
from integration_tests.inprocess import Ended
from source_timescaledb.cdc.followed import CDC_COLUMNS
from testkit.protocol import Json

TABLES = ("metrics", "parts")


def ending_well(ended: Ended) -> Ended:
    assert ended.failure is None, (ended.errors, ended.logged)
    return ended


def told(ended: Ended, table: str) -> list[Json]:
    return [{k: v for k, v in row.items() if k not in CDC_COLUMNS} for row in ended.rows(table)]


def inserted(table: str, number: int, note: str = "note") -> str:
    """An INSERT of a row that has a number for its key."""
    if table == "parts":
        return f"INSERT INTO parts (id, {note}) VALUES ({number}, 'row {number}')"
    return f"INSERT INTO metrics (time, device, {note}) VALUES ('2024-01-01', {number}, 'row {number}')"


def numbered(rows: list[Json], column: str) -> dict[object, object]:
    """A column's values by the rows' numbers."""
    return {row.get("id", row.get("device")): row[column] for row in rows}


@pytest.fixture
def synced(followed: Followed) -> Followed:
    """Both tables with rows, synced once."""
    fill(followed.database)
    followed.publish(*TABLES)
    ending_well(followed.sync(*TABLES))
    return followed


@pytest.mark.parametrize("table", TABLES)
def test_a_column_that_was_added_is_null_in_the_rows_from_before(synced: Followed, table: str) -> None:
    database = synced.database
    database.execute(inserted(table, 1001))
    database.execute(f"ALTER TABLE {table} ADD COLUMN more int".encode())
    database.execute(inserted(table, 1002))
    database.execute(f"UPDATE {table} SET more = 5 WHERE note = 'row 1002'".encode())

    rows = told(ending_well(synced.sync(table)), table)

    assert [row["more"] for row in rows] == [None, None, 5]


@pytest.mark.parametrize("table", TABLES)
def test_a_column_that_was_dropped_is_left_out_of_the_rows_from_before(synced: Followed, table: str) -> None:
    database = synced.database
    database.execute(f"ALTER TABLE {table} ADD COLUMN less int".encode())
    database.execute(inserted(table, 1001))
    database.execute(f"ALTER TABLE {table} DROP COLUMN less".encode())
    database.execute(inserted(table, 1002))

    ended = ending_well(synced.sync(table))

    assert numbered(told(ended, table), "note") == {1001: "row 1001", 1002: "row 1002"}
    synced.mirrors(table)


@pytest.mark.parametrize("table", TABLES)
def test_a_column_that_was_renamed_is_found_under_its_old_name(synced: Followed, table: str) -> None:
    database = synced.database
    database.execute(inserted(table, 1001))
    database.execute(f"ALTER TABLE {table} RENAME COLUMN note TO remark".encode())
    database.execute(inserted(table, 1002, "remark"))
    database.execute(f"ALTER TABLE {table} ADD COLUMN note text".encode())
    database.execute(inserted(table, 1003, "remark"))

    rows = told(ending_well(synced.sync(table)), table)

    if table == "parts":
        assert numbered(rows, "remark")[1003] == "row 1003"
    assert numbered(rows, "remark")[1002] == "row 1002"


@pytest.mark.parametrize("table", TABLES)
def test_a_renamed_column_of_a_row_with_a_large_value_is_looked_up_under_its_new_name(
    synced: Followed, table: str
) -> None:
    database = synced.database
    large = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) i)"
    database.execute(f"UPDATE {table} SET note = {large} WHERE note IN ('n7', 'part 7')".encode())
    ending_well(synced.sync(table))
    value = "id = id + 5000" if table == "parts" else "value = -1"
    database.execute(f"UPDATE {table} SET {value} WHERE length(note) > 1000".encode())
    database.execute(f"ALTER TABLE {table} RENAME COLUMN note TO remark".encode())

    rows = told(ending_well(synced.sync(table)), table)

    assert [len(row["remark"] or "") for row in rows][-1] == 9600


@pytest.mark.parametrize("table", TABLES)
def test_a_renamed_key_is_still_the_key(synced: Followed, table: str) -> None:
    database = synced.database
    column = "id" if table == "parts" else "device"
    database.execute(f"UPDATE {table} SET {column} = {column} + 5000 WHERE {column} = 3".encode())
    database.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO number".encode())
    database.execute(f"DELETE FROM {table} WHERE number = 4".encode())

    synced.destinations.clear()

    rows = ending_well(synced.sync(table)).rows(table)

    gone = {row["number"] for row in rows if row["_ab_cdc_deleted_at"] is not None}
    assert gone == {3, 4}
    assert {row["number"] for row in rows} == {3, 4, 5003}


def test_a_renamed_time_column_still_tells_in_which_slice_a_row_lies(synced: Followed) -> None:
    database = synced.database
    database.execute("INSERT INTO metrics VALUES ('2024-07-01', 1001, 1, 'a new chunk')")
    database.execute("UPDATE metrics SET note = 'changed' WHERE device = 1001")
    database.execute("ALTER TABLE metrics RENAME COLUMN time TO moment")
    synced.destinations.clear()

    rows = told(ending_well(synced.sync("metrics")), "metrics")

    assert numbered(rows, "note") == {1001: "changed"}
    assert len(rows) == 1


def test_what_cannot_be_told_stops_the_sync_until_the_stream_is_refreshed(synced: Followed) -> None:
    database = synced.database
    database.execute(inserted("parts", 1001))
    database.execute("ALTER TABLE parts ADD COLUMN remark text")
    database.execute("ALTER TABLE parts DROP COLUMN note")

    failed = synced.sync("parts")

    assert failed.failure is not None
    assert "remark" in str(failed.errors)
    assert failed.records == {}
    synced.state[0]["global"]["stream_states"] = []
    synced.destinations.clear()
    ending_well(synced.sync("parts"))
    synced.mirrors("parts")


@pytest.mark.parametrize("table", TABLES)
def test_rows_from_before_a_change_of_type_come_out_as_what_they_were(synced: Followed, table: str) -> None:
    database = synced.database
    database.execute(f"ALTER TABLE {table} ADD COLUMN n int DEFAULT 1".encode())
    database.execute(inserted(table, 1001))
    database.execute(f"ALTER TABLE {table} ALTER COLUMN n TYPE text USING 'n' || n".encode())
    database.execute(inserted(table, 1002))

    rows = told(ending_well(synced.sync(table)), table)

    assert numbered(rows, "n")[1001] == 1
    assert len(rows) == 2


@pytest.mark.parametrize("table", TABLES)
def test_a_change_of_shape_inside_of_a_transaction_divides_its_rows(synced: Followed, table: str) -> None:
    database = synced.database
    with database.connect() as connection:
        connection.execute(inserted(table, 1001).encode())
        connection.execute(f"ALTER TABLE {table} ADD COLUMN more int DEFAULT 7".encode())
        connection.execute(inserted(table, 1002).encode())
        connection.execute(f"ALTER TABLE {table} RENAME COLUMN note TO remark".encode())
        connection.execute(inserted(table, 1003, "remark").encode())
        connection.execute(f"ALTER TABLE {table} ALTER COLUMN more TYPE bigint".encode())
        connection.execute(inserted(table, 1004, "remark").encode())

    rows = told(ending_well(synced.sync(table)), table)

    assert numbered(rows, "remark") == {number: f"row {number}" for number in range(1001, 1005)}
    assert numbered(rows, "more") == {1001: None, 1002: 7, 1003: 7, 1004: 7}


@pytest.mark.parametrize("table", TABLES)
def test_a_column_that_is_dropped_while_a_sync_runs_ends_it_with_what_to_do(
    synced: Followed, table: str
) -> None:
    database = synced.database

    def drop() -> None:
        database.execute(f"ALTER TABLE {table} DROP COLUMN note".encode())
        database.execute(f"DELETE FROM {table}".encode())

    failed = synced.sync(table, acts={("STATE", 1): drop})

    assert failed.failure is not None
    assert "note" in str(failed.errors)
    synced.state = failed.state()
    ending_well(synced.sync(table))


def test_a_hypertable_under_another_name_or_schema_is_another_stream(synced: Followed) -> None:
    database = synced.database
    database.execute("CREATE SCHEMA plant")
    database.execute("ALTER TABLE metrics SET SCHEMA plant")
    database.execute("ALTER TABLE plant.metrics RENAME TO measurements")
    database.execute("UPDATE plant.measurements SET note = 'moved' WHERE device = 1")
    source = synced.source()
    source.config["schemas"] = ["public", "plant"]
    catalog = source.catalog("incremental", ["measurements", "parts"])

    ended = ending_well(source.read(catalog, synced.state))

    assert len(ended.rows("measurements", "plant")) == 300
    assert set(ended.records) == {("plant", "measurements")}
