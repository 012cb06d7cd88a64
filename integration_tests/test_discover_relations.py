"""Relations that are no hypertables are offered, too, each with the key that it really has, and all can be read.

The database of the first fixture is only read, so all the tests of a server share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest
from jsonschema import Draft7Validator
from psycopg import sql

from integration_tests.inprocess import InProcess
from integration_tests.offered import (
    Name,
    assert_rows,
    identifier,
    keys,
    let_read_everything,
    read_whole,
    source,
    streams,
)
from integration_tests.truth import Truth
from testkit.cluster import Cluster
from testkit.database import Database

MAKE_RELATIONS: Final = """
CREATE SCHEMA far;
CREATE TABLE keyed (id int PRIMARY KEY, code text NOT NULL UNIQUE, n int);
CREATE TABLE keyed_by_two (a int, b text, n int, PRIMARY KEY (b, a));
CREATE TABLE far.keyed (id int, name text NOT NULL UNIQUE);
CREATE TABLE uniquely (n int, code text NOT NULL UNIQUE);
CREATE TABLE included (n int NOT NULL, code text NOT NULL); CREATE UNIQUE INDEX ON included (code) INCLUDE (n);
CREATE TABLE nullable (code text UNIQUE);
CREATE TABLE partly (code text NOT NULL, n int NOT NULL); CREATE UNIQUE INDEX ON partly (code) WHERE n > 0;
CREATE TABLE by_expression (code text NOT NULL); CREATE UNIQUE INDEX ON by_expression (lower(code));
CREATE TABLE unordered (flag boolean);
CREATE TABLE measured (device int, at timestamptz, n int, PRIMARY KEY (device, at));
CREATE TABLE measured_uniquely (at timestamptz NOT NULL, device int NOT NULL, n int);
CREATE UNIQUE INDEX ON measured_uniquely (device, at);
SELECT create_hypertable(name, 'at') FROM unnest('{measured, measured_uniquely}'::regclass[]) name;
CREATE TABLE split (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
CREATE TABLE split_low PARTITION OF split FOR VALUES FROM (0) TO (50);
CREATE TABLE split_high PARTITION OF split FOR VALUES FROM (50) TO (1000) PARTITION BY RANGE (id);
CREATE TABLE far.split_highest PARTITION OF split_high FOR VALUES FROM (50) TO (1000);
CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (more text) INHERITS (parent);
CREATE VIEW seen AS SELECT id, n * 2 AS twice FROM keyed;
CREATE MATERIALIZED VIEW stored AS SELECT code, n FROM keyed WITH NO DATA;
CREATE UNIQUE INDEX ON stored (code);
CREATE SEQUENCE counted; CREATE TYPE pair AS (a int, b int);
CREATE TABLE forbidden (id int);
INSERT INTO keyed SELECT i, 'code ' || i, i % 7 FROM generate_series(1, 100) i;
INSERT INTO keyed_by_two SELECT i / 10, 'b' || i % 10, i FROM generate_series(1, 100) i;
INSERT INTO far.keyed SELECT -i, 'name ' || i FROM generate_series(1, 100) i;
INSERT INTO uniquely SELECT i, 'code ' || i FROM generate_series(1, 100) i;
INSERT INTO included SELECT i, 'code ' || i FROM generate_series(1, 100) i;
INSERT INTO nullable SELECT nullif('code ' || i % 50, 'code 0') FROM generate_series(1, 49) i;
INSERT INTO nullable VALUES (NULL), (NULL);
INSERT INTO partly SELECT 'code', -i FROM generate_series(1, 100) i;
INSERT INTO by_expression SELECT 'code ' || i FROM generate_series(1, 100) i;
INSERT INTO unordered VALUES (true), (false), (NULL);
INSERT INTO measured SELECT i % 3, timestamptz '2024-01-01' + i * interval '5 hours', i FROM generate_series(1, 100) i;
INSERT INTO measured_uniquely SELECT at, device, n FROM measured;
INSERT INTO split SELECT i, i FROM generate_series(1, 100) i;
INSERT INTO parent SELECT generate_series(1, 10); INSERT INTO child SELECT i, 'more' FROM generate_series(11, 20) i;
REFRESH MATERIALIZED VIEW stored;
"""

KEYS: Final[dict[Name, list[str] | None]] = {
    ("far", "keyed"): ["name"],
    ("public", "by_expression"): None,
    ("public", "child"): None,
    ("public", "distant"): None,
    ("public", "included"): ["code"],
    ("public", "keyed"): ["id"],
    ("public", "keyed_by_two"): ["b", "a"],
    ("public", "measured"): ["device", "at"],
    ("public", "measured_uniquely"): ["device", "at"],
    ("public", "nullable"): None,
    ("public", "parent"): ["id"],
    ("public", "partly"): None,
    ("public", "seen"): None,
    ("public", "split"): ["id"],
    ("public", "stored"): None,
    ("public", "uniquely"): ["code"],
    ("public", "unordered"): None,
}
"""Every stream of `MAKE_RELATIONS` and its key. Of a materialized view no column is NOT NULL, so none has a key."""


def make_foreign_table(database: Database) -> None:
    """`distant`, which is `keyed` seen through a connection of the server to itself."""
    superuser, address = database.as_superuser(), database.cluster.address
    superuser.execute("CREATE EXTENSION postgres_fdw")
    superuser.execute("CREATE EXTENSION pg_stat_statements SCHEMA public")
    literals = {
        "host": sql.Literal(address.host),
        "port": sql.Literal(str(address.port)),
        "database": sql.Literal(database.name),
        "reader": sql.Identifier(database.reader),
        "user": sql.Literal(database.reader),
        "password": sql.Literal(database.passwords["reader"]),
    }
    for statement in (
        "CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host {host}, port {port}, dbname {database})",
        "CREATE USER MAPPING FOR {reader} SERVER loop OPTIONS (user {user}, password {password})",
        "CREATE FOREIGN TABLE distant (id int, code text, n int) SERVER loop OPTIONS (table_name 'keyed')",
        "GRANT SELECT ON distant TO {reader}",
    ):
        superuser.execute(sql.SQL(statement).format(**literals))


@pytest.fixture(scope="module")
def relations(server: Cluster) -> Iterator[Database]:
    """A database of relations of every kind, with keys of every kind, left as they are."""
    with server.database() as database:
        database.execute(MAKE_RELATIONS.encode())
        let_read_everything(database, "public", "far")
        revoke = sql.SQL("REVOKE SELECT ON forbidden FROM {}")
        database.execute(revoke.format(sql.Identifier(database.reader)))
        make_foreign_table(database)
        yield database


def test_every_relation_is_offered_with_the_key_it_really_has(relations: Database) -> None:
    offered = streams(source(relations).discover())

    assert {name: keys(stream) for name, stream in offered.items()} == KEYS
    for name, stream in offered.items():
        assert stream["is_resumable"] == (KEYS[name] is not None)
        assert stream["source_defined_cursor"] is False
        cursor = ["at"] if name[1].startswith("measured") else None
        assert stream.get("default_cursor_field") == cursor
        modes = ["full_refresh"] if name[1] == "unordered" else ["full_refresh", "incremental"]
        assert stream["supported_sync_modes"] == modes


def test_every_relation_is_read_completely_and_as_its_schema_says(relations: Database) -> None:
    one = source(relations)

    catalog = one.discover()
    output = read_whole(one)

    assert output.records.keys() == KEYS.keys()
    for name, stream in streams(catalog).items():
        as_reader = Truth.of(relations, f"SELECT * FROM {identifier(name)}", role="reader")
        assert as_reader.parsed(output.records[name]) == as_reader.rows
        schema = Draft7Validator(stream["json_schema"])
        for record in output.records[name]:
            schema.validate(record)


def test_without_checking_privileges_what_the_role_may_not_read_is_offered_too(relations: Database) -> None:
    config = relations.config(schemas=[], check_privileges=False)

    offered = streams(InProcess(config).discover())

    assert set(offered) == {*KEYS, ("public", "forbidden")}


def test_every_type_of_the_server_has_a_valid_schema(database: Database) -> None:
    names = database.rows(
        "SELECT oid::regtype::text FROM pg_type WHERE typtype IN ('b', 'r', 'm')"
        " AND typnamespace = 'pg_catalog'::regnamespace AND typelem NOT IN"
        " (SELECT oid FROM pg_type WHERE typtype IN ('c', 'p')) ORDER BY oid"
    )
    columns = ", ".join(f"c{number} {name}" for number, (name,) in enumerate(names))
    database.execute(f"CREATE TABLE typed ({columns})".encode())
    database.execute("INSERT INTO typed DEFAULT VALUES")
    database.grant_select("typed")

    (stream,) = source(database).discover()["streams"]
    output = read_whole(source(database))

    properties = stream["json_schema"]["properties"]
    assert len(properties) == len(names) > 100
    Draft7Validator.check_schema(stream["json_schema"])
    for schema in properties.values():
        Draft7Validator.check_schema(schema)
        assert "null" in schema["type"]
    assert output.rows("typed") == [dict.fromkeys(properties)]


def test_a_database_without_the_extension_is_read_as_plain_postgresql(plain_database: Database) -> None:
    plain_database.execute("CREATE TABLE parts (id int PRIMARY KEY, note text)")
    plain_database.execute("INSERT INTO parts SELECT i, 'note' FROM generate_series(1, 5000) i")
    plain_database.execute("CREATE VIEW seen AS SELECT * FROM parts WHERE id < 10")
    plain_database.grant_select("parts", "seen")

    offered = streams(source(plain_database).discover())
    output = read_whole(source(plain_database, snapshot_since="1 day", emit_chunk_metadata=True))

    assert set(offered) == {("public", "parts"), ("public", "seen")}
    for name in offered:
        assert_rows(plain_database, output, name)
