"""Rows under another's name, in other columns, in another order: names and positions say less than they seem to.

The connector goes by oids and ids of the catalog, takes columns by their names from each relation's message, and counts
changes in the order in which they were committed.
"""

from __future__ import annotations

from collections import Counter

import pytest

from integration_tests.cdc.aggregates import aggregate, ending_well, identify, mirrors, refresh
from integration_tests.cdc.conftest import PUBLICATION, Followed, fill
from integration_tests.cdc.raw import RawLog
from integration_tests.cdc.test_aggregates import CHANGED, change, told
from integration_tests.cdc.test_new_chunks import publish_by
from source_timescaledb.cdc.followed import LSN
from source_timescaledb.pgoutput.messages import Insert, Relation
from testkit.database import Database

MAKE_CHUNK = """
SELECT _timescaledb_functions.create_chunk('events', jsonb_build_object('time', ARRAY[
    _timescaledb_functions.time_to_internal('2026-06-06'::timestamptz),
    _timescaledb_functions.time_to_internal('2026-06-07'::timestamptz)]), 'public', 'own', 'own')
"""


def chunks(database: Database, table: str) -> list[str]:
    """The chunks of a table, the oldest first."""
    return [name for (name,) in database.rows("SELECT show_chunks(%s)::text ORDER BY 1", [table])]


def inserted(raw: RawLog) -> Counter[str]:
    """How many rows the log inserts into which relations, by the names that it gives them."""
    names: dict[int, str] = {}
    found: Counter[str] = Counter()
    for message in raw.messages():
        match message:
            case Relation(oid, schema, name):
                names[oid] = f"{schema}.{name}"
            case Insert(oid):
                found[names[oid]] += 1
    return found


def texts_inserted(raw: RawLog) -> list[str]:
    """The second column of the rows that the log inserts, in its order."""
    values = [message.new[1] for message in raw.messages() if isinstance(message, Insert)]
    return [value.decode() for value in values if isinstance(value, bytes)]


@pytest.mark.community
def test_trap_21_relations_of_compressed_rows_look_like_chunks_with_rows(community: Followed) -> None:
    database = community.database
    fill(database)
    publish_by(community, "schema")
    ending_well(community.sync("metrics"))
    raw = RawLog(database, PUBLICATION)
    database.execute(
        "ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')"
    )
    database.execute("SELECT compress_chunk(c) FROM show_chunks('metrics') c")
    found = inserted(raw)
    assert len(found) == 3
    assert set(found.values()) == {7}, "a batch of each device"
    assert all("compress" in name for name in found), found
    database.execute("INSERT INTO metrics VALUES ('2024-01-01 00:00:01', 99, 1, 'later')")

    ended = ending_well(community.sync("metrics"))

    assert set(ended.records) == {("public", "metrics")}
    assert [row["note"] for row in ended.rows("metrics")] == ["later"]


@pytest.mark.community
def test_trap_22_chunks_of_a_continuous_aggregate_are_named_like_any_others(community: Followed) -> None:
    database = community.database
    fill(database)
    aggregate(database, "hourly")
    identify(database, "hourly")
    publish_by(community, "schema")
    database.grant_select("hourly")
    ending_well(community.sync("metrics", "hourly"))
    raw = RawLog(database, PUBLICATION)
    change(database)
    refresh(database, "hourly")
    offered = database.rows("SELECT id FROM _timescaledb_catalog.hypertable WHERE table_name = 'metrics'")
    strange = [name for name in inserted(raw) if f"._hyper_{offered[0][0]}_" not in name]
    assert strange
    assert all(name.startswith("_timescaledb_internal._hyper_") for name in strange), strange
    assert database.rows("SELECT hypertable_name FROM timescaledb_information.hypertables ORDER BY 1") == [
        ("events",),
        ("metrics",),
    ], "nobody's, for who asks there"

    ended = ending_well(community.sync("metrics", "hourly"))

    assert set(ended.records) == {("public", "metrics"), ("public", "hourly")}
    assert sorted(told(ended)) == sorted(CHANGED)
    mirrors(community, "hourly")


def test_trap_23_the_text_of_a_regclass_depends_on_who_asks(followed: Followed) -> None:
    """Since 2.29 the catalog names a chunk by one. The same column in a table of the user's shows it on any version."""
    database, superuser = followed.database, followed.database.as_superuser()
    database.execute("CREATE TABLE notes (id int PRIMARY KEY, chunk regclass)")
    note = "INSERT INTO notes SELECT %s, tableoid FROM events WHERE what = 'n5'"
    fill(database)
    database.execute(note, [1])
    followed.publish("events", "notes")
    raw = RawLog(database, PUBLICATION)
    texts = []
    for number, path in ((2, "public"), (3, "public, _timescaledb_internal")):
        database.execute(note, [number])
        superuser.execute(f"SET search_path = {path}".encode())
        texts += texts_inserted(raw)
    qualified, bare = texts
    assert qualified == f"_timescaledb_internal.{bare}"
    superuser.execute(f"ALTER ROLE {database.owner} SET search_path = public, _timescaledb_internal".encode())
    followed.settings["emit_chunk_metadata"] = True

    first = ending_well(followed.sync("events", "notes"))
    database.execute(note, [4])
    database.execute("INSERT INTO events VALUES ('2025-05-05', 'a new chunk')")
    second = ending_well(followed.sync("events", "notes"))

    chunks_told = [row["chunk"] for ended in (first, second) for row in ended.rows("notes")]
    assert chunks_told == [qualified] * 4
    assert [row["_ts_chunk"] for row in second.rows("events")] == [chunks(database, "events")[-1]]


