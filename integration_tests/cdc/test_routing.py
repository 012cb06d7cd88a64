"""Every change comes out under the name the user knows, whatever became of the relation that it happened in."""

from __future__ import annotations

from functools import partial

import pytest

from integration_tests.cdc.conftest import Followed, fill
from integration_tests.inprocess import Acts, Ended, InProcess
from source_timescaledb.cdc.followed import DELETED_AT
from testkit.database import Database


def ending_well(ended: Ended) -> Ended:
    assert ended.failure is None, (ended.errors, ended.logged)
    return ended


def chunks(database: Database, table: str) -> list[str]:
    return [name for (name,) in database.rows("SELECT show_chunks(%s)::text ORDER BY 1", [table])]


def test_rows_of_a_chunk_that_was_dropped_since_come_out_under_the_hypertables_name(
    followed: Followed,
) -> None:
    fill(followed.database)
    followed.publish("metrics")
    ending_well(followed.sync("metrics"))
    followed.database.execute("INSERT INTO metrics VALUES ('2024-01-01 00:00:00.1', 77, 1, 'late')")
    followed.database.execute("SELECT drop_chunks('metrics', older_than => '2024-01-02'::timestamptz)")

    ended = ending_well(followed.sync("metrics"))

    assert [row["device"] for row in ended.rows("metrics")] == [77]
    assert set(ended.records) == {("public", "metrics")}


def test_rows_of_a_dropped_chunk_with_a_prefix_and_a_schema_of_its_own_come_out_too(
    followed: Followed,
) -> None:
    database = followed.database
    database.execute("CREATE SCHEMA attic")
    database.execute("CREATE TABLE logs (time timestamptz NOT NULL, n int, PRIMARY KEY (time))")
    database.execute(
        "SELECT create_hypertable('logs', 'time', associated_schema_name => 'attic',"
        " associated_table_prefix => 'old', chunk_time_interval => interval '1 day')"
    )
    database.execute("INSERT INTO logs VALUES ('2024-01-01', 1), ('2024-01-02', 2)")
    followed.publish("logs")
    ending_well(followed.sync("logs"))
    database.execute("INSERT INTO logs VALUES ('2024-01-01 01:00', 3)")
    database.execute("SELECT drop_chunks('logs', older_than => '2024-01-02'::timestamptz)")

    ended = ending_well(followed.sync("logs"))

    assert [row["n"] for row in ended.rows("logs")] == [3]


def test_rows_of_a_chunk_that_was_renamed_and_moved_come_out_under_the_hypertables_name(
    followed: Followed,
) -> None:
    database = followed.database
    fill(database)
    followed.publish("metrics")
    ending_well(followed.sync("metrics"))
    chunk = chunks(database, "metrics")[0]
    database.execute("CREATE SCHEMA attic")
    superuser = database.as_superuser()
    superuser.execute(f'ALTER TABLE {chunk} RENAME TO "The first."'.encode())
    superuser.execute('ALTER TABLE _timescaledb_internal."The first." SET SCHEMA attic')
    database.execute("UPDATE metrics SET note = 'x' WHERE time < '2024-01-02'")

    ended = ending_well(followed.sync("metrics"))

    assert set(ended.records) == {("public", "metrics")}
    followed.mirrors("metrics")


def test_a_table_in_the_publication_that_nobody_follows_is_passed_over_even_when_it_is_dropped(
    followed: Followed,
) -> None:
    fill(followed.database)
    followed.publish("metrics", "events", "parts")
    ending_well(followed.sync("parts"))
    followed.database.execute("INSERT INTO parts VALUES (5000, 'x')")
    followed.database.execute("DELETE FROM events")
    followed.database.execute("INSERT INTO metrics VALUES ('2024-01-01 00:00:00.1', 77, 1, 'late')")
    followed.database.execute("DROP TABLE events")
    followed.database.execute("DROP TABLE metrics")

    ended = ending_well(followed.sync("parts"))

    assert set(ended.records) == {("public", "parts")}
    followed.mirrors("parts")


