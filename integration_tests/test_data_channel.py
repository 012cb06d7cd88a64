"""Records over sockets: a destination commits what STDIO would have brought, and every end is an orderly one."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration_tests.cdc.conftest import Destination, Followed, fill, make_tables
from integration_tests.truth import Truth
from source_timescaledb.airbyte.sockets import ReceiverGone
from testkit.connector import Connector
from testkit.database import Database
from testkit.protocol import Json, configured_catalog
from testkit.sockets import Receiver, committed

pytestmark = pytest.mark.any_server

TABLES = ("metrics", "events", "parts")
ROWS = 20_000
ON_STDOUT_ONLY = {"LOG", "CATALOG", "SPEC", "CONNECTION_STATUS"}


@pytest.fixture
def tables(database: Database) -> Database:
    """Two hypertables and a table, with many rows."""
    make_tables(database)
    fill(database, rows=ROWS)
    database.grant_select(*TABLES)
    return database


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A destination at three sockets."""
    with Receiver(3) as receiver:
        yield receiver


def speaker(database: Database, folder: Path, receiver: Receiver, **wish: str) -> Connector:
    return Connector(database.config(), folder, environment={**receiver.environment, **wish})


def catalog_of(database: Database, folder: Path) -> Json:
    return configured_catalog(Connector(database.config(), folder).discover().catalog, streams=TABLES)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def platform_state(states: list[Json]) -> list[Json]:
    """What Airbyte hands to the next sync: the last state of each stream, as the destination gave them back."""
    kept = {str(state.get("stream", {}).get("stream_descriptor")): state for state in states}
    return list(kept.values())


def test_all_rows_arrive_once_over_several_sockets_and_every_state_is_committed(
    tables: Database, tmp_path: Path, receiver: Receiver
) -> None:
    ended = speaker(tables, tmp_path, receiver).read(catalog_of(tables, tmp_path))
    told = receiver.together()

    assert ended.exit_code == 0
    for table in TABLES:
        truth = Truth.of(tables, table)
        assert truth.parsed(told.rows(table)) == truth.rows
    assert all(output.of_type("RECORD") for output in receiver.outputs())
    assert committed(told) == [state.message for state in ended.states]


def test_stdout_has_everything_but_records_and_the_sockets_what_a_destination_needs(
    tables: Database, tmp_path: Path, receiver: Receiver
) -> None:
    ended = speaker(tables, tmp_path, receiver).read(catalog_of(tables, tmp_path))
    told = receiver.together()

    assert ended.of_type("RECORD") == []
    assert ended.logs
    assert {message["type"] for message in told.messages} == {"RECORD", "STATE", "TRACE"}
    assert {trace["type"] for trace in told.traces} == {"STREAM_STATUS"}
    assert sorted(told.statuses) == sorted(ended.statuses)
    assert [status for _, _, status in told.statuses].count("COMPLETE") == len(TABLES)


def test_what_the_committed_states_leave_out_of_a_killed_read_comes_with_the_next(
    tables: Database, tmp_path: Path
) -> None:
    catalog = catalog_of(tables, tmp_path)
    with Receiver(3, pause_after=ROWS) as first:
        run = speaker(tables, tmp_path / "first", first).start_read(catalog)
        until(lambda: first.lines > ROWS)
        run.process.kill()
        ended = run.wait()
        first.go_on()
        told = first.together()
    with Receiver(2) as second:
        resumed = speaker(tables, tmp_path / "second", second).read(catalog, platform_state(ended.state()))

        assert resumed.exit_code == 0
        for table in TABLES:
            truth = Truth.of(tables, table)
            assert truth.rows <= truth.parsed(told.rows(table) + second.together().rows(table))


def test_a_signal_ends_the_read_so_that_the_next_one_repeats_nothing(
    tables: Database, tmp_path: Path
) -> None:
    catalog = catalog_of(tables, tmp_path)
    with Receiver(3, pause_after=ROWS) as first:
        run = speaker(tables, tmp_path / "first", first).start_read(catalog)
        until(lambda: first.lines > ROWS)
        run.process.send_signal(signal.SIGTERM)
        first.go_on()
        stopped = run.wait()
        told = first.together()
    with Receiver(2) as second:
        speaker(tables, tmp_path / "second", second).read(catalog, platform_state(committed(told)))

        assert stopped.exit_code == -signal.SIGTERM
        for table in TABLES:
            truth = Truth.of(tables, table)
            assert truth.parsed(told.rows(table) + second.together().rows(table)) == truth.rows


def test_a_destination_that_dies_ends_the_sync_with_one_error(tables: Database, tmp_path: Path) -> None:
    with Receiver(3, pause_after=ROWS) as receiver:
        run = speaker(tables, tmp_path, receiver).start_read(catalog_of(tables, tmp_path))
        until(lambda: receiver.lines > ROWS)
        receiver.leave()
        ended = run.wait()

    (error,) = ended.errors
    assert ended.exit_code == 1
    assert error["failure_type"] == ReceiverGone.failure_type.value
    assert "does not read" in error["message"]


