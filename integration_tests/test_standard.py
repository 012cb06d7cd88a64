"""airbyte-cdk's own standard tests, in this process, against each test server, and in their style what they leave out.

acceptance-test-config.yml says which configurations there are and which commands each of them is for. Its sections know
nothing of incremental reads, states and changes: the tests of those go by the same configurations. The image tests are
left out here: they need a Docker engine, and skip only where the `docker` command is missing.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from airbyte_cdk.models import (
    AirbyteMessage,
    AirbyteStateMessage,
    ConfiguredAirbyteCatalog,
    ConfiguredAirbyteStream,
    DestinationSyncMode,
    SyncMode,
    Type,
)
from airbyte_cdk.test import entrypoint_wrapper
from airbyte_cdk.test.entrypoint_wrapper import EntrypointOutput
from airbyte_cdk.test.models import ConnectorTestScenario
from airbyte_cdk.test.standard_tests import SourceTestSuiteBase

from integration_tests.acceptance import make_tables, write_configurations
from source_timescaledb import SourceTimescaledb
from testkit.cluster import Cluster
from testkit.connector import REPOSITORY
from testkit.database import Database
from testkit.protocol import Json

RETRY_SECONDS = 0.5
COMMANDS: Final = {
    "test_check": "check",
    "test_config_matches_spec": "spec",
    "test_discover": "discover",
    "test_basic_read": "read",
    "test_fail_read_with_bad_catalog": "read",
}
"""What a test of airbyte-cdk runs; it skips the configurations that are not for it, which here never get to it."""


class StandardTests(SourceTestSuiteBase):
    """The standard tests of a source but for those of its image."""

    connector = staticmethod(lambda: SourceTimescaledb(retry_seconds=RETRY_SECONDS))


for name, member in inspect.getmembers(StandardTests, inspect.isfunction):
    if any(mark.name == "image_tests" for mark in getattr(member, "pytestmark", ())):
        setattr(StandardTests, name, None)

SCENARIOS: Final = {scenario.id: scenario for scenario in StandardTests.get_scenarios()}
WITHOUT_A_SERVER: Final = "unreachable_config"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a standard test the configurations that its command is for."""
    if (
        "scenario" not in metafunc.fixturenames
        or (command := COMMANDS.get(metafunc.function.__name__)) is None
    ):
        return
    ids = [one.id for one in SCENARIOS.values() if command in one.commands]
    wanted = [one for one in ids if (one == WITHOUT_A_SERVER) is (metafunc.cls is TestWithoutAServer)]
    metafunc.parametrize("scenario", wanted, indirect=True)


def placed(scenario: ConnectorTestScenario, secrets: Path) -> ConnectorTestScenario:
    """A scenario whose configuration lies elsewhere than in the connector's folder."""
    assert scenario.config_path is not None
    return scenario.model_copy(update={"config_path": secrets / scenario.config_path.name})


