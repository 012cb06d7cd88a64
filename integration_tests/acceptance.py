"""What the scenarios of acceptance-test-config.yml read: a database, and the configurations that the file names.

As a program (`make acceptance`) it starts a server and lets `airbyte-cdk connector test` run. That command wants a folder
called source-something, so it gets one, with links to what is here and the configurations beside them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from testkit.connector import REPOSITORY
from testkit.database import Database
from testkit.errors import KitError
from testkit.external import docker_answers
from testkit.protocol import Json
from testkit.servers import server

PUBLICATION: Final = "acceptance"
NOT_SHOWN: Final = ("secrets", "build")


def make_tables(database: Database) -> None:
    """A plain table and a hypertable of many types, published, and a slot; their owner may follow them."""
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
    database.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE airlines, weather".encode())
    superuser = database.as_superuser()
    superuser.execute(f'ALTER ROLE "{database.owner}" REPLICATION'.encode())
    superuser.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot(database)])


def slot(database: Database) -> str:
    """The name of the slot: one for the whole server, so it has the database's name in it."""
    return f"slot_{database.name}"


def configurations(database: Database) -> dict[str, Json]:
    """What `secrets/` has, by the names of the files."""
    changes = {"method": "CDC", "replication_slot": slot(database), "publication": PUBLICATION}
    return {
        "config.json": database.config(),
        "cdc_config.json": database.config(
            username=database.owner,
            password=database.passwords["owner"],
            replication_method=changes,
            timescaledb={"state_mode": "stream"},  # the harness of airbyte-cdk fails at a GLOBAL state
        ),
        "wrong_password_config.json": database.config(password="canary-none-of-theirs"),
    }


def write_configurations(database: Database, folder: Path) -> None:
    """Each into its file, which only we can read."""
    folder.mkdir(mode=0o700)
    for name, config in configurations(database).items():
        (folder / name).write_text(json.dumps(config))


def main() -> int:
    """Run airbyte-cdk's command; its exit status."""
    try:
        with server() as running, running.database() as database, tempfile.TemporaryDirectory() as parent:
            make_tables(database)
            folder = Path(parent) / "source-timescaledb"
            folder.mkdir()
            for entry in REPOSITORY.iterdir():
                if entry.name == ".dockerignore" or not entry.name.startswith((".", *NOT_SHOWN)):
                    (folder / entry.name).symlink_to(entry)
            write_configurations(database, folder / "secrets")
            return subprocess.run(command(), cwd=folder, check=False).returncode
    except KitError as reason:
        print(reason, file=sys.stderr)  # noqa: T201 - it talks to a terminal
        return 1


def command() -> list[str]:
    """What to run; the tests of the image only where there is an engine that builds one."""
    program = str(Path(sys.executable).parent / "airbyte-cdk")
    chosen = [] if docker_answers() else ["--pytest-arg=-m", "--pytest-arg=not image_tests"]
    return [program, "connector", "test", *chosen]


if __name__ == "__main__":
    sys.exit(main())
