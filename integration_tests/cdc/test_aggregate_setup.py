"""What it takes for a continuous aggregate to be followed, who says so, and that no refresh ever fails because of us."""

from __future__ import annotations

import re
from typing import Final

import psycopg
import pytest

from integration_tests.cdc.aggregates import (
    aggregate,
    ending_well,
    identify,
    mirrors,
    publish,
    refresh,
    table_of,
)
from integration_tests.cdc.conftest import PUBLICATION, Followed, fill, make_tables
from integration_tests.inprocess import Ended
from source_timescaledb.cdc.followed import DELETED_AT, LSN
from testkit.database import Database
from testkit.protocol import Json

pytestmark = pytest.mark.community

SQL: Final = re.compile(r"ALTER (?:TABLE|PUBLICATION) [^;]+;")


@pytest.fixture
def followed(community_database: Database) -> Followed:
    """A hypertable with rows of three days and the aggregates `hourly` and `other`; nothing is published yet."""
    make_tables(community_database)
    fill(community_database)
    aggregate(community_database, "hourly")
    aggregate(community_database, "other")
    return Followed(community_database, f"slot_{community_database.name}")


def warnings(followed: Followed, *words: str) -> list[str]:
    """What `check`, which succeeds, warns of in these words."""
    succeeded, message, logged = followed.source().check()
    assert succeeded, message
    return [line for line in logged if line.startswith("WARNING") and all(word in line for word in words)]


def statements(text: str) -> list[str]:
    """The SQL that a sentence tells to run."""
    return SQL.findall(text)


def run(database: Database, sentence: str) -> None:
    for statement in statements(sentence):
        database.execute(statement.encode())


def offered(followed: Followed) -> dict[str, Json]:
    return {stream["name"]: stream for stream in followed.source().discover()["streams"]}


def change(database: Database) -> None:
    database.execute("UPDATE metrics SET value = value + 1 WHERE device = 1 AND time < '2024-01-01 06:00Z'")


def published(database: Database) -> set[str]:
    """The tables and chunks in the publication."""
    query = "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_publication_tables WHERE pubname = %s"
    return {name for (name,) in database.rows(query, [PUBLICATION])}


def lines(ended: Ended, *words: str) -> list[str]:
    return [line for line in ended.logged if all(word in line for word in words)]


def test_an_aggregate_that_is_not_prepared_is_read_by_a_cursor_and_the_sync_says_what_it_lacks(
    followed: Followed,
) -> None:
    followed.publish("metrics")
    stream = offered(followed)["hourly"]
    assert stream["default_cursor_field"] == ["bucket"]
    assert not stream["source_defined_cursor"]
    assert LSN not in stream["json_schema"]["properties"]

    first = ending_well(followed.sync("metrics", "hourly"))

    assert len(first.rows("hourly")) == 84
    assert DELETED_AT not in first.rows("hourly")[0]
    assert len(lines(first, "public.hourly are not followed", "REPLICA IDENTITY FULL;")) == 1
    followed.database.execute("INSERT INTO metrics VALUES ('2024-02-01', 1, 1, 'later')")
    refresh(followed.database, "hourly", "other")
    source = followed.source()
    catalog = source.catalog("incremental", ["metrics", "hourly"])
    second = ending_well(source.read(catalog, first.state()))
    assert [row["bucket"] for row in second.rows("hourly")] == ["2024-02-01T00:00:00.000000Z"]
    assert published(followed.database).isdisjoint({table_of(followed.database, "hourly")})


