"""Publications: what each form covers, missing chunks added, and nothing that breaks the application."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from integration_tests.postgres.test_connection import settings
from source_timescaledb.errors import ConfigurationError, ContentionError
from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.postgres.connection import Connection, Session, open_connection
from source_timescaledb.postgres.identity import (
    Identity,
    ReplicaIdentity,
    replica_identities,
    unsafe_identities,
)
from source_timescaledb.postgres.publication import (
    Publication,
    add_tables,
    create_publication,
    missing_chunks,
    published,
    read_publication,
)
from testkit.database import Database


@contextmanager
def writing(database: Database, role: str) -> Iterator[Connection]:
    password = database.passwords["owner" if role == database.owner else "reader"]
    as_role = settings(database, username=role, password=password)
    with open_connection(as_role, "test", Session.WRITING) as opened:
        yield opened


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """The owner of the tables, who is no superuser."""
    with writing(database, database.owner) as opened:
        yield opened


def create_hypertable(database: Database, name: str = "metrics", *, key: bool = True) -> None:
    primary = ", PRIMARY KEY (time, device)" if key else ""
    database.execute(
        f"CREATE TABLE {name} (time timestamptz NOT NULL, device int NOT NULL{primary})".encode()
    )
    database.execute(
        "SELECT create_hypertable(%s::regclass, 'time', chunk_time_interval => interval '1 day')", [name]
    )


def insert_days(database: Database, first: int, last: int, name: str = "metrics") -> None:
    statement = (
        f"INSERT INTO {name} SELECT '2024-01-01'::timestamptz + d * interval '1 day', d"
        " FROM generate_series(%s::int, %s::int) d"
    )
    database.execute(statement.encode(), [first, last])


def oid(database: Database, name: str) -> int:
    found: int = database.value("SELECT %s::regclass::oid::int8", [name])
    return found


def chunks(database: Database, name: str = "metrics") -> set[int]:
    rows = database.rows("SELECT inhrelid::int8 FROM pg_inherits WHERE inhparent = %s::regclass", [name])
    return {one for (one,) in rows}


def facts(connection: Connection, name: str) -> Publication:
    publication = read_publication(connection, name)
    assert publication is not None
    return publication


def test_the_facts_of_a_publication_are_read(database: Database, connection: Connection) -> None:
    database.execute("CREATE TABLE a (x int PRIMARY KEY, y int); CREATE TABLE b (x int PRIMARY KEY, y int)")
    database.execute(
        'CREATE PUBLICATION "it\'s" FOR TABLE a WHERE (x > 1), b (x)'
        " WITH (publish = 'insert, delete', publish_via_partition_root = true)"
    )

    publication = facts(connection, "it's")

    assert (publication.owner, publication.owned, publication.all_tables) == (database.owner, True, False)
    assert (publication.inserts, publication.updates) == (True, False)
    assert (publication.deletes, publication.truncates, publication.via_root) == (True, False, True)
    assert [one.name for one in publication.filtered] == [QualifiedName("public", "a")]
    assert [one.name for one in publication.narrowed] == [QualifiedName("public", "b")]
    assert publication.schemas == ()


def test_a_publication_of_somebody_else_is_not_owned(database: Database) -> None:
    database.execute("CREATE PUBLICATION p")

    with writing(database, database.reader) as reader:
        assert not facts(reader, "p").owned
        assert read_publication(reader, "absent") is None


def test_a_publication_of_a_hypertable_covers_only_the_chunks_of_its_moment(
    database: Database, connection: Connection
) -> None:
    create_hypertable(database)
    insert_days(database, 1, 2)
    early = chunks(database)
    database.execute("CREATE PUBLICATION p FOR TABLE metrics")
    insert_days(database, 3, 4)

    root = oid(database, "metrics")
    assert published(connection, facts(connection, "p"), {root, *chunks(database)}) == {root, *early}
    missing = missing_chunks(connection, facts(connection, "p"), [root])
    assert {one.oid for one in missing} == chunks(database) - early
    assert {one.hypertable for one in missing} == {root}
    assert {one.name.schema for one in missing} == {"_timescaledb_internal"}


def test_a_publication_of_a_schema_covers_the_chunks_that_lie_in_it(
    database: Database, connection: Connection
) -> None:
    create_hypertable(database)
    insert_days(database, 1, 2)
    superuser = database.as_superuser()
    superuser.execute("CREATE PUBLICATION outside FOR TABLES IN SCHEMA public")
    superuser.execute("CREATE PUBLICATION inside FOR TABLES IN SCHEMA _timescaledb_internal")
    insert_days(database, 3, 4)

    root, every = oid(database, "metrics"), chunks(database)
    assert facts(connection, "outside").schemas == ("public",)
    assert published(connection, facts(connection, "outside"), {root, *every}) == {root}
    assert published(connection, facts(connection, "inside"), {root, *every}) == every
    assert missing_chunks(connection, facts(connection, "inside"), [root]) == []


def test_a_publication_of_all_tables_covers_all_that_is_logged(
    database: Database, connection: Connection
) -> None:
    create_hypertable(database)
    database.execute("CREATE UNLOGGED TABLE fleeting (a int)")
    database.as_superuser().execute("CREATE PUBLICATION p FOR ALL TABLES")
    insert_days(database, 1, 2)

    publication = facts(connection, "p")
    fleeting = oid(database, "fleeting")
    assert publication.all_tables
    assert published(connection, publication, {fleeting, *chunks(database)}) == chunks(database)


def test_a_partition_is_covered_by_its_root(database: Database, connection: Connection) -> None:
    database.execute(
        "CREATE TABLE root (a int PRIMARY KEY) PARTITION BY RANGE (a);"
        " CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (1) TO (10); CREATE TABLE alone (a int)"
    )
    database.execute("CREATE PUBLICATION p FOR TABLE root")

    asked = {oid(database, name) for name in ("root", "leaf", "alone")}
    assert published(connection, facts(connection, "p"), asked) == asked - {oid(database, "alone")}


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_missing_chunks_are_added_whatever_happens_to_some_of_them(
    database: Database, connection: Connection, at_once: int
) -> None:
    create_hypertable(database)
    insert_days(database, 1, 2)
    database.execute("CREATE PUBLICATION p FOR TABLE metrics")
    insert_days(database, 3, 8)
    root = oid(database, "metrics")
    missing = missing_chunks(connection, facts(connection, "p"), [root])
    database.execute("SELECT drop_chunks('metrics', newer_than => '2024-01-08')")
    taken = sql.SQL("ALTER PUBLICATION p ADD TABLE ONLY {}").format(sql.Identifier(*missing[2].name))
    database.execute(taken)

    add_tables(connection, "p", [chunk.name for chunk in missing], at_once=at_once)

    assert missing_chunks(connection, facts(connection, "p"), [root]) == []
    assert len(chunks(database)) < len(missing) + 2


def test_a_role_that_may_not_add_chunks_is_given_the_statement(database: Database) -> None:
    create_hypertable(database)
    database.execute("CREATE PUBLICATION p FOR TABLE metrics")
    insert_days(database, 1, 15)
    with writing(database, database.reader) as reader:
        missing = missing_chunks(reader, facts(reader, "p"), [oid(database, "metrics")])

        with pytest.raises(ConfigurationError) as caught:
            add_tables(reader, "p", [chunk.name for chunk in missing])

    first = '"_timescaledb_internal"."' + missing[0].name.name + '"'
    (statement,) = caught.value.statements
    assert f'ALTER PUBLICATION "p" ADD TABLE ONLY {first}, ONLY' in statement.text
    assert statement.text.count("ONLY") == len(missing)


def identities(connection: Connection, database: Database, *names: str) -> dict[str, ReplicaIdentity]:
    found = replica_identities(connection, [oid(database, name) for name in names])
    return {identity.name.name: identity for identity in found}


def test_usable_and_unusable_replica_identities_are_told_apart(
    database: Database, connection: Connection
) -> None:
    database.execute(
        "CREATE TABLE keyed (a int PRIMARY KEY);"
        " CREATE TABLE late (a int PRIMARY KEY DEFERRABLE);"
        " CREATE TABLE keyless (a int);"
        " CREATE TABLE indexed (a int NOT NULL, b int); CREATE UNIQUE INDEX good ON indexed (a) INCLUDE (b);"
        " CREATE TABLE nullable (a int UNIQUE);"
        ' CREATE TABLE "Chosen %" (a int NOT NULL); CREATE UNIQUE INDEX mine ON "Chosen %" (a);'
        ' ALTER TABLE "Chosen %" REPLICA IDENTITY USING INDEX mine;'
        " CREATE TABLE complete (a int); ALTER TABLE complete REPLICA IDENTITY FULL;"
        " CREATE TABLE nothing (a int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING"
    )

    names = ("keyed", "late", "keyless", "indexed", "nullable", '"Chosen %"', "complete", "nothing")
    found = identities(connection, database, *names)

    assert {name for name, identity in found.items() if identity.usable} == {"keyed", "Chosen %", "complete"}
    assert found["Chosen %"].identity is Identity.INDEX
    assert found["keyless"].remedy.text == 'ALTER TABLE "public"."keyless" REPLICA IDENTITY FULL;'
    assert (
        found["indexed"].remedy.text == 'ALTER TABLE "public"."indexed" REPLICA IDENTITY USING INDEX "good";'
    )
    assert found["nullable"].candidate is None


def test_the_server_agrees_about_which_replica_identities_are_usable(
    database: Database, connection: Connection
) -> None:
    database.execute(
        "CREATE TABLE keyed (a int PRIMARY KEY); CREATE TABLE late (a int PRIMARY KEY DEFERRABLE);"
        " CREATE TABLE keyless (a int); CREATE TABLE chosen (a int NOT NULL);"
        " CREATE UNIQUE INDEX mine ON chosen (a); ALTER TABLE chosen REPLICA IDENTITY USING INDEX mine;"
        " CREATE TABLE lost (a int NOT NULL); CREATE UNIQUE INDEX dropped ON lost (a);"
        " ALTER TABLE lost REPLICA IDENTITY USING INDEX dropped; DROP INDEX dropped"
    )
    names = ("keyed", "late", "keyless", "chosen", "lost")
    found = identities(connection, database, *names)
    database.execute("CREATE PUBLICATION p FOR TABLE keyed, late, keyless, chosen, lost")

    for name in names:
        database.execute(f"INSERT INTO {name} VALUES (1)".encode())
        assert updates(database, name) == found[name].usable, name


def updates(database: Database, table: str) -> bool:
    """Whether the application's UPDATE works."""
    try:
        database.execute(f"UPDATE {table} SET a = 2".encode())
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return False
    return True


