"""A stream that cannot be read costs itself alone: its own ERROR with a remedy, and every other stream whole."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from psycopg import sql

from integration_tests.inprocess import InProcess
from integration_tests.truth import Truth
from testkit.connector import Connector
from testkit.database import Database
from testkit.protocol import Json, Output, configured_catalog

GOOD: Final = ("early", "middle", "late")
SECRET: Final = "canary-in-a-row"

REMEDIES: Final = {
    "revoked": "Grant SELECT on it",
    "ratio": "divides by zero in one of its rows: mend it there",
    "raises": "raised this error itself",
    "searches": "nowhere",
    "foreign_rows": "user mapping",
    "unpopulated": "materialized view has to be refreshed",
    "dropped": "remove the stream",
}
"""By the stream that cannot be read, what its sentence must tell whoever has to mend it."""


def make_good(database: Database) -> None:
    for name in GOOD:
        database.execute(
            f"CREATE TABLE {name} (time timestamptz NOT NULL, id int, note text);"
            f"SELECT create_hypertable('{name}', 'time', chunk_time_interval => interval '1 day');"
            f"INSERT INTO {name} SELECT timestamptz '2024-01-01' + i * interval '13 minutes', i, '{name}'"
            " FROM generate_series(1, 500) i".encode()
        )


def make_bad(database: Database) -> None:
    """Relations that can be discovered, and cannot be read."""
    database.execute("CREATE TABLE revoked (id int PRIMARY KEY); INSERT INTO revoked VALUES (1)")
    database.execute("CREATE TABLE dropped (id int PRIMARY KEY); INSERT INTO dropped VALUES (1)")
    database.execute("CREATE VIEW ratio AS SELECT id, 1000 / (id - 400) AS ratio FROM middle")
    database.execute(
        "CREATE FUNCTION refuse(text) RETURNS text LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'refused: {SECRET} %', $1; END $$;"
        "CREATE VIEW raises AS SELECT refuse(note) AS note FROM middle".encode()
    )
    database.execute(
        "CREATE FUNCTION search(int) RETURNS int LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN (SELECT id FROM public.nowhere WHERE id = $1); END $$;"
        "CREATE VIEW searches AS SELECT search(id) AS found FROM middle"
    )
    database.execute("CREATE MATERIALIZED VIEW unpopulated AS SELECT * FROM middle WITH NO DATA")
    make_foreign(database)


def make_foreign(database: Database) -> None:
    """A foreign table that the reader may read, but for which it has no user mapping."""
    superuser = database.as_superuser()
    superuser.execute("CREATE EXTENSION postgres_fdw")
    superuser.execute("CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'localhost')")
    superuser.execute("CREATE FOREIGN TABLE foreign_rows (id int) SERVER elsewhere")
    superuser.execute(sql.SQL("GRANT SELECT ON foreign_rows TO {}").format(sql.Identifier(database.reader)))


def interleaved(catalog: Json) -> Json:
    """Good streams first, last and in between: a failure could harm those after it, or those before it."""
    bad = list(REMEDIES)
    return configured_catalog(catalog, streams=["early", *bad[:3], "middle", *bad[3:], "late"])


def sentences(output: Output) -> dict[str, str]:
    """What the errors say, by stream; each stream has no more than one."""
    found = {error["stream_descriptor"]["name"]: error["message"] for error in output.errors}
    assert len(found) == len(output.errors)
    return found


def last_statuses(output: Output) -> dict[str, str]:
    return {name: status for _, name, status in output.statuses}


@pytest.fixture
def spoilt(database: Database) -> tuple[Database, Json]:
    """A database with streams that cannot be read among good ones, and a catalog that selects them all."""
    make_good(database)
    make_bad(database)
    database.grant_select(*GOOD, *(name for name in REMEDIES if name != "foreign_rows"))
    catalog = interleaved(InProcess(database.config()).discover())
    database.execute(sql.SQL("REVOKE SELECT ON revoked FROM {}").format(sql.Identifier(database.reader)))
    database.execute("DROP TABLE dropped")
    return database, catalog


def test_a_stream_that_cannot_be_read_costs_only_itself(
    spoilt: tuple[Database, Json], tmp_path: Path
) -> None:
    database, catalog = spoilt

    result = Connector(database.config(), tmp_path).read(catalog)

    assert result.exit_code > 0
    assert last_statuses(result) == {
        **dict.fromkeys(GOOD, "COMPLETE"),
        **dict.fromkeys(REMEDIES, "INCOMPLETE"),
    }
    for name in GOOD:
        truth = Truth.of(database, name)
        assert truth.parsed(result.rows(name)) == truth.rows
    said = sentences(result)
    assert said.keys() == REMEDIES.keys()
    for name, remedy in REMEDIES.items():
        assert f"public.{name}" in said[name]
        assert remedy in said[name]
        assert said[name].endswith(".")
    assert {error["failure_type"] for error in result.errors} == {"config_error"}


def test_what_a_failing_function_says_of_a_row_is_not_passed_on(
    spoilt: tuple[Database, Json], tmp_path: Path
) -> None:
    database, catalog = spoilt
    connector = Connector(database.config(), tmp_path)

    result = connector.read(catalog)

    assert result.exit_code > 0
    assert SECRET.encode() not in b"".join(result.lines())
    assert SECRET not in result.stderr
    assert database.passwords["reader"].encode() not in b"".join(result.lines())


def test_a_stream_that_was_mended_is_read_by_the_next_sync_and_the_others_go_on_from_their_states(
    spoilt: tuple[Database, Json],
) -> None:
    database, catalog = spoilt
    first = InProcess(database.config()).read(catalog)
    database.grant_select("revoked")
    database.execute("REFRESH MATERIALIZED VIEW unpopulated")

    second = InProcess(database.config()).read(catalog, first.state())

    for name in ("revoked", "unpopulated"):
        truth = Truth.of(database, name)
        assert truth.parsed(second.rows(name)) == truth.rows
        assert last_statuses(second)[name] == "COMPLETE"
    for name in GOOD:
        assert second.rows(name) == []
        assert last_statuses(second)[name] == "COMPLETE"
    assert sentences(second).keys() == REMEDIES.keys() - {"revoked", "unpopulated"}


def test_a_hypertable_revoked_between_two_chunks_keeps_what_was_read(database: Database) -> None:
    make_good(database)
    database.grant_select(*GOOD)
    source = InProcess(database.config(timescaledb={"parallel_chunks": 1}))
    catalog = configured_catalog(source.discover(), streams=GOOD)
    reader = sql.Identifier(database.reader)
    revoke = sql.SQL("REVOKE SELECT ON middle FROM {}").format(reader)
    states_of_early = len(source.read(configured_catalog(source.discover(), streams=["early"])).states)
    last = database.value("SELECT max(chunk::text) FROM show_chunks('middle') chunk")

    with closing(database.connect("owner")) as holder:  # so that the reader cannot be there before

        def act() -> None:
            holder.execute(revoke)
            holder.commit()

        holder.execute(f"LOCK TABLE {last} IN ACCESS EXCLUSIVE MODE".encode())
        first = source.read(catalog, acts={("STATE", states_of_early + 1): act})
    database.grant_select("middle")
    second = source.read(catalog, first.state())

    assert last_statuses(first) == {"early": "COMPLETE", "middle": "INCOMPLETE", "late": "COMPLETE"}
    (error,) = first.errors
    assert error["stream_descriptor"] == {"name": "middle", "namespace": "public"}
    assert error["failure_type"] == "config_error"
    assert "Grant" in error["message"]
    truth = Truth.of(database, "middle")
    assert 0 < len(first.rows("middle")) < 500
    assert truth.parsed(first.rows("middle") + second.rows("middle")) == truth.rows