@pytest.fixture(scope="module")
def secrets(server: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the configurations, of a database that is only read."""
    with server.database() as database:
        make_tables(database)
        folder = tmp_path_factory.mktemp("connector") / "secrets"
        write_configurations(database, folder)
        yield folder


@pytest.mark.filterwarnings("error::airbyte_cdk.test.standard_tests._catalog_checks.DiscoveredCatalogWarning")
class TestOnAServerWithTables(StandardTests):
    @pytest.fixture
    def scenario(self, request: pytest.FixtureRequest, secrets: Path) -> ConnectorTestScenario:
        return placed(SCENARIOS[request.param], secrets)


class TestWithoutAServer(StandardTests):
    @pytest.fixture
    def scenario(self, request: pytest.FixtureRequest) -> ConnectorTestScenario:
        return SCENARIOS[request.param]


setattr(TestWithoutAServer, "test_discover", None)  # noqa: B010 - assigned plainly, mypy sees another type


def test_every_configuration_is_for_some_command_and_every_command_has_one_that_works_and_one_that_fails() -> (
    None
):
    """So that no section of the file loses its entries unseen; discover has nothing to say where it fails."""
    told = {(command, one.status) for one in SCENARIOS.values() for command in one.commands}

    both = {(command, status) for command in ("spec", "check", "read") for status in ("succeed", "failed")}
    assert told == both | {("discover", "succeed")}


@pytest.mark.any_server
class TestWithState:
    """Incremental reads, the way of a state out and in again, and changes."""

    @pytest.fixture
    def fresh(self, database: Database, tmp_path: Path) -> Database:
        make_tables(database)
        write_configurations(database, tmp_path / "secrets")
        return database

    def test_incremental_read(self, fresh: Database, tmp_path: Path) -> None:
        scenario = placed(SCENARIOS["config"], tmp_path / "secrets")
        catalog = discovered(scenario, "weather")
        first = read(scenario, catalog)
        nothing_new = read(scenario, catalog, state_of(first.state_messages))
        fresh.execute("INSERT INTO weather (origin, time_hour) VALUES ('JFK', '2014-01-01')")
        second = read(scenario, catalog, state_of(nothing_new.state_messages))

        assert [len(one.records) for one in (first, nothing_new, second)] == [1000, 0, 1]

    def test_state_round_trip(self, fresh: Database, tmp_path: Path) -> None:
        assert fresh.value("SELECT count(*) FROM show_chunks('weather')") > 1
        scenario = placed(SCENARIOS["config"], tmp_path / "secrets")
        catalog = discovered(scenario, "weather")
        whole = read(scenario, catalog)

        messages = whole.get_message_by_types([Type.RECORD, Type.STATE])
        for position in [at for at, message in enumerate(messages) if message.state is not None]:
            resumed = read(scenario, catalog, state_of(messages[: position + 1]))
            arrived = keys([*messages[:position], *resumed.records])
            assert sorted(arrived) == sorted(keys(messages)), "each row before the state or after it, once"

    def test_changes(self, fresh: Database, tmp_path: Path) -> None:
        scenario = placed(SCENARIOS["cdc_config"], tmp_path / "secrets")
        catalog = discovered(scenario, "airlines", "weather")
        first = read(scenario, catalog)
        fresh.execute("INSERT INTO weather (origin, time_hour) VALUES ('JFK', '2014-01-01')")
        fresh.execute("UPDATE airlines SET name = 'Pinnacle' WHERE carrier = '9E'")
        fresh.execute("DELETE FROM airlines WHERE carrier = 'UA'")
        second = read(scenario, catalog, state_of(first.state_messages))

        assert len(first.records) == 1002
        told = {
            key: (message.record.data.get("name"), message.record.data.get("_ab_cdc_deleted_at") is not None)
            for key, message in zip(keys(second.records), second.records, strict=True)
            if message.record is not None
        }
        assert told == {
            ("weather", "2014-01-01T00:00:00.000000Z"): (None, False),
            ("airlines", "9E"): ("Pinnacle", False),
            ("airlines", "UA"): (None, True),
        }


def config_of(scenario: ConnectorTestScenario) -> Json:
    return scenario.get_config_dict(connector_root=REPOSITORY, empty_if_missing=False)


def discovered(scenario: ConnectorTestScenario, *streams: str) -> ConfiguredAirbyteCatalog:
    """Streams of a scenario, to be read incrementally."""
    output = entrypoint_wrapper.discover(StandardTests.connector(), config_of(scenario))
    (message,) = output.get_message_by_types([Type.CATALOG])
    assert message.catalog is not None
    return ConfiguredAirbyteCatalog(
        streams=[
            ConfiguredAirbyteStream(
                stream=stream,
                sync_mode=SyncMode.incremental,
                destination_sync_mode=DestinationSyncMode.append_dedup,
                cursor_field=stream.default_cursor_field,
                primary_key=stream.source_defined_primary_key,
            )
            for stream in message.catalog.streams
            if stream.name in streams
        ]
    )


def read(
    scenario: ConnectorTestScenario,
    catalog: ConfiguredAirbyteCatalog,
    state: list[AirbyteStateMessage] | None = None,
) -> EntrypointOutput:
    """A read, which has to succeed."""
    output = entrypoint_wrapper.read(StandardTests.connector(), config_of(scenario), catalog, state)
    assert output.errors == []
    return output


def state_of(messages: Sequence[AirbyteMessage]) -> list[AirbyteStateMessage]:
    """What Airbyte hands to the next sync after these messages."""
    kept: dict[str | None, AirbyteStateMessage] = {}
    for message in messages:
        if message.state is not None:
            stream = message.state.stream
            kept[stream.stream_descriptor.name if stream else None] = message.state
    return list(kept.values())


def keys(messages: Sequence[AirbyteMessage]) -> list[tuple[str, str]]:
    """The key of each record."""
    records = [message.record for message in messages if message.record is not None]
    return [(one.stream, str(one.data.get("carrier") or one.data["time_hour"])) for one in records]
