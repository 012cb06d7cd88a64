"""A replica identity that leaves out the key is found before the first row; what the doctor suggests tells the key."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from integration_tests.cdc.conftest import Followed
from integration_tests.health.consulting import agrees, doctor, follow
from testkit.protocol import Json

pytestmark = pytest.mark.any_server

LEAVES_OUT: Final = "leaves out columns of the key"


def publish(followed: Followed, table: str, *statements: str, options: str = "") -> Json:
    """Make a table as `statements` say, publish it, and give the catalog that a connection would choose."""
    for statement in statements:
        followed.database.execute(statement.encode())
    followed.publish(f"{table} {options}" if options else table)
    return followed.source().catalog("incremental", [table])


KEYED_TWICE: Final = (
    "CREATE TABLE coded (id int PRIMARY KEY, code text NOT NULL UNIQUE)",
    "ALTER TABLE coded REPLICA IDENTITY USING INDEX coded_code_key",
    "INSERT INTO coded SELECT i, 'code ' || i FROM generate_series(1, 9) i",
)


def test_an_identity_without_the_key_blocks_where_it_is_chosen_and_a_sync_reads_nothing(
    followed: Followed, tmp_path: Path
) -> None:
    catalog = publish(followed, "coded", *KEYED_TWICE)

    found = doctor(followed.config, tmp_path, catalog=catalog)
    ended = followed.source().read(catalog)

    assert found.status == 1
    finding = found.finding("public.coded", LEAVES_OUT)
    assert finding["topic"] == "replica identities"
    assert finding["sentence"] in str(ended.errors)
    assert (ended.records, ended.states) == ({}, [])
    follow(followed.database, finding)
    assert doctor(followed.config, tmp_path, catalog=catalog).status == 0
    assert followed.source().read(catalog).failure is None


def test_an_identity_without_the_key_is_a_warning_of_check_where_nothing_is_chosen(
    followed: Followed, tmp_path: Path
) -> None:
    publish(followed, "coded", *KEYED_TWICE)

    found = doctor(followed.config, tmp_path)

    assert found.finding("public.coded", LEAVES_OUT)["severity"] == "warning"
    succeeded, _, logged = agrees(followed.config, found)
    assert succeeded
    assert LEAVES_OUT in str(logged)


def test_an_identity_is_no_matter_where_only_inserts_are_published(
    followed: Followed, tmp_path: Path
) -> None:
    catalog = publish(followed, "coded", *KEYED_TWICE, options="WITH (publish = 'insert')")

    assert doctor(followed.config, tmp_path, catalog=catalog).matching(LEAVES_OUT) == []


def test_a_partition_has_an_identity_of_its_own(followed: Followed, tmp_path: Path) -> None:
    catalog = publish(
        followed,
        "sales",
        "CREATE TABLE sales (id int PRIMARY KEY, code int NOT NULL) PARTITION BY RANGE (id)",
        "CREATE TABLE early PARTITION OF sales FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id)",
        "CREATE TABLE earliest PARTITION OF early FOR VALUES FROM (0) TO (5)",
        "CREATE UNIQUE INDEX by_code ON earliest (code)",
        "ALTER TABLE earliest REPLICA IDENTITY USING INDEX by_code",
    )

    finding = doctor(followed.config, tmp_path, catalog=catalog).finding("public.sales", LEAVES_OUT)

    assert [one["sql"] for one in finding["statements"]] == [
        'ALTER TABLE "public"."earliest" REPLICA IDENTITY FULL;'
    ]
    follow(followed.database, finding)
    assert doctor(followed.config, tmp_path, catalog=catalog).status == 0


def test_a_chunk_takes_the_identity_of_its_hypertable_again(followed: Followed, tmp_path: Path) -> None:
    catalog = publish(
        followed,
        "metrics",
        "ALTER TABLE metrics ALTER COLUMN value SET NOT NULL",
        "CREATE UNIQUE INDEX by_value ON metrics (value, time)",
        "ALTER TABLE metrics REPLICA IDENTITY USING INDEX by_value",
    )
    # TimescaleDB lets nobody alter a chunk's identity: only the hypertable's own is set back here.
    followed.database.as_superuser().execute(
        "UPDATE pg_class SET relreplident = 'd' WHERE oid = 'metrics'::regclass"
    )

    finding = doctor(followed.config, tmp_path, catalog=catalog).finding("public.metrics", LEAVES_OUT)

    assert [one["sql"] for one in finding["statements"]] == [
        'ALTER TABLE "public"."metrics" REPLICA IDENTITY DEFAULT;'
    ]
    follow(followed.database, finding)
    assert doctor(followed.config, tmp_path, catalog=catalog).status == 0


TWO_INDEXES: Final = (
    "CREATE TABLE two (a int NOT NULL, b int NOT NULL, x int)",
    "CREATE UNIQUE INDEX zz ON two (a)",
    "CREATE UNIQUE INDEX aa ON two (b)",
    "INSERT INTO two VALUES (1, 10, 0), (2, 20, 0), (3, 30, 0)",
)


def test_the_index_that_is_suggested_is_the_one_that_the_key_is_of(
    followed: Followed, tmp_path: Path
) -> None:
    publish(followed, "two", *TWO_INDEXES)
    finding = doctor(followed.config, tmp_path).finding("no usable replica identity", "public.two")
    ended = followed.sync("two")
    assert ended.failure is None

    follow(followed.database, finding)

    followed.database.execute("DELETE FROM two WHERE a = 2")
    assert followed.sync("two").failure is None
    followed.mirrors("two")
    assert set(followed.destinations["two"].newest) == {("1",), ("2",), ("3",)}


def test_a_key_that_is_checked_late_can_be_told_by_no_index(followed: Followed, tmp_path: Path) -> None:
    catalog = publish(
        followed,
        "late",
        "CREATE TABLE late (id int PRIMARY KEY DEFERRABLE, code text NOT NULL UNIQUE)",
    )

    finding = doctor(followed.config, tmp_path, catalog=catalog).finding("no usable replica identity")

    assert [one["sql"] for one in finding["statements"]] == [
        'ALTER TABLE "public"."late" REPLICA IDENTITY FULL;'
    ]


def test_a_primary_key_that_came_later_blocks_until_the_identity_is_its_own(
    followed: Followed, tmp_path: Path
) -> None:
    catalog = publish(followed, "two", *TWO_INDEXES, "ALTER TABLE two REPLICA IDENTITY USING INDEX zz")
    assert followed.source().read(catalog).failure is None
    followed.database.execute("ALTER TABLE two ADD PRIMARY KEY (b)")
    of_today = followed.source().catalog("incremental", ["two"])

    assert doctor(followed.config, tmp_path, catalog=catalog).finding("public.two by a")["topic"] == "streams"
    finding = doctor(followed.config, tmp_path, catalog=of_today).finding(LEAVES_OUT)
    follow(followed.database, finding)

    assert doctor(followed.config, tmp_path, catalog=of_today).status == 0