def test_no_publication_is_made_that_breaks_updates_and_the_remedy_mends_it(
    database: Database, connection: Connection
) -> None:
    create_hypertable(database)
    create_hypertable(database, "keyless", key=False)
    insert_days(database, 1, 3)
    insert_days(database, 1, 3, "keyless")
    tables = [(oid(database, name), QualifiedName("public", name)) for name in ("metrics", "keyless")]

    with pytest.raises(ConfigurationError, match=r"public\.keyless") as caught:
        create_publication(connection, "p", tables)

    assert "public.metrics" not in str(caught.value)
    assert "_hyper" not in str(caught.value)
    assert read_publication(connection, "p") is None
    for statement in caught.value.statements:
        database.execute(statement.text.encode())
    create_publication(connection, "p", tables)
    insert_days(database, 4, 5, "keyless")
    database.execute(
        "UPDATE keyless SET device = -1; DELETE FROM keyless; UPDATE metrics SET device = -device"
    )
    assert unsafe_identities(connection, [one for one, _ in tables]) == []


def test_a_chunk_that_is_worse_off_than_its_hypertable_is_named(
    database: Database, connection: Connection
) -> None:
    create_hypertable(database)
    insert_days(database, 1, 2)
    (first, *_) = sorted(chunks(database))
    name = database.value("SELECT relname FROM pg_class WHERE oid = %s", [first])
    # TimescaleDB refuses ALTER TABLE on a chunk; a table that was attached can be like this.
    database.as_superuser().execute("UPDATE pg_class SET relreplident = 'n' WHERE oid = %s", [first])

    (unsafe,) = unsafe_identities(connection, [oid(database, "metrics")])

    assert unsafe.name == QualifiedName("_timescaledb_internal", name)


