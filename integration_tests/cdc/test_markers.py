"""Servers that do not mark what compression moves are refused where it is in use; what hides writes is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from integration_tests.cdc.conftest import PUBLICATION, Followed, fill, make_tables
from integration_tests.cdc.raw import RawLog
from source_timescaledb.cdc.compressing import DIRECT_COMPRESS, DIRECT_DELETE, MARKERS
from source_timescaledb.source import SourceTimescaledb
from testkit.database import Database
from testkit.roots import Root
from testkit.server import Server

pytestmark = pytest.mark.community

COMPRESSION = "ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')"
COMPRESS = "SELECT compress_chunk(c) FROM show_chunks('metrics') c"


@pytest.fixture
def unmarked(root: Root) -> Iterator[Followed]:
    """Tables of a server that has its markers off."""
    with Server(root, settings={MARKERS: "off"}) as server, server.database() as database:
        yield prepared(database)


@pytest.fixture
def marked(community_database: Database) -> Followed:
    """Tables of a server that has them on."""
    return prepared(community_database)


def prepared(database: Database) -> Followed:
    make_tables(database)
    fill(database)
    followed = Followed(database, f"slot_{database.name}")
    followed.publish("metrics", "events")
    return followed


def checked(followed: Followed, caplog: pytest.LogCaptureFixture) -> tuple[str, str]:
    """What `check` says as its status, and what it warns of."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        status = SourceTimescaledb().check(logging.getLogger("check"), followed.config)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return status.message or status.status.value, "\n".join(warned)


def test_without_markers_compressed_hypertables_are_refused(
    unmarked: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    database = unmarked.database
    database.execute(COMPRESSION)
    raw = RawLog(database, PUBLICATION)
    database.execute(COMPRESS)
    database.execute("INSERT INTO metrics VALUES ('2024-01-01 00:00:01', 3, 1, 'new')")
    raw.told()
    database.execute(COMPRESS)
    assert raw.told()["metrics"].bare["Delete"], "a living row is deleted, and nothing says otherwise"

    message, _ = checked(unmarked, caplog)
    ended = unmarked.sync("metrics", "events")

    for sentence in (message, ended.errors[0]["message"]):
        assert MARKERS in sentence
        assert f"ALTER SYSTEM SET {MARKERS} = on; SELECT pg_reload_conf();" in sentence
    assert [error["failure_type"] for error in ended.errors] == ["config_error"]
    assert ended.records == {}


def test_without_markers_other_hypertables_are_followed_with_a_warning(
    unmarked: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    unmarked.database.execute(COMPRESSION)

    ended = unmarked.sync("events")

    assert ended.failure is None, (ended.errors, ended.logged)
    assert [line for line in ended.logged if line.startswith("WARNING") and MARKERS in line]
    unmarked.mirrors("events")

    unmarked.database.execute(f"ALTER PUBLICATION {PUBLICATION} DROP TABLE metrics".encode())
    message, warned = checked(unmarked, caplog)

    assert message == "SUCCEEDED"
    assert MARKERS in warned


def test_settings_that_hide_writes_are_told_until_they_are_off_for_everybody(
    marked: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    database = marked.database
    superuser = database.as_superuser()
    copy = DIRECT_COMPRESS[0]
    assert DIRECT_DELETE not in checked(marked, caplog)[1], "nothing is compressed"
    database.execute(COMPRESSION)
    database.execute("ALTER TABLE events SET (timescaledb.compress)")

    _, warned = checked(marked, caplog)

    assert f'ALTER DATABASE "{database.name}" SET {DIRECT_DELETE} = off;' in warned
    assert copy not in warned

    superuser.execute(f'ALTER ROLE "{database.owner}" SET {copy} = on'.encode())
    superuser.execute(f'ALTER DATABASE "{database.name}" SET {DIRECT_DELETE} = off'.encode())

    _, warned = checked(marked, caplog)

    assert DIRECT_DELETE not in warned
    assert f'ALTER ROLE "{database.owner}" SET {copy} = off;' in warned

    superuser.execute(f'ALTER ROLE "{database.owner}" SET {copy} = off'.encode())

    message, warned = checked(marked, caplog)

    assert message == "SUCCEEDED"
    assert copy not in warned


def test_the_option_of_a_table_to_be_written_compressed_is_told_where_there_is_one(
    marked: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    database = marked.database
    if database.cluster.timescaledb is None or database.cluster.timescaledb < "2.29":
        pytest.skip("this version has no such option")
    database.execute("ALTER TABLE events SET (timescaledb.compress)")
    database.execute("ALTER TABLE events SET (timescaledb.direct_compress = true)")

    _, warned = checked(marked, caplog)

    assert 'ALTER TABLE "public"."events" SET (timescaledb.direct_compress = false);' in warned
    database.execute("ALTER TABLE events SET (timescaledb.direct_compress = false)")
    assert "direct_compress" not in checked(marked, caplog)[1]
