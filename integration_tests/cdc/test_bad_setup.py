"""Whatever is wrong with publication, slot, role, server or table is one clear error, in `check` and in a sync alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration_tests.cdc.conftest import PUBLICATION, Followed, fill, make_tables
from integration_tests.cdc.test_slot_faults import fails
from testkit.connector import Connector
from testkit.roots import Root
from testkit.run import Result
from testkit.server import Server

pytestmark = pytest.mark.any_server

TABLES = ("metrics", "events", "parts")
MAKE_SLOT = "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')"


def checked(followed: Followed, workdir: Path) -> Result:
    return Connector(followed.config, workdir).check()


def as_owner(*statements: str) -> Callable[[Followed], None]:
    """Run statements in place of what `Followed.publish` does; `{slot}` and `{owner}` are names."""

    def spoil(followed: Followed) -> None:
        for statement in statements:
            query = statement.format(slot=followed.slot, owner=followed.database.owner)
            followed.database.as_superuser().execute(query.encode())

    return spoil


PUBLISH = f"CREATE PUBLICATION {PUBLICATION} FOR TABLE metrics, events, parts"
SLOT = "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"


@dataclass(frozen=True)
class Bad:
    """A setup, and what is said of it."""

    spoil: Callable[[Followed], None]
    words: tuple[str, ...]
    some: bool = False
    """Whether it hurts only some streams, and `check` does not know whether those are wanted: it warns."""


BAD = {
    "no publication": Bad(
        as_owner(SLOT), (f'no publication "{PUBLICATION}"', "CREATE PUBLICATION", "manage_publication")
    ),
    "a table left out": Bad(
        as_owner(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE metrics, parts", SLOT),
        ("does not list public.events", "ADD TABLE"),
        some=True,
    ),
    "no inserts": Bad(
        as_owner(f"{PUBLISH} WITH (publish = 'update, delete')", SLOT), ("does not publish inserts",)
    ),
    "some columns": Bad(
        as_owner(
            f"CREATE PUBLICATION {PUBLICATION} FOR TABLE metrics, events, parts (id)",
            SLOT,
        ),
        ("only some columns of public.parts",),
        some=True,
    ),
    "no slot": Bad(as_owner(PUBLISH), ("does not exist", "pg_create_logical_replication_slot")),
    "a physical slot": Bad(
        as_owner(PUBLISH, "SELECT pg_create_physical_replication_slot('{slot}')"), ("is a physical one",)
    ),
    "another plugin": Bad(
        as_owner(PUBLISH, "SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')"),
        ("plugin test_decoding, not pgoutput",),
    ),
    "a role that may not replicate": Bad(
        as_owner(PUBLISH, SLOT, 'ALTER ROLE "{owner}" NOREPLICATION'), ("ALTER ROLE", " REPLICATION;")
    ),
    "row-level security": Bad(
        as_owner(PUBLISH, SLOT, "ALTER TABLE parts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"),
        ("public.parts", "row-level security"),
        some=True,
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_setup_is_told_before_anything_is_read(followed: Followed, tmp_path: Path, what: str) -> None:
    fill(followed.database)
    BAD[what].spoil(followed)

    ended = followed.run(tmp_path, *TABLES)

    assert {error["failure_type"] for error in ended.errors} == {"config_error"}, ended.errors
    said = " ".join(error["message"] for error in ended.errors)
    assert [word for word in BAD[what].words if word not in said] == []
    assert set(ended.records) <= {("public", name) for name in TABLES if what == "row-level security"}
    told = checked(followed, tmp_path)
    assert told.connection_status["status"] == ("SUCCEEDED" if BAD[what].some else "FAILED")
    assert "public." in " ".join(told.logs) or not BAD[what].some


def test_check_tells_all_that_is_wrong_at_once(followed: Followed, tmp_path: Path) -> None:
    as_owner('ALTER ROLE "{owner}" NOREPLICATION')(followed)

    status = checked(followed, tmp_path).connection_status

    assert status["status"] == "FAILED"
    for words in ("may not replicate", "no publication", "slot"):
        assert words in status["message"]


def test_a_server_that_logs_too_little_or_has_no_slot_left_is_told_with_its_setting(
    root: Root, tmp_path: Path
) -> None:
    with Server(root, settings={"wal_level": "replica"}) as server, server.database() as database:
        make_tables(database)
        followed = Followed(database, f"slot_{database.name}", {"manage_publication": "full"})
        fails(followed.run(tmp_path, *TABLES), "config_error", "wal_level", "must be logical")
        assert "wal_level" in checked(followed, tmp_path).connection_status["message"]
        database.disconnect()
        server.configure(wal_level="logical", max_replication_slots=1)
        server.restart()
        database.as_superuser().execute(MAKE_SLOT, ["of_somebody_else"])

        ended = followed.run(tmp_path, *TABLES)

        fails(ended, "config_error", "max_replication_slots")
        assert "All 1 replication slots" in checked(followed, tmp_path).connection_status["message"]


def test_no_publication_is_made_under_which_the_application_could_not_update(
    followed: Followed, tmp_path: Path
) -> None:
    followed.database.execute("ALTER TABLE events REPLICA IDENTITY DEFAULT")
    followed.settings["manage_publication"] = "full"

    ended = followed.run(tmp_path, *TABLES)

    fails(ended, "config_error", "public.events", "REPLICA IDENTITY FULL")
    assert followed.database.value("SELECT count(*) FROM pg_publication") == 0


def test_deduplication_without_a_key_is_refused(followed: Followed, tmp_path: Path) -> None:
    fill(followed.database)
    followed.publish(*TABLES)
    catalog = followed.source().catalog("incremental", ["events"])
    catalog["streams"][0]["destination_sync_mode"] = "append_dedup"

    ended = followed.start(tmp_path, catalog).wait()

    assert [error["failure_type"] for error in ended.errors] == ["config_error"]
    assert "public.events" in ended.errors[0]["message"]
    assert ended.records == {}


def test_a_row_too_large_for_airbyte_names_the_table_and_its_key_and_not_the_value(
    followed: Followed, tmp_path: Path
) -> None:
    followed.publish("parts")
    followed.sync("parts")
    followed.database.execute("INSERT INTO parts VALUES (1, repeat('secret', 10000000))")

    ended = followed.run(tmp_path, "parts")

    fails(ended, "config_error", "public.parts", "50 MiB", "Its key is in: id")
    assert "secret" not in str(ended.errors) + ended.stderr
    assert ended.records == {}