def test_a_stream_that_fails_leaves_what_the_others_told(
    tables: Database, tmp_path: Path, receiver: Receiver
) -> None:
    catalog = catalog_of(tables, tmp_path)
    catalog["streams"][0]["stream"]["name"] = "missing"

    ended = speaker(tables, tmp_path, receiver).read(catalog)
    told = receiver.together()

    assert ended.exit_code == 1
    assert ("public", "missing", "INCOMPLETE") in told.statuses
    assert len(committed(told)) == len(ended.states)
    truth = Truth.of(tables, "parts")
    assert truth.parsed(told.rows("parts")) == truth.rows


def test_an_error_is_told_at_once_where_no_destination_has_come(tables: Database, tmp_path: Path) -> None:
    nobody = Receiver(1)
    connector = Connector(tables.config(password="wrong"), tmp_path, environment=nobody.environment)

    ended = connector.read(catalog_of(tables, tmp_path / "catalog"))

    (error,) = ended.errors
    assert error["failure_type"] == "config_error"


def test_a_serialization_that_is_not_spoken_is_refused(tables: Database, tmp_path: Path) -> None:
    nobody = Receiver(1)

    ended = speaker(tables, tmp_path, nobody, DATA_CHANNEL_FORMAT="PROTOBUF").read(
        catalog_of(tables, tmp_path)
    )

    assert ended.exit_code == 1
    assert "PROTOBUF is not spoken" in ended.errors[0]["message"]


def test_other_commands_speak_on_stdout_whatever_the_channel(tables: Database, tmp_path: Path) -> None:
    connector = speaker(tables, tmp_path, Receiver(1))

    assert connector.check().connection_status["status"] == "SUCCEEDED"
    assert connector.discover().catalog["streams"]


@pytest.fixture
def published(tables: Database) -> Followed:
    """The same tables, to be followed."""
    followed = Followed(tables, f"slot_{tables.name}")
    followed.publish(*TABLES)
    return followed


@pytest.mark.parametrize("state_mode", ["global", "stream"])
def test_changes_arrive_in_their_order_and_their_states_are_committed(
    published: Followed, tmp_path: Path, state_mode: str
) -> None:
    database = published.database
    published.settings["state_mode"] = state_mode
    catalog = published.source().catalog("incremental", list(TABLES))
    keys = {"metrics": ("device", "time"), "events": (), "parts": ("id",)}
    destinations = {table: Destination(key) for table, key in keys.items()}

    for sync, statements in enumerate(
        [
            (),
            ("UPDATE metrics SET note = 'new' WHERE device = 1", "DELETE FROM parts WHERE id % 3 = 0"),
            ("INSERT INTO events SELECT time, 'new' FROM metrics", "UPDATE parts SET note = note || '!'"),
        ]
    ):
        for statement in statements:
            database.execute(statement)
        with Receiver(3) as receiver:
            ended = published.start(tmp_path / str(sync), catalog, environment=receiver.environment).wait()
            told = receiver.together()
            changes = [record["_ab_cdc_lsn"] for record in receiver.outputs()[0].rows("parts")]
        published.state = platform_state(committed(told))
        for table in TABLES:
            destinations[table].apply(told.rows(table))

        assert ended.exit_code == 0
        assert len(committed(told)) == len(ended.states)
        assert changes == sorted(changes) or not sync
    for table in TABLES:
        truth = Truth.of(database, table)
        assert destinations[table].rows(truth) == truth.rows


@pytest.mark.parametrize(("state_mode", "kind"), [("global", "GLOBAL"), ("stream", "STREAM")])
def test_records_of_streams_that_are_not_followed_are_counted_by_states_of_the_one_type_that_is_told(
    published: Followed, tmp_path: Path, state_mode: str, kind: str
) -> None:
    published.settings |= {"state_mode": state_mode, "chunk_events": True}
    catalog = published.source().catalog("incremental", [*TABLES, "timescaledb_chunk_events"])
    catalog["streams"][TABLES.index("events")]["sync_mode"] = "full_refresh"

    with Receiver(3) as receiver:
        ended = published.start(tmp_path / "first", catalog, environment=receiver.environment).wait()
        told = receiver.together()
    published.state = platform_state(committed(told))
    with Receiver(3) as receiver:
        again = published.start(tmp_path / "second", catalog, environment=receiver.environment).wait()
        repeated = receiver.together()

    assert ended.exit_code == again.exit_code == 0
    assert {state["type"] for state in committed(told)} == {kind}
    assert len(committed(told)) == len(ended.states)
    assert len(told.rows("timescaledb_chunk_events")) == 6
    truth = Truth.of(published.database, "events")
    assert truth.parsed(told.rows("events")) == truth.rows
    assert committed(repeated)
    assert repeated.records == {}