def test_after_the_sql_that_check_tells_an_aggregate_is_followed(followed: Followed) -> None:
    database = followed.database
    followed.publish("metrics")
    ending_well(followed.sync("metrics", "hourly"))
    followed.destinations.clear()
    followed.state[0]["global"]["stream_states"].clear()
    (warning,) = warnings(followed, "public.hourly", "read without its changes")
    table = '"' + table_of(database, "hourly").replace(".", '"."') + '"'
    assert statements(warning) == [
        f"ALTER TABLE {table} REPLICA IDENTITY FULL;",
        f'ALTER PUBLICATION "{PUBLICATION}" ADD TABLE {table};',
    ]

    for statement in statements(warning):
        database.execute(statement.encode())
        change(database)
        refresh(database, "hourly")

    assert warnings(followed, "public.hourly") == []
    assert len(warnings(followed, "public.other")) == 1
    ending_well(followed.sync("metrics", "hourly"))
    change(database)
    refresh(database, "hourly")
    assert len(ending_well(followed.sync("metrics", "hourly")).rows("hourly")) == 1
    mirrors(followed, "hourly")


def test_an_aggregate_that_was_read_by_its_cursor_is_read_again_and_then_followed(followed: Followed) -> None:
    database = followed.database
    followed.publish("metrics")
    ending_well(followed.sync("metrics", "hourly"))
    followed.destinations.pop("hourly")
    identify(database, "hourly")
    database.execute(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE {table_of(database, 'hourly')}".encode())

    assert len(ending_well(followed.sync("metrics", "hourly")).rows("hourly")) == 84

    change(database)
    refresh(database, "hourly")
    assert len(ending_well(followed.sync("metrics", "hourly")).rows("hourly")) == 1
    mirrors(followed, "hourly")


def test_an_aggregate_of_which_the_role_may_read_some_columns_only_is_not_followed(
    followed: Followed,
) -> None:
    database, superuser = followed.database, followed.database.as_superuser()
    publish(followed, "hourly")
    superuser.execute(f'ALTER ROLE "{database.reader}" REPLICATION'.encode())
    database.execute(f'GRANT SELECT (bucket, total) ON hourly TO "{database.reader}"'.encode())
    source = followed.source()
    source.config |= {"username": database.reader, "password": database.passwords["reader"]}
    catalog = source.catalog("incremental", ["hourly"])

    ended = ending_well(source.read(catalog))

    assert len(ended.rows("hourly")) == 84
    assert ended.rows("hourly")[0].keys() == {"bucket", "total"}
    assert lines(ended, "the role may not read all of it")


def test_deletes_that_leave_no_trace_are_told_of_where_they_can_be_written(followed: Followed) -> None:
    publish(followed, "hourly")
    words = "refresh of a compressed continuous aggregate"
    assert warnings(followed, words) == [], "nothing is compressed"
    followed.database.execute("ALTER MATERIALIZED VIEW hourly SET (timescaledb.compress = true)")
    assert len(warnings(followed, words)) == 1

    followed.database.execute(
        f'ALTER DATABASE "{followed.database.name}"'
        " SET timescaledb.enable_compressed_direct_batch_delete = off".encode()
    )

    assert warnings(followed, words) == []


def test_an_identity_alone_lacks_the_publication(followed: Followed) -> None:
    followed.publish("metrics")
    identify(followed.database, "hourly")

    (warning,) = warnings(followed, "public.hourly")

    assert len(statements(warning)) == 1
    assert f'ALTER PUBLICATION "{PUBLICATION}" ADD TABLE' in warning


def test_a_publication_without_identity_is_told_to_break_the_refresh_until_its_sql_is_run(
    followed: Followed,
) -> None:
    database = followed.database
    followed.publish("metrics", table_of(database, "hourly"))
    change(database)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="replica identity"):
        refresh(database, "hourly")

    (warning,) = warnings(followed, "public.hourly")

    assert "makes the refresh of continuous aggregates fail" in warning
    ended = ending_well(followed.sync("metrics", "hourly"))
    assert DELETED_AT not in ended.rows("hourly")[0]
    run(database, warning)
    refresh(database, "hourly")
    assert warnings(followed, "public.hourly") == []