def test_trap_24_a_chunk_that_was_renamed_or_moved_has_no_name_to_know_it_by(followed: Followed) -> None:
    database, superuser = followed.database, followed.database.as_superuser()
    fill(database)
    followed.publish("metrics")
    ending_well(followed.sync("metrics"))
    raw = RawLog(database, PUBLICATION)
    database.execute("CREATE SCHEMA attic")
    superuser.execute(f'ALTER TABLE {chunks(database, "metrics")[0]} RENAME TO "The first."'.encode())
    superuser.execute('ALTER TABLE _timescaledb_internal."The first." SET SCHEMA attic')
    database.execute("INSERT INTO metrics VALUES ('2024-01-01 00:00:01', 99, 1, 'in a renamed chunk')")
    assert inserted(raw) == {"attic.The first.": 1}

    ended = ending_well(followed.sync("metrics"))

    assert set(ended.records) == {("public", "metrics")}
    assert [row["note"] for row in ended.rows("metrics")] == ["in a renamed chunk"]
    database.execute("ALTER TABLE metrics RENAME TO readings")
    database.execute("INSERT INTO readings VALUES ('2024-01-01 00:00:02', 99, 1, 'in a renamed hypertable')")
    assert inserted(raw) == {"attic.The first.": 1}, "as before"
    ended = ending_well(followed.sync("readings"))
    assert set(ended.records) == {("public", "readings")}
    followed.mirrors("readings")


@pytest.mark.community
def test_trap_25_a_chunk_that_is_attached_again_has_a_new_id_and_its_old_oid(community: Followed) -> None:
    database = community.database
    fill(database)
    community.publish("metrics")
    ending_well(community.sync("metrics"))
    chunk = chunks(database, "metrics")[0]
    ids, oid = identities(database, chunk)
    database.execute(f"CALL detach_chunk('{chunk}')".encode())
    slices = '{"time": ["2024-01-01", "2024-01-02"]}'
    database.execute(f"CALL attach_chunk('metrics', '{chunk}', '{slices}')".encode())
    ids_now, oid_now = identities(database, chunk)
    assert oid == oid_now
    assert (len(ids - ids_now), len(ids_now - ids)) == (1, 1)
    ending_well(community.sync("metrics"))
    database.execute("UPDATE metrics SET note = 'after' WHERE device = 3 AND time < '2024-01-02'")
    database.execute("DELETE FROM metrics WHERE device = 4 AND time < '2024-01-02'")

    ending_well(community.sync("metrics"))

    community.mirrors("metrics")
    assert ending_well(community.sync("metrics")).records == {}


def identities(database: Database, chunk: str) -> tuple[set[int], int]:
    """The ids that the catalog has for chunks, and the oid of one of them."""
    ids = {number for (number,) in database.rows("SELECT id FROM _timescaledb_catalog.chunk")}
    return ids, database.value("SELECT %s::regclass::oid::int", [chunk])


def test_trap_26_a_column_has_another_place_in_a_chunk_than_in_its_hypertable(followed: Followed) -> None:
    """The server counts dropped columns where it sends none; and a chunk can be made of a table that was there before."""
    database = followed.database
    fill(database)
    for statement in (
        "ALTER TABLE events DROP COLUMN what",
        "ALTER TABLE events ADD COLUMN what text DEFAULT 'added', ADD COLUMN number int DEFAULT 7",
        "INSERT INTO events VALUES ('2025-05-05', 'makes a chunk', 1)",
        "CREATE TABLE own (number int, time timestamptz NOT NULL, what text)",
        "ALTER TABLE own REPLICA IDENTITY FULL",
    ):
        database.execute(statement.encode())
    old, *_, new = chunks(database, "events")
    assert (place(database, old, "what"), place(database, new, "what")) == (3, 2)
    times = ["2024-01-01", "2025-05-05"]
    if database.cluster.community:
        database.as_superuser().execute(MAKE_CHUNK)
        times.append("2026-06-06")
    followed.publish("events")
    ending_well(followed.sync("events"))
    raw = RawLog(database, PUBLICATION)
    database.execute("INSERT INTO events SELECT unnest(%s::timestamptz[]), 'told', 8", [times])
    orders = {
        tuple(column.name for column in one.columns) for one in raw.messages() if isinstance(one, Relation)
    }
    own = {("number", "time", "what")} if database.cluster.community else set()
    assert orders == {("time", "what", "number"), *own}

    ended = ending_well(followed.sync("events"))

    assert [(row["what"], row["number"]) for row in ended.rows("events")] == [("told", 8)] * len(times)
    followed.mirrors("events")


def place(database: Database, relation: str, column: str) -> int:
    """The number of a column."""
    number: int = database.value(
        "SELECT attnum FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s", [relation, column]
    )
    return number


def test_trap_27_copy_writes_its_rows_chunk_by_chunk_and_not_in_their_order(followed: Followed) -> None:
    database = followed.database
    fill(database)
    followed.publish("events")
    ending_well(followed.sync("events"))
    raw = RawLog(database, PUBLICATION)
    lines = [(f"2024-01-0{number % 3 + 1} 12:00Z", f"c{number}") for number in range(9)]
    with database.session("owner").cursor().copy("COPY events FROM STDIN") as copy:
        for line in lines:
            copy.write_row(line)
    written = texts_inserted(raw)
    assert sorted(written) == sorted(what for _, what in lines)
    assert written != [what for _, what in lines]

    rows = ending_well(followed.sync("events")).rows("events")

    assert [row["what"] for row in rows] == written
    clocks = [row[LSN] for row in rows]
    assert clocks == sorted(set(clocks))
    followed.mirrors("events")