def test_names_that_need_quoting_are_taken_as_they_are(followed: Followed) -> None:
    database = followed.database
    table = '"My ""schema""."."Ta%ble é"'
    database.execute('CREATE SCHEMA "My ""schema""."')
    columns = '"Ti%me" timestamptz NOT NULL, "a""b" text, "c\\d" int, PRIMARY KEY ("c\\d", "Ti%me")'
    database.execute(f"CREATE TABLE {table} ({columns})".encode())
    database.execute(f"SELECT create_hypertable('{table}', 'Ti%me')".encode())
    database.execute(
        f"INSERT INTO {table} SELECT '2024-01-01', string_agg(md5(i::text), ''), 1"
        " FROM generate_series(1, 300) i".encode()
    )
    followed.publish(table)
    source = InProcess({**followed.config, "schemas": ['My "schema".']})
    catalog = source.catalog("incremental", ["Ta%ble é"])
    first = ending_well(source.read(catalog))
    database.execute(f'UPDATE {table} SET "c\\d" = 2'.encode())

    rows = ending_well(source.read(catalog, first.state())).rows("Ta%ble é", 'My "schema".')

    assert [(row["c\\d"], len(row['a"b'] or ""), row[DELETED_AT] is None) for row in rows] == [
        (1, 0, False),
        (2, 9600, True),
    ]


def test_each_record_names_its_chunk_where_that_is_asked_for(followed: Followed) -> None:
    database = followed.database
    fill(database, days=2, rows=20)
    followed.settings["emit_chunk_metadata"] = True
    followed.publish("metrics", "parts")
    first = ending_well(followed.sync("metrics", "parts"))
    database.execute("UPDATE metrics SET note = 'x'")
    database.execute("INSERT INTO parts VALUES (1000, 'x')")

    second = ending_well(followed.sync("metrics", "parts"))

    def named(ended: Ended) -> set[tuple[str, str]]:
        return {(row["time"], row["_ts_chunk"]) for row in ended.rows("metrics")}

    assert named(first) == named(second)
    assert {chunk for _, chunk in named(first)} == set(chunks(database, "metrics"))


@pytest.mark.parametrize("via_root", [False, True])
def test_changes_of_partitions_come_out_under_the_name_of_their_table(
    followed: Followed, via_root: bool
) -> None:
    database = followed.database
    database.execute(
        "CREATE TABLE sales (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region)"
    )
    database.execute("CREATE TABLE north (n int, region text NOT NULL, id int NOT NULL)")
    database.execute("ALTER TABLE sales ATTACH PARTITION north FOR VALUES IN ('north')")
    database.execute("CREATE TABLE south PARTITION OF sales FOR VALUES IN ('south')")
    database.execute(
        "INSERT INTO sales SELECT i, CASE i % 2 WHEN 0 THEN 'north' ELSE 'south' END, i FROM generate_series(1, 50) i"
    )
    database.execute(
        f"CREATE PUBLICATION changes FOR TABLE sales WITH (publish_via_partition_root = {via_root})".encode()
    )
    database.as_superuser().execute(
        "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [followed.slot]
    )
    ending_well(followed.sync("sales"))
    database.execute("UPDATE sales SET n = -n WHERE id < 10")
    database.execute("UPDATE sales SET region = 'south' WHERE id = 20")
    database.execute("DELETE FROM sales WHERE id > 40")
    database.execute("CREATE TABLE west PARTITION OF sales FOR VALUES IN ('west')")
    database.execute("INSERT INTO sales VALUES (100, 'west', 1)")

    ended = ending_well(followed.sync("sales"))

    assert set(ended.records) == {("public", "sales")}
    followed.mirrors("sales")


def test_a_table_that_was_dropped_and_made_again_is_read_from_the_start(followed: Followed) -> None:
    database = followed.database
    fill(database)
    followed.publish("metrics", "parts")
    ending_well(followed.sync("metrics", "parts"))
    database.execute("UPDATE metrics SET note = 'of the old one'")
    database.execute("UPDATE parts SET note = 'of the old one'")
    database.execute("DROP TABLE metrics")
    database.execute("DROP TABLE parts")
    database.execute("CREATE TABLE parts (id int PRIMARY KEY, note text)")
    database.execute(
        "CREATE TABLE metrics (time timestamptz NOT NULL, device int NOT NULL, value float8, note text,"
        " PRIMARY KEY (device, time))"
    )
    database.execute("SELECT create_hypertable('metrics', 'time')")
    database.execute("INSERT INTO parts VALUES (1, 'new')")
    database.execute("INSERT INTO metrics VALUES ('2024-01-01', 1, 1, 'new')")
    database.execute("ALTER PUBLICATION changes ADD TABLE metrics, parts")
    database.execute("INSERT INTO metrics VALUES ('2024-01-01', 2, 1, 'new')")
    followed.destinations.clear()

    ended = ending_well(followed.sync("metrics", "parts"))

    assert {row["note"] for row in ended.rows("metrics") + ended.rows("parts")} == {"new"}
    followed.mirrors("metrics", "parts")