def test_a_publication_of_the_whole_schema_of_chunks_is_told_to_break_every_refresh(
    followed: Followed,
) -> None:
    database, superuser = followed.database, followed.database.as_superuser()
    superuser.execute(
        f"CREATE PUBLICATION {PUBLICATION} FOR TABLE metrics, TABLES IN SCHEMA _timescaledb_internal".encode()
    )
    superuser.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [followed.slot])
    followed.settings["continuous_aggregates"] = False

    (warning,) = warnings(followed, "makes the refresh of continuous aggregates fail")

    assert "public.hourly, public.other" in warning
    run(database, warning)
    change(database)
    refresh(database, "hourly", "other")
    del followed.settings["continuous_aggregates"]
    assert warnings(followed, "public.hourly") == []
    ending_well(followed.sync("metrics", "hourly", "other"))
    database.execute("DELETE FROM metrics WHERE device = 2")
    database.execute("INSERT INTO metrics VALUES ('2024-02-01', 1, 1, 'a new chunk')")
    refresh(database, "hourly", "other")
    ending_well(followed.sync("metrics", "hourly", "other"))
    mirrors(followed, "hourly", "other")


@pytest.mark.parametrize("manage", ["chunks", "full"])
def test_only_what_has_an_identity_is_ever_added_to_a_publication(followed: Followed, manage: str) -> None:
    database = followed.database
    followed.settings["manage_publication"] = manage
    identify(database, "hourly")
    if manage == "chunks":
        followed.publish("metrics", table_of(database, "hourly"))
    database.execute("INSERT INTO metrics VALUES ('2024-02-01', 1, 1, 'a new chunk')")
    refresh(database, "hourly", "other")

    ending_well(followed.sync("metrics", "hourly", "other"))

    assert chunks(database, "hourly") < published(database)
    assert published(database).isdisjoint({table_of(database, "other"), *chunks(database, "other")})
    database.execute("DELETE FROM metrics WHERE device = 2")
    refresh(database, "hourly", "other")
    ending_well(followed.sync("metrics", "hourly", "other"))
    mirrors(followed, "hourly")


def chunks(database: Database, name: str) -> set[str]:
    return {chunk for (chunk,) in database.rows("SELECT show_chunks(%s)::text", [name])}


def test_where_publications_are_made_an_aggregate_needs_its_identity_only(followed: Followed) -> None:
    database = followed.database
    followed.settings["manage_publication"] = "full"
    (warning,) = warnings(followed, "public.hourly")
    run(database, statements(warning)[0])

    ending_well(followed.sync("metrics", "hourly"))

    change(database)
    refresh(database, "hourly")
    assert len(ending_well(followed.sync("metrics", "hourly")).rows("hourly")) == 1
    mirrors(followed, "hourly")


@pytest.fixture
def synced(followed: Followed) -> Followed:
    """`metrics` and `hourly`, synced once."""
    publish(followed, "hourly")
    ending_well(followed.sync("metrics", "hourly"))
    return followed


LOSSES: Final = {
    "identity": "ALTER TABLE {} REPLICA IDENTITY DEFAULT",
    "publication": f"ALTER PUBLICATION {PUBLICATION} DROP TABLE {{}}",
}


@pytest.mark.parametrize("loss", LOSSES)
def test_an_aggregate_that_cannot_be_followed_any_more_is_an_error_and_loses_nothing(
    synced: Followed, loss: str
) -> None:
    database = synced.database
    change(database)
    refresh(database, "hourly")
    database.execute(LOSSES[loss].format(table_of(database, "hourly")).encode())
    state = synced.state
    catalog = synced.source().catalog("incremental", ["metrics", "hourly"])

    ended = synced.source().read(catalog, state)

    assert ended.failure is not None
    (error,) = ended.errors
    assert error["failure_type"] == "config_error"
    assert "public.hourly were followed and cannot be any more" in error["message"]
    assert ended.records == {}
    assert ended.states == []
    run(database, error["message"])
    change(database)
    refresh(database, "hourly")
    if loss == "publication":
        assert "left the publication" in str(synced.sync("metrics", "hourly").errors)
        clear(synced, "hourly")
    ending_well(synced.sync("metrics", "hourly"))
    mirrors(synced, "hourly")
    synced.mirrors("metrics")


