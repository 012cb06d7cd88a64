"""What is wrong with a server is found, `check` agrees, and after the SQL that the doctor prints a sync runs.

The scenes are those of the project's table of bad input for which there is something to run. Each is mended twice: by the
statements of its finding, and by the script, which is run a second time to show that it may be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from integration_tests.cdc.aggregates import aggregate, table_of
from integration_tests.cdc.conftest import PUBLICATION, Followed
from integration_tests.cdc.test_bad_setup import PUBLISH, SLOT, as_owner
from integration_tests.health.consulting import (
    agrees,
    applied,
    doctor,
    follow,
    follow_script,
)
from integration_tests.inprocess import InProcess
from source_timescaledb.cdc.compressing import DIRECT_COMPRESS, DIRECT_DELETE
from testkit.protocol import Json

TABLES: Final = ("metrics", "events", "parts")
COMPRESS: Final = "ALTER TABLE {} SET (timescaledb.compress)"
LEFT: Final = f"ALTER PUBLICATION {PUBLICATION} DROP TABLE"
CODED: Final = (
    "ALTER TABLE parts ADD COLUMN code int GENERATED ALWAYS AS IDENTITY UNIQUE",
    "ALTER TABLE parts REPLICA IDENTITY USING INDEX parts_code_key",
)
NEW_CHUNK: Final = "INSERT INTO events VALUES ('2025-01-01', 'a new chunk')"


@dataclass(frozen=True)
class Bad:
    """A setup, and what is said of it."""

    spoil: Callable[[Followed], None]
    words: tuple[str, ...]
    severity: str = "blocking"
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the object `timescaledb`."""
    streams: tuple[str, ...] = ()
    """Those of a catalog that the doctor is given; none where `check` judges the same."""
    choice: bool = False
    """Whether its statements are comments in the script."""
    syncs: bool = True
    """Whether a sync can be run afterwards without further ado."""


def as_reader(*grants: str) -> Callable[[Followed], None]:
    """Let the role be the one that owns nothing, and may do no more than this; `{reader}` is its name."""

    def spoil(followed: Followed) -> None:
        followed.as_reader = True
        for statement in (PUBLISH, SLOT, *grants):
            names = {"slot": followed.slot, "reader": f'"{followed.database.reader}"'}
            followed.database.as_superuser().execute(statement.format(**names).encode())

    return spoil


REPLICATION: Final = "ALTER ROLE {reader} REPLICATION"
SELECT: Final = "GRANT SELECT ON metrics, events, parts TO {reader}"

