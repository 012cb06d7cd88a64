"""compose.yaml without Docker: its script run on a test server, its commands by the connector itself."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from testkit.cluster import Cluster
from testkit.connector import REPOSITORY, Connector
from testkit.database import Database
from testkit.protocol import Json, configured_catalog
from testkit.run import Result

pytestmark = pytest.mark.any_server

FOLDER = REPOSITORY / "compose"
COMPOSE = (REPOSITORY / "compose.yaml").read_text()
SERVICES = yaml.safe_load(COMPOSE)["services"]
CONFIG = json.loads((FOLDER / "config.json").read_text())


@pytest.fixture
def prepared(server: Cluster) -> Iterator[Database]:
    try:
        with server.database(SERVICES["database"]["environment"]["POSTGRES_DB"]) as database:
            for statement in (FOLDER / "prepare.sql").read_text().split(";\n"):
                database.as_superuser().execute(statement.encode())
            yield database
    finally:
        with server.connect() as connection:
            connection.execute("DROP ROLE IF EXISTS airbyte")


def command(verb: str, connector: Connector) -> Result:
    """Run a command as the head of compose.yaml has it."""
    (line,) = re.findall(rf"^#   docker compose run --rm source ({verb}.*)$", COMPOSE, re.MULTILINE)
    given = [word.replace("/data/", f"{FOLDER}/") for word in shlex.split(line)]
    own = connector.workdir / "001-config.json"
    return connector.start(*[word.replace(str(FOLDER / "config.json"), str(own)) for word in given]).wait()


def of_service(config: Json, database: Database) -> Json:
    """The configuration, with the address of the test server for that of the service."""
    return {**config, "host": database.cluster.address.host, "port": database.cluster.address.port}


def test_the_commands_check_discover_and_read_what_the_script_has_prepared(
    prepared: Database, tmp_path: Path
) -> None:
    connector = Connector(of_service(CONFIG, prepared), tmp_path)

    assert command("spec", connector).spec["connectionSpecification"]
    assert command("check", connector).connection_status["status"] == "SUCCEEDED"
    catalog = configured_catalog(command("discover", connector).catalog, "incremental")
    assert json.loads((FOLDER / "catalog.json").read_text()) == catalog
    read = command("read", connector)
    assert (read.errors, len(read.rows("devices")), len(read.rows("metrics"))) == ([], 10, 1680)

    prepared.as_superuser().execute("INSERT INTO metrics VALUES ('2025-01-01', 1, 1)")
    assert len(connector.read(catalog, read.state()).rows("metrics")) == 1, "a new chunk, published by us"


def test_what_the_services_say_of_each_other_agrees() -> None:
    database, source = SERVICES["database"], SERVICES["source"]

    assert CONFIG["host"] == "database"
    assert CONFIG["database"] == database["environment"]["POSTGRES_DB"]
    assert "wal_level=logical" in database["command"]
    assert re.fullmatch(r"timescale/timescaledb:\$\{TIMESCALEDB_TAG:-latest-pg\d+\}", database["image"])
    assert source["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert database["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    assert f"PASSWORD '{CONFIG['password']}'" in (FOLDER / "prepare.sql").read_text()
    for volume in (*database["volumes"], *source["volumes"]):
        ours, _, mode = volume.rsplit(":", 2)
        assert (REPOSITORY / ours).exists()
        assert mode == "ro"
    assert (REPOSITORY / source["build"] / "Dockerfile").exists()
