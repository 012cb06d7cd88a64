"""Whole configurations of Airbyte's Postgres source run as they are, in both generations; its states are refused."""

from __future__ import annotations

from typing import Any, Final

import pytest

from integration_tests.cdc.conftest import Followed, fill, make_tables
from integration_tests.inprocess import InProcess
from integration_tests.truth import Truth
from testkit.database import Database
from testkit.protocol import Json, Output

pytestmark = pytest.mark.any_server

CDC: Final = {
    "method": "CDC",
    "publication": "changes",
    "initial_waiting_seconds": 300,
    "lsn_commit_behaviour": "After loading Data in the destination",
    "heartbeat_action_query": "SELECT 1",
    "invalid_cdc_cursor_position_behavior": "Fail sync",
}
LEGACY: Final[Json] = {
    "jdbc_url_params": "connectTimeout=60&prepareThreshold=5",
    "ssl_mode": {"mode": "prefer"},
    "tunnel_method": {"tunnel_method": "NO_TUNNEL"},
    "replication_method": {**CDC, "plugin": "pgoutput", "queue_size": 10000},
}
"""As the form of 3.7.2 saves it."""
FROM_3_8: Final[Json] = {
    "jdbc_url_params": "",
    "ssl_mode": {"mode": "prefer"},
    "tunnel_method": {"tunnel_method": "NO_TUNNEL"},
    "entra_service_principal_auth": False,
    "check_privileges": True,
    "checkpoint_target_interval_seconds": 300,
    "max_db_connections": 3,
    "replication_method": {**CDC, "initial_load_timeout_hours": 8, "debezium_shutdown_timeout_seconds": 60},
}
"""As the form of 3.8.11 saves it."""
STREAM: Final = {"name": "metrics", "namespace": "public"}
FOREIGN: Final[dict[str, Json]] = {
    "legacy, pages": {
        "version": 2,
        "state_type": "ctid",
        "ctid": "(0,1)",
        "incremental_state": {},
        "relation_filenode": 16390,
    },
    "legacy, a cursor": {
        "version": 2,
        "state_type": "cursor_based",
        "cursor_field": ["time"],
        "cursor": "2024-01-01",
        "cursor_record_count": 1,
    },
    "3.8, pages": {"version": 3, "state_type": "ctid_based", "ctid": None, "relation_filenode": 16390},
    "3.8, a cursor": {"version": 3, "state_type": "cursor_based", "cursors": {"time": "2024-01-01"}},
}
DEBEZIUM: Final[Json] = {
    "state": {'["shop",{"server":"shop"}]': '{"transaction_id":null,"lsn":24023128,"txId":567}'}
}


@pytest.fixture
def tables(database: Database) -> Database:
    """Two hypertables and a table, with some rows."""
    make_tables(database)
    fill(database)
    database.grant_select("metrics", "events", "parts")
    return database


def read_completely(database: Database, output: Output) -> None:
    for table in ("metrics", "parts"):
        truth = Truth.of(database, table)
        assert truth.parsed(output.rows(table)) == truth.rows


@pytest.mark.parametrize("saved", [LEGACY, FROM_3_8], ids=["legacy", "3.8"])
def test_a_saved_configuration_with_a_cursor_runs_as_it_is(tables: Database, saved: Json) -> None:
    source = InProcess(tables.config(**{**saved, "replication_method": {"method": "Standard"}}))

    succeeded, message, _ = source.check()
    ended = source.read(source.catalog("incremental", parts="id"))

    assert succeeded, message
    assert ended.errors == []
    read_completely(tables, ended)


@pytest.mark.parametrize("saved", [LEGACY, FROM_3_8], ids=["legacy", "3.8"])
def test_a_saved_configuration_with_change_data_capture_runs_as_it_is(tables: Database, saved: Json) -> None:
    followed = Followed(tables, f"slot_{tables.name}")
    followed.publish("metrics", "parts")
    method = {**saved["replication_method"], "replication_slot": followed.slot}
    role: dict[str, Any] = {"username": tables.owner, "password": tables.passwords["owner"]}
    source = InProcess(tables.config(**role, **{**saved, "replication_method": method}))
    catalog = source.catalog("incremental", ["metrics", "parts"])

    succeeded, message, _ = source.check()
    first = source.read(catalog)
    tables.execute("UPDATE parts SET note = 'changed' WHERE id = 1")
    second = source.read(catalog, first.state())

    assert succeeded, message
    assert len(first.rows("metrics")) == len(first.rows("parts")) == 300
    assert [(row["id"], row["note"]) for row in second.rows("parts")] == [(1, "changed")]


@pytest.mark.parametrize("kind", FOREIGN)
def test_its_state_of_a_stream_is_refused_with_the_remedy(tables: Database, kind: str) -> None:
    source = InProcess(tables.config())
    state = {"type": "STREAM", "stream": {"stream_descriptor": STREAM, "stream_state": FOREIGN[kind]}}

    ended = source.read(source.catalog("incremental", ["metrics"]), [state])

    (error,) = ended.errors
    assert error["failure_type"] == "config_error"
    assert "Clear the stream's state" in error["message"]
    assert ended.records == {}


def test_its_state_of_changes_is_refused_with_the_remedy(tables: Database) -> None:
    followed = Followed(tables, f"slot_{tables.name}")
    followed.publish("metrics")
    entry = {"stream_descriptor": STREAM, "stream_state": FOREIGN["3.8, pages"]}
    followed.state = [{"type": "GLOBAL", "global": {"shared_state": DEBEZIUM, "stream_states": [entry]}}]

    ended = followed.sync("metrics")

    assert ended.failure is not None
    assert ended.failure.failure_type.value == "config_error"
    assert "Clear the stream's state" in (ended.failure.message or "")
    assert ended.records == {}
