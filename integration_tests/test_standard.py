"""airbyte-cdk's own standard tests, in this process, against each test server.

Its image tests are left out: they need a Docker engine, and skip only where the `docker` command is missing.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import orjson
import pytest
from airbyte_cdk.test.models import ConnectorTestScenario
from airbyte_cdk.test.standard_tests import SourceTestSuiteBase

from source_timescaledb import SourceTimescaledb
from testkit.database import Database

RETRY_SECONDS = 0.5


class StandardTests(SourceTestSuiteBase):
    """The standard tests of a source but for those of its image."""

    connector = staticmethod(lambda: SourceTimescaledb(retry_seconds=RETRY_SECONDS))


for name, member in inspect.getmembers(StandardTests, inspect.isfunction):
    if any(mark.name == "image_tests" for mark in getattr(member, "pytestmark", ())):
        setattr(StandardTests, name, None)


@pytest.fixture(scope="module")
def unreachable() -> ConnectorTestScenario:
    (scenario,) = [one for one in StandardTests.get_scenarios() if one.status == "failed"]
    return scenario


@pytest.mark.filterwarnings("error::airbyte_cdk.test.standard_tests._catalog_checks.DiscoveredCatalogWarning")
class TestOnAServerWithTables(StandardTests):
    @pytest.fixture
    def scenario(self, database: Database, tmp_path: Path) -> ConnectorTestScenario:
        database.execute(
            """
            CREATE TABLE airlines (carrier text PRIMARY KEY, name text NOT NULL);
            INSERT INTO airlines VALUES ('UA', 'United Air Lines Inc.'), ('9E', 'Endeavor Air Inc.');
            CREATE TABLE weather (
                origin char(3) NOT NULL, time_hour timestamptz NOT NULL, temp double precision,
                precip numeric(4, 2), wind_dir smallint, gusts real[], seen date, raw jsonb,
                PRIMARY KEY (time_hour, origin)
            );
            SELECT create_hypertable('weather', 'time_hour', chunk_time_interval => interval '7 days');
            INSERT INTO weather
            SELECT 'EWR', '2013-01-01 06:00Z'::timestamptz + hour * interval '1 hour', 39.02, 0.05,
                   nullif(hour % 360, 0), '{1.5, NULL}', '2013-01-01', '{"a": [1, null]}'
            FROM generate_series(0, 999) AS hour;
            """
        )
        database.grant_select("airlines", "weather")
        config = tmp_path / "config.json"
        config.write_bytes(orjson.dumps(database.config()))
        return ConnectorTestScenario(config_path=config, status="succeed")


class TestWithoutAServer(StandardTests):
    @pytest.fixture
    def scenario(self, unreachable: ConnectorTestScenario) -> ConnectorTestScenario:
        return unreachable


# The CDK skips it where a failure is expected; a skipped test should mean that something is missing.
setattr(TestWithoutAServer, "test_discover", None)  # noqa: B010 - assigned plainly, mypy sees another type