def clear(followed: Followed, name: str) -> None:
    """Refresh a stream, as a platform does it: without its state and what the destination has of it."""
    entries: list[Json] = followed.state[0]["global"]["stream_states"]
    entries[:] = [entry for entry in entries if entry["stream_descriptor"]["name"] != name]
    followed.destinations.pop(name)


def test_a_cleared_aggregate_that_cannot_be_followed_any_more_is_read_by_its_cursor(synced: Followed) -> None:
    database = synced.database
    database.execute(f"ALTER PUBLICATION {PUBLICATION} DROP TABLE {table_of(database, 'hourly')}".encode())
    clear(synced, "hourly")

    ended = ending_well(synced.sync("metrics", "hourly"))

    assert len(ended.rows("hourly")) == 84
    assert DELETED_AT not in ended.rows("hourly")[0]


def test_a_catalog_of_followed_changes_is_not_read_by_another_cursor_without_a_word(
    synced: Followed,
) -> None:
    database, source = synced.database, synced.source()
    catalog = source.catalog("incremental", ["hourly"])
    database.execute(f"ALTER PUBLICATION {PUBLICATION} DROP TABLE {table_of(database, 'hourly')}".encode())

    ended = source.read(catalog)

    assert ended.failure is not None
    assert "refresh the source schema" in ended.errors[0]["message"]


def test_an_identity_that_is_lost_in_mid_sync_stops_what_would_break_the_refresh(synced: Followed) -> None:
    database, table = synced.database, table_of(synced.database, "hourly")

    def lose() -> None:
        database.execute("INSERT INTO metrics VALUES ('2024-02-01', 1, 1, 'a new chunk')")
        refresh(database, "hourly")
        database.execute(f"ALTER TABLE {table} REPLICA IDENTITY DEFAULT".encode())

    ended = synced.sync("metrics", "hourly", acts={("STATE", 1): lose})

    assert ended.failure is not None
    assert "has lost its replica identity" in str(ended.errors)
    new = {chunk for chunk in chunks(database, "hourly") if chunk not in published(database)}
    assert len(new) == 1
    run(database, str(ended.errors))
    refresh(database, "hourly")
    ending_well(synced.sync("metrics", "hourly"))
    mirrors(synced, "hourly")


def test_an_index_that_holds_the_key_is_an_identity_too(followed: Followed) -> None:
    database, superuser = followed.database, followed.database.as_superuser()
    aggregate(
        database,
        "daily",
        "SELECT time_bucket('1 day', time) AS day, sum(value) AS total FROM metrics GROUP BY 1",
    )
    table = table_of(database, "daily")
    superuser.execute(f"CREATE UNIQUE INDEX by_day ON {table} (day)".encode())
    superuser.execute(f"ALTER TABLE {table} REPLICA IDENTITY USING INDEX by_day".encode())
    followed.publish(table)
    ending_well(followed.sync("daily"))
    change(database)
    database.execute("DELETE FROM metrics WHERE time >= '2024-01-03'")
    refresh(database, "daily")

    ended = ending_well(followed.sync("daily"))

    assert any(row[DELETED_AT] is not None for row in ended.rows("daily"))
    mirrors(followed, "daily")


def test_the_connector_leaves_identities_and_refreshes_alone_whatever_it_may(followed: Followed) -> None:
    database = followed.database
    followed.settings["manage_publication"] = "full"
    followed.source().check()
    followed.source().discover()

    ending_well(followed.sync("metrics", "hourly"))

    query = "SELECT relreplident::text FROM pg_class WHERE oid = %s::regclass"
    assert database.value(query, [table_of(database, "hourly")]) == "d"
    change(database)
    refresh(database, "hourly", "other")
    aggregate(database, "another")