BAD: Final = {
    "no publication": Bad(as_owner(SLOT), (f'no publication "{PUBLICATION}"', "CREATE PUBLICATION")),
    "a table left out, chosen": Bad(
        as_owner(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE metrics, parts", SLOT),
        ("does not list public.events", "ADD TABLE"),
        streams=TABLES,
    ),
    "a table left out": Bad(
        as_owner(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE metrics, parts", SLOT),
        ("does not list public.events", "ADD TABLE"),
        severity="warning",
        choice=True,
    ),
    "no inserts": Bad(
        as_owner(f"{PUBLISH} WITH (publish = 'update, delete')", SLOT), ("does not publish inserts",)
    ),
    "no updates": Bad(
        as_owner(f"{PUBLISH} WITH (publish = 'insert, delete')", SLOT),
        ("does not publish updates",),
        severity="warning",
    ),
    "some columns": Bad(
        as_owner(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE metrics, events (time), parts (id)", SLOT),
        ("only some columns of public.events, public.parts",),
        severity="warning",
    ),
    "some columns, chosen": Bad(
        as_owner(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE metrics, events (time), parts (id)", SLOT),
        ("only some columns of public.events, public.parts",),
        streams=TABLES,
    ),
    "some rows": Bad(
        as_owner(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE metrics, events, parts WHERE (id > 9)", SLOT),
        ("only the rows of public.parts",),
        severity="warning",
        choice=True,
    ),
    "generated columns": Bad(
        as_owner(
            "ALTER TABLE parts ADD COLUMN twice int GENERATED ALWAYS AS (id * 2) STORED",
            PUBLISH,
            SLOT,
        ),
        ("generated", "twice"),
        severity="warning",
        syncs=False,
    ),
    "no slot": Bad(as_owner(PUBLISH), ("does not exist", "pg_create_logical_replication_slot")),
    "a physical slot": Bad(
        as_owner(PUBLISH, "SELECT pg_create_physical_replication_slot('{slot}')"), ("is a physical one",)
    ),
    "another plugin": Bad(
        as_owner(PUBLISH, "SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')"),
        ("plugin test_decoding, not pgoutput",),
    ),
    "a temporary slot": Bad(
        as_owner(PUBLISH, "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput', true)"),
        ("is a temporary one",),
    ),
    "a role that may not replicate": Bad(
        as_owner(PUBLISH, SLOT, 'ALTER ROLE "{owner}" NOREPLICATION'), ("may not replicate", "REPLICATION;")
    ),
    "no temporary tables": Bad(
        as_reader(REPLICATION, SELECT), ("no temporary tables", "GRANT TEMPORARY"), severity="warning"
    ),
    "no SELECT": Bad(as_reader(REPLICATION), ("may not read", "GRANT SELECT ON")),
    "no SELECT on one": Bad(
        as_reader(REPLICATION, "GRANT SELECT ON metrics, events TO {reader}"),
        ("may not read public.parts", "GRANT SELECT ON"),
        severity="warning",
        choice=True,
    ),
    "no SELECT on one, chosen": Bad(
        as_reader(REPLICATION, "GRANT SELECT ON metrics, events TO {reader}"),
        ("public.parts is not in the database, or the role may not read it", "GRANT SELECT ON"),
        streams=TABLES,
    ),
    "no USAGE": Bad(
        as_reader(REPLICATION, SELECT, "REVOKE USAGE ON SCHEMA public FROM PUBLIC, {reader}"),
        ("may not use", 'GRANT USAGE ON SCHEMA "public"'),
    ),
    "no USAGE of the chunks": Bad(
        as_reader(REPLICATION, SELECT, "REVOKE USAGE ON SCHEMA _timescaledb_internal FROM PUBLIC"),
        ("permission denied for schema _timescaledb_internal", "GRANT USAGE ON SCHEMA"),
    ),
    "row-level security": Bad(
        as_owner(PUBLISH, SLOT, "ALTER TABLE parts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"),
        ("row-level security", "public.parts", "BYPASSRLS"),
        severity="warning",
        choice=True,
    ),
    "row-level security, chosen": Bad(
        as_owner(PUBLISH, SLOT, "ALTER TABLE parts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"),
        ("public.parts is under row-level security", "BYPASSRLS"),
        streams=TABLES,
    ),
    "some columns granted, chosen": Bad(
        as_reader(
            REPLICATION,
            "GRANT SELECT ON metrics, events TO {reader}",
            "GRANT SELECT (id) ON parts TO {reader}",
        ),
        ("public.parts is readable for the role in some columns only", "GRANT SELECT ON"),
        streams=TABLES,
    ),
    "no replica identity": Bad(
        as_owner("ALTER TABLE events REPLICA IDENTITY DEFAULT", PUBLISH, SLOT),
        ("makes the application's UPDATE and DELETE fail", "public.events"),
        severity="warning",
    ),
    "no replica identity, to be published": Bad(
        as_owner("ALTER TABLE events REPLICA IDENTITY DEFAULT"),
        ("UPDATE and DELETE would fail", "public.events"),
        settings={"manage_publication": "full"},
    ),
    "no replica identity, to be added": Bad(
        as_owner(
            "ALTER TABLE events REPLICA IDENTITY DEFAULT",
            f"CREATE PUBLICATION {PUBLICATION} FOR TABLE metrics, parts",
            f'ALTER PUBLICATION {PUBLICATION} OWNER TO "{{owner}}"',
        ),
        ("UPDATE and DELETE would fail", "public.events"),
        settings={"manage_publication": "full"},
    ),
    "an identity without the key": Bad(
        as_owner(*CODED, PUBLISH, SLOT),
        ("replica identity of public.parts leaves out columns of the key", "REPLICA IDENTITY DEFAULT;"),
        severity="warning",
        choice=True,
    ),
    "an identity without the key, chosen": Bad(
        as_owner(*CODED, PUBLISH, SLOT),
        ("replica identity of public.parts leaves out columns of the key", "REPLICA IDENTITY DEFAULT;"),
        streams=TABLES,
    ),
    "chunks that nobody adds": Bad(
        as_owner(PUBLISH, SLOT, NEW_CHUNK),
        ("1 chunks are not in the publication", "ADD TABLE ONLY"),
        settings={"manage_publication": "off"},
    ),
    "chunks that the role may not add": Bad(
        as_reader(REPLICATION, SELECT, NEW_CHUNK),
        ("1 chunks are not in the publication", "does not own both"),
    ),
    "a publication that the role is to make and may not": Bad(
        as_reader(REPLICATION, SELECT, f"DROP PUBLICATION {PUBLICATION}"),
        ("is to make the publication", "does not own"),
        settings={"manage_publication": "full"},
    ),
    "hypertables in one query": Bad(
        as_owner(PUBLISH, SLOT), ("chunk_by_chunk is off",), settings={"chunk_by_chunk": False}
    ),
}
COMPRESSED: Final = {
    "deletes of whole batches": Bad(
        as_owner(PUBLISH, SLOT, COMPRESS.format("metrics")), (f"{DIRECT_DELETE} is on",), severity="warning"
    ),
    "rows written compressed": Bad(
        as_owner(
            PUBLISH, SLOT, COMPRESS.format("events"), f'ALTER ROLE "{{owner}}" SET {DIRECT_COMPRESS[0]} = on'
        ),
        ("Rows that are written compressed", DIRECT_COMPRESS[0]),
        severity="warning",
    ),
    "an aggregate without identity": Bad(
        lambda followed: _aggregate(followed, published=True),
        ("makes the refresh of continuous aggregates fail", "public.hourly"),
        severity="warning",
        syncs=False,
    ),
    "an aggregate that is not followed": Bad(
        lambda followed: _aggregate(followed, published=False),
        ("public.hourly is read without its changes", "REPLICA IDENTITY FULL", "ADD TABLE"),
        severity="warning",
        choice=True,
    ),
}


def _aggregate(followed: Followed, *, published: bool) -> None:
    aggregate(followed.database, "hourly")
    tables = [*TABLES, table_of(followed.database, "hourly")] if published else TABLES
    followed.publish(*tables)


def catalog_of(followed: Followed, streams: tuple[str, ...]) -> Json | None:
    """The catalog that the owner, who may read everything, would choose."""
    if not streams:
        return None
    database = followed.database
    owner = {"username": database.owner, "password": database.passwords["owner"]}
    return InProcess({**followed.config, **owner}).catalog("incremental", streams)


def is_found_and_mended(followed: Followed, workdir: Path, bad: Bad, by: str) -> None:
    """The whole story of one scene."""
    bad.spoil(followed)
    followed.settings.update(bad.settings)
    catalog = catalog_of(followed, bad.streams)

    found = doctor(followed.config, workdir, catalog=catalog)

    finding = found.finding(*bad.words)
    assert finding["severity"] == bad.severity
    assert finding["choice"] == bad.choice
    assert found.status == (1 if bad.severity == "blocking" else 0)
    if catalog is None:
        agrees(followed.config, found)
    config = mended(followed, workdir, catalog, finding, by)
    afterwards = doctor(config, workdir, catalog=catalog)
    assert afterwards.matching(*bad.words) == []
    assert afterwards.status == 0, afterwards.said
    assert agrees(config, doctor(config, workdir))[0]
    if bad.syncs:
        source = InProcess(config)
        ended = source.read(source.catalog("incremental", TABLES))
        assert ended.failure is None, ended.errors
        assert len(ended.rows("parts")) == 300


def mended(followed: Followed, workdir: Path, catalog: Json | None, finding: Json, by: str) -> Json:
    """Do what is said; the configuration afterwards."""
    if by == "statements":
        follow(followed.database, finding)
    else:
        script = doctor(followed.config, workdir, "--fix-sql", catalog=catalog).said
        for _ in range(2):
            follow_script(followed.database, script)
    return applied(followed.config, finding["settings"])


@pytest.mark.any_server
@pytest.mark.parametrize("what", BAD)
def test_a_bad_setup_is_mended_by_the_statements_of_its_finding(
    followed: Followed, tmp_path: Path, what: str
) -> None:
    if what == "generated columns" and followed.database.cluster.postgres < 18:
        pytest.skip("PostgreSQL 18 is the first that sends generated columns")
    is_found_and_mended(followed, tmp_path, BAD[what], "statements")


@pytest.mark.any_server
@pytest.mark.parametrize("what", [what for what, bad in BAD.items() if not bad.choice])
def test_a_bad_setup_is_mended_by_the_script(followed: Followed, tmp_path: Path, what: str) -> None:
    if what == "generated columns" and followed.database.cluster.postgres < 18:
        pytest.skip("PostgreSQL 18 is the first that sends generated columns")
    is_found_and_mended(followed, tmp_path, BAD[what], "script")


@pytest.mark.community
@pytest.mark.parametrize("what", COMPRESSED)
def test_what_compression_and_aggregates_hide_is_mended(
    community: Followed, tmp_path: Path, what: str
) -> None:
    is_found_and_mended(community, tmp_path, COMPRESSED[what], "statements")