def test_a_publication_of_inserts_only_is_safe_for_any_table(
    database: Database, connection: Connection
) -> None:
    create_hypertable(database, "keyless", key=False)
    insert_days(database, 1, 3, "keyless")
    table = (oid(database, "keyless"), QualifiedName("public", "keyless"))

    create_publication(connection, "p", [table], inserts_only=True)

    publication = facts(connection, "p")
    assert (publication.inserts, publication.updates, publication.deletes) == (True, False, False)
    assert missing_chunks(connection, publication, [table[0]]) == []
    database.execute("UPDATE keyless SET device = -1; DELETE FROM keyless")


def test_a_role_that_may_not_make_a_publication_is_given_the_statement(database: Database) -> None:
    create_hypertable(database)
    with writing(database, database.reader) as reader:
        table = (oid(database, "metrics"), QualifiedName("public", "metrics"))
        with pytest.raises(ConfigurationError) as caught:
            create_publication(reader, "p", [table])

    assert 'CREATE PUBLICATION "p" FOR TABLE "public"."metrics" WITH' in caught.value.sentence


def test_a_publication_that_somebody_else_has_made_meanwhile_is_contention(
    database: Database, connection: Connection
) -> None:
    create_hypertable(database)
    database.execute("CREATE PUBLICATION p")

    with pytest.raises(ContentionError, match="p failed"):
        create_publication(connection, "p", [(oid(database, "metrics"), QualifiedName("public", "metrics"))])
