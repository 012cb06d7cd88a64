"""Rows of chunks that are in no publication, or come into the hypertable with rows in them: the log has nothing of those.

A chunk that is missed is missed for good: its rows are not in the log, and no later addition brings them back. The
connector looks for chunks in the catalog, publishes what is missing, and reads what was written before.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing

import pytest

from integration_tests.cdc.aggregates import ending_well
from integration_tests.cdc.conftest import PUBLICATION, Followed, fill
from integration_tests.cdc.raw import RawLog, Told
from integration_tests.inprocess import Ended
from testkit.database import Database

AUTO = "timescaledb.enable_chunk_auto_publication"
REBUILD = """DO $$
DECLARE
    indexes text[] := (SELECT array_agg(indexdef) FROM pg_indexes
                       WHERE schemaname = '_timescaledb_catalog' AND tablename = 'chunk');
    views text[] := (SELECT array_agg(format('CREATE OR REPLACE VIEW %s AS %s', oid::regclass, pg_get_viewdef(oid))
                                      ORDER BY oid)
                     FROM pg_class JOIN pg_depend ON objid = oid WHERE deptype = 'e' AND relkind = 'v');
    one text;
BEGIN
    CREATE TABLE public.kept AS SELECT * FROM _timescaledb_catalog.chunk;
    FOR one IN SELECT oid::regclass FROM pg_class JOIN pg_depend ON objid = oid WHERE deptype = 'e' AND relkind = 'v' LOOP
        EXECUTE 'ALTER EXTENSION timescaledb DROP VIEW ' || one;
    END LOOP;
    ALTER EXTENSION timescaledb DROP TABLE _timescaledb_catalog.chunk;
    ALTER SEQUENCE _timescaledb_catalog.chunk_id_seq OWNED BY NONE;
    DROP TABLE _timescaledb_catalog.chunk CASCADE;
    CREATE TABLE _timescaledb_catalog.chunk (LIKE public.kept) WITH (user_catalog_table = true);
    INSERT INTO _timescaledb_catalog.chunk SELECT * FROM public.kept;
    FOREACH one IN ARRAY indexes || views LOOP EXECUTE one; END LOOP;
    GRANT SELECT ON ALL TABLES IN SCHEMA _timescaledb_catalog, timescaledb_information TO PUBLIC;