def test_a_table_that_becomes_a_hypertable_with_its_rows_keeps_them(followed: Followed) -> None:
    """It has to leave the publication for that (TimescaleDB 2.20), and what is deleted meanwhile is in no stream."""
    database = followed.database
    database.execute("CREATE TABLE readings (time timestamptz NOT NULL, n int, PRIMARY KEY (time))")
    database.execute(
        "INSERT INTO readings SELECT '2024-01-01'::timestamptz + i * interval '1 hour', i"
        " FROM generate_series(1, 100) i"
    )
    followed.publish("readings", "parts")
    followed.settings["truncated_tables"] = "fail"
    ending_well(followed.sync("readings", "parts"))
    database.execute("UPDATE readings SET n = -n WHERE n < 10")
    database.execute("ALTER PUBLICATION changes DROP TABLE readings")
    database.execute("SELECT create_hypertable('readings', 'time', migrate_data => true)")
    database.execute("ALTER PUBLICATION changes ADD TABLE readings")
    database.execute("UPDATE readings SET n = n + 1000 WHERE n > 90")

    refused = followed.sync("readings", "parts")
    followed.refresh("readings")
    ending_well(followed.sync("readings", "parts"))

    assert "public.readings left the publication" in refused.errors[0]["message"]
    followed.mirrors("readings")
    database.execute("DELETE FROM readings WHERE n < 0")
    ending_well(followed.sync("readings", "parts"))
    followed.mirrors("readings")


def test_moving_rows_into_chunks_under_a_publication_of_everything_is_no_loss(followed: Followed) -> None:
    database = followed.database
    database.as_superuser().execute("CREATE PUBLICATION changes FOR ALL TABLES")
    database.as_superuser().execute(
        "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [followed.slot]
    )
    database.execute("CREATE TABLE readings (time timestamptz NOT NULL, n int, PRIMARY KEY (time))")
    database.execute("INSERT INTO readings VALUES ('2024-01-01', 1), ('2024-02-02', 2)")
    ending_well(followed.sync("readings"))
    database.execute("INSERT INTO readings VALUES ('2024-03-03', 3)")
    if refused := refusal_of_migration(database):
        pytest.skip(refused)
    database.execute("UPDATE readings SET n = 4 WHERE n = 3")
    followed.settings["truncated_tables"] = "fail"

    ending_well(followed.sync("readings"))

    followed.mirrors("readings")


def refusal_of_migration(database: Database) -> str:
    """TimescaleDB 2.20 and later refuse hypertables while there is such a publication."""
    try:
        database.execute("SELECT create_hypertable('readings', 'time', migrate_data => true)")
    except Exception as error:  # noqa: BLE001 - its class differs between versions
        return str(error)
    return ""


def test_a_truncated_hypertable_is_said_to_leave_rows_behind(followed: Followed) -> None:
    database = followed.database
    fill(database)
    followed.publish("metrics")
    ending_well(followed.sync("metrics"))
    database.execute("TRUNCATE metrics")
    database.execute("INSERT INTO metrics VALUES ('2024-01-01', 500, 1, 'after')")

    ended = ending_well(followed.sync("metrics"))

    assert [row["device"] for row in ended.rows("metrics")] == [500]
    assert any("TRUNCATE" in line for line in ended.logged)


@pytest.mark.parametrize("table", ["metrics", "parts"])
def test_a_truncate_stops_the_sync_where_that_is_asked_for_until_the_stream_is_refreshed(
    followed: Followed, table: str
) -> None:
    database = followed.database
    fill(database)
    followed.settings["truncated_tables"] = "fail"
    followed.publish(table)
    ending_well(followed.sync(table))
    database.execute(f"TRUNCATE {table}".encode())

    assert followed.sync(table).failure is not None

    database.execute("INSERT INTO metrics VALUES ('2024-01-01', 500, 1, 'after')")
    followed.state[0]["global"]["stream_states"] = []
    followed.destinations.clear()
    ending_well(followed.sync(table))
    followed.mirrors(table)


def acting(database: Database, statements: dict[int, str]) -> Acts:
    """Statements to run when so many records have come."""

    return {
        ("RECORD", at): partial(database.execute, statement.encode()) for at, statement in statements.items()
    }


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("key", ["id", "code", "kind, id"])
def test_rows_of_a_plain_table_that_change_while_its_slices_are_read_arrive_as_they_are(
    followed: Followed, key: str
) -> None:
    database = followed.database
    database.execute(
        f"CREATE TABLE orders (id int, code text, kind int, n int, PRIMARY KEY ({key}))".encode()
    )
    database.execute("INSERT INTO orders SELECT i, 'c' || i, i % 3, 0 FROM generate_series(1, 3000) i")
    followed.publish("orders")
    acts = acting(
        database,
        {
            50: "UPDATE orders SET n = n + 1 WHERE id % 100 = 0",
            900: "UPDATE orders SET id = id + 10000, code = code || 'x' WHERE id % 200 = 1",
            1500: "DELETE FROM orders WHERE id % 50 = 7",
            2000: "INSERT INTO orders SELECT i, 'c' || i, i % 3, 0 FROM generate_series(-40, 0) i",
            2500: "UPDATE orders SET n = n + 1 WHERE id % 100 = 0; DELETE FROM orders WHERE id > 10000 AND id % 3 = 0",
        },
    )

    ended = ending_well(followed.sync("orders", acts=acts))

    assert len(ended.states) > 2
    followed.mirrors("orders")
    assert ending_well(followed.sync("orders")).records == {}


@pytest.mark.usefixtures("small_slices")
def test_keys_are_compared_whatever_domains_and_collations_the_table_has(followed: Followed) -> None:
    database = followed.database
    database.execute("CREATE DOMAIN sure AS int NOT NULL CHECK (VALUE > 0)")
    database.execute('CREATE TABLE orders (code text COLLATE "und-x-icu", size sure, PRIMARY KEY (code))')
    database.execute("INSERT INTO orders SELECT chr(65 + i % 58) || i, 1 FROM generate_series(1, 2000) i")
    followed.publish("orders")
    acts = acting(
        database,
        {
            300: "UPDATE orders SET size = 2 WHERE right(code, 1) = '7'",
            900: "DELETE FROM orders WHERE right(code, 1) = '3'",
        },
    )

    ending_well(followed.sync("orders", acts=acts))

    followed.mirrors("orders")
    assert ending_well(followed.sync("orders")).records == {}


@pytest.mark.usefixtures("small_slices")
def test_rows_of_a_chunk_that_change_while_it_is_read_in_slices_arrive_as_they_are(
    followed: Followed,
) -> None:
    database = followed.database
    fill(database, days=2, rows=6000)
    database.execute("ANALYZE")
    followed.publish("metrics")
    acts = acting(
        database,
        {
            200: "UPDATE metrics SET note = 'x' WHERE device = 1",
            1500: "UPDATE metrics SET time = time + interval '3 hours' WHERE device = 2 AND time < '2024-01-01 12:00'",
            3000: "DELETE FROM metrics WHERE device = 3",
            4000: "INSERT INTO metrics SELECT time + interval '1 ms', 50, 1, 'new' FROM metrics WHERE device = 4",
        },
    )

    ended = ending_well(followed.sync("metrics", acts=acts))

    assert len(ended.states) > 3
    followed.mirrors("metrics")
    assert ending_well(followed.sync("metrics")).records == {}


@pytest.mark.usefixtures("small_slices")
def test_a_row_at_infinity_arrives_once(followed: Followed) -> None:
    database = followed.database
    database.execute("CREATE TABLE ends (time timestamptz NOT NULL, n int)")
    database.execute("SELECT create_hypertable('ends', 'time')")
    database.execute("ALTER TABLE ends REPLICA IDENTITY FULL")
    database.execute("INSERT INTO ends VALUES ('infinity', 1), ('2024-01-01', 3)")
    followed.publish("ends")
    acts = acting(database, {1: "INSERT INTO ends VALUES ('infinity', 4)"})

    ended = ending_well(followed.sync("ends", acts=acts))

    assert sorted(row["n"] for row in ended.rows("ends")) == [1, 3, 4]