END $$"""
"""What updates to TimescaleDB 2.26.0 and 2.29.0 do to its table of chunks (`sql/updates/2.25.2--2.26.0.sql`)."""
UNOBSERVED = "-c timescaledb.disable_load=on -c event_triggers=off"
"""A session in which TimescaleDB does not see what happens to its catalog."""
BORN = "INSERT INTO events VALUES ('2025-05-05', '{}')"


def notes(ended: Ended) -> list[str]:
    """What the records of `events` say, sorted."""
    return sorted(row["what"] for row in ended.rows("events"))


@pytest.fixture
def synced(followed: Followed) -> Followed:
    """Tables of three days, published by their names and read once."""
    fill(followed.database)
    followed.publish("metrics", "events")
    ending_well(followed.sync("metrics", "events"))
    return followed


def test_trap_01_a_publication_of_the_hypertable_or_of_its_schema_misses_new_chunks(synced: Followed) -> None:
    """Of its schema it misses even those that are there."""
    database = synced.database
    database.as_superuser().execute("CREATE PUBLICATION schema FOR TABLES IN SCHEMA public")
    by_table, by_schema = RawLog(database, PUBLICATION), RawLog(database, "schema")
    database.execute("INSERT INTO events VALUES ('2024-01-01', 'an old chunk')")
    database.execute(BORN.format("a new chunk").encode())
    assert by_table.told() == {"events": Told(bare=Counter(Insert=1))}, "the row of the old chunk"
    assert by_schema.told() == {}

    ended = ending_well(synced.sync("metrics", "events"))

    assert notes(ended) == ["a new chunk", "an old chunk"]
    synced.mirrors("events")
    synced.method["publication"] = "schema"
    synced.state = []
    ended = synced.sync("metrics", "events")
    assert [error["failure_type"] for error in ended.errors] == ["config_error"]
    assert (
        'ALTER PUBLICATION "schema" ADD TABLE ONLY "_timescaledb_internal"."_hyper_'
        in ended.errors[0]["message"]
    )


def test_trap_02_a_chunk_that_is_published_after_its_first_row_has_lost_it_for_good(synced: Followed) -> None:
    """Even inside of one transaction: what is published is judged as of each change."""
    database = synced.database
    raw = RawLog(database, PUBLICATION)
    with closing(database.connect()) as writer:
        writer.execute(BORN.format("before").encode())
        chunk = writer.execute("SELECT tableoid::regclass::text FROM events WHERE what = 'before'").fetchone()
        assert chunk is not None
        writer.execute(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE ONLY {chunk[0]}".encode())
        writer.execute(BORN.format("after").encode())
        writer.commit()
    assert raw.told() == {"events": Told(bare=Counter(Insert=1))}, "one of the two"

    ended = ending_well(synced.sync("metrics", "events"))

    assert notes(ended) == ["after", "before"]
    synced.mirrors("events")


@pytest.mark.community
@pytest.mark.parametrize("how", ["attach", "split"])
def test_trap_08_rows_that_come_with_a_chunk_that_is_attached_or_split_off_are_not_in_the_log(
    community: Followed, how: str
) -> None:
    database = community.database
    fill(database)
    community.publish("metrics")
    ending_well(community.sync("metrics"))
    chunk, *_ = database.rows("SELECT show_chunks('metrics')::text ORDER BY 1")[0]
    if how == "attach":
        database.execute(f"CALL detach_chunk('{chunk}')".encode())
        database.execute(
            f"INSERT INTO {chunk} VALUES ('2024-01-01 00:00:07', 3, 1, 'while detached')".encode()
        )
        ending_well(community.sync("metrics"))
    raw = RawLog(database, PUBLICATION)
    if how == "attach":
        slices = '{"time": ["2024-01-01", "2024-01-02"]}'
        database.execute(f"CALL attach_chunk('metrics', '{chunk}', '{slices}')".encode())
    else:
        database.execute(f"CALL split_chunk('{chunk}')".encode())
        database.execute("UPDATE metrics SET note = 'after the split' WHERE time = '2024-01-01 23:45:36'")
        assert database.value("SELECT count(*) FROM metrics WHERE note = 'after the split'") == 1
    assert raw.told() == {}, "neither the rows nor what becomes of them later"

    ending_well(community.sync("metrics"))

    community.mirrors("metrics")


def test_trap_09_a_publication_of_the_schema_of_chunks_misses_those_that_lie_elsewhere(
    followed: Followed,
) -> None:
    database, superuser = followed.database, followed.database.as_superuser()
    database.execute("CREATE SCHEMA attic")
    database.execute("CREATE TABLE logs (time timestamptz NOT NULL, what text)")
    database.execute("SELECT create_hypertable('logs', 'time', associated_schema_name => 'attic')")
    database.execute("ALTER TABLE logs REPLICA IDENTITY FULL")
    database.execute("INSERT INTO logs VALUES ('2024-01-01', 'old')")
    superuser.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLES IN SCHEMA _timescaledb_internal".encode())
    superuser.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [followed.slot])
    raw = RawLog(database, PUBLICATION)
    database.execute(BORN.format("published").encode())
    database.execute("INSERT INTO logs VALUES ('2024-01-01', 'lost')")
    assert raw.told() == {"events": Told(bare=Counter(Insert=1))}

    refused = followed.sync("events", "logs")

    assert refused.records == {}
    (error,) = refused.errors
    assert error["failure_type"] == "config_error"
    assert "does not list public.logs" in error["message"]
    superuser.execute(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE logs".encode())
    ending_well(followed.sync("events", "logs"))
    followed.mirrors("events", "logs")


def make_catalog_again(database: Database) -> None:
    """As an update of the extension does; the application connects anew."""
    with closing(database.connect("superuser", options=UNOBSERVED)) as updating:
        updating.execute(REBUILD.encode())
        updating.commit()
    database.disconnect()


def test_trap_11_an_update_of_the_extension_takes_its_catalog_out_of_the_publication(
    synced: Followed,
) -> None:
    """From its table of chunks others learn of new ones. No server here can be updated, so this does what updates do."""
    database = synced.database
    catalog = "_timescaledb_catalog.chunk"
    database.as_superuser().execute(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE {catalog}".encode())
    raw = RawLog(database, PUBLICATION)
    database.execute(BORN.format("announced").encode())
    assert raw.told()["chunk"].bare["Insert"] == 1
    first, read = (ending_well(synced.sync("metrics", "events")) for _ in range(2))
    make_catalog_again(database)
    database.execute("INSERT INTO events VALUES ('2025-06-06', 'not announced')")
    assert "chunk" not in raw.told()

    ended = ending_well(synced.sync("metrics", "events"))

    assert [notes(one) for one in (first, read, ended)] == [["announced"], [], ["not announced"]]
    synced.mirrors("events")


def test_a_slot_with_catalog_changes_from_before_an_update_left_to_read_is_said_to_be_lost(
    synced: Followed,
) -> None:
    """PostgreSQL decodes changes of a user catalog table only while that is there; TimescaleDB 2.28 made some."""
    database = synced.database
    options = "SELECT reloptions FROM pg_class WHERE oid = '_timescaledb_catalog.chunk'::regclass"
    if database.value(options) is None:
        pytest.skip("this version's table of chunks is none that decoders may use")
    database.execute(BORN.format("not read in time").encode())
    make_catalog_again(database)

    ended = synced.sync("metrics", "events")

    assert ended.records == {}
    (error,) = ended.errors
    assert error["failure_type"] == "config_error"
    assert "cannot be read past this point" in error["message"]


def test_trap_12_one_session_without_the_setting_makes_a_chunk_that_is_never_published(
    synced: Followed,
) -> None:
    database = synced.database
    if (
        database.as_superuser().execute("SELECT 1 FROM pg_settings WHERE name = %s", [AUTO]).fetchone()
        is None
    ):
        pytest.skip("TimescaleDB publishes no chunks by itself before 2.25")
    database.execute(f"ALTER DATABASE {database.name} SET {AUTO} = on".encode())
    database.disconnect()
    raw = RawLog(database, PUBLICATION)
    with closing(database.connect()) as careless:
        careless.execute(f"SET {AUTO} = off".encode())
        careless.execute(BORN.format("careless").encode())
        careless.commit()
    database.execute(BORN.format("careful").encode())
    assert raw.told() == {}, "not even what is written with the setting"
    database.execute("INSERT INTO events VALUES ('2025-06-06', 'published by itself')")
    assert raw.told() == {"events": Told(bare=Counter(Insert=1))}

    ended = ending_well(synced.sync("metrics", "events"))

    assert notes(ended) == ["careful", "careless", "published by itself"]
    synced.mirrors("events")
