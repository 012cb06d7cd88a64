"""Deletes of rows that are there: recompression writes them, a move into chunks ends in one, a refresh begins with some.

The connector tells none of them; without markers it cannot know the first kind, and refuses.
"""

from __future__ import annotations

import pytest

from integration_tests.cdc.aggregates import aggregate, mirrors, publish, refresh, table_of
from integration_tests.cdc.conftest import PUBLICATION, Followed, fill
from integration_tests.cdc.raw import RawLog
from integration_tests.cdc.test_aggregates import CHANGED, change, told
from integration_tests.cdc.test_compression import COMPRESS, INSERT, WORDS, ending_well, make_compressible
from integration_tests.traps.test_ghosts import make_plain, publish_schemas
from source_timescaledb.cdc.compressing import MARKERS
from testkit.roots import Root
from testkit.server import Server


@pytest.mark.community
def test_trap_18_without_markers_recompression_deletes_rows_that_are_there(root: Root) -> None:
    with Server(root, settings={MARKERS: "off"}) as server, server.database() as database:
        make_compressible(database)
        followed = Followed(database, f"slot_{database.name}")
        followed.publish("metrics")
        raw = RawLog(database, PUBLICATION)
        for statement in (COMPRESS, INSERT, COMPRESS):
            raw.told()
            database.execute(statement.format_map(WORDS["metrics"]).encode())
        assert raw.told()["metrics"].bare["Delete"] == 1
        assert database.value("SELECT count(*) FROM metrics") == 301

        ended = followed.sync("metrics")

        (error,) = ended.errors
        assert (ended.records, error["failure_type"]) == ({}, "config_error")
        assert f"ALTER SYSTEM SET {MARKERS} = on; SELECT pg_reload_conf();" in error["message"]


def test_trap_19_moving_rows_into_chunks_ends_in_a_truncate_of_the_hypertable(followed: Followed) -> None:
    database = followed.database
    make_plain(database, "readings", ", PRIMARY KEY (time)")
    publish_schemas(followed)
    followed.settings["truncated_tables"] = "fail"
    ending_well(followed.sync("readings"))
    raw = RawLog(database, PUBLICATION)
    database.execute("SELECT create_hypertable('readings', 'time', migrate_data => true)")
    assert raw.told()["readings"].bare == {"Insert": 100, "Truncate": 1}, "in this order"

    ending_well(followed.sync("readings"))

    followed.mirrors("readings")


@pytest.mark.community
def test_trap_20_a_refresh_deletes_buckets_before_it_inserts_them_again(community: Followed) -> None:
    database = community.database
    fill(database)
    aggregate(database, "hourly")
    publish(community, "hourly")
    ending_well(community.sync("hourly"))
    raw = RawLog(database, PUBLICATION)
    change(database)
    refresh(database, "hourly")
    bare = raw.told()[table_of(database, "hourly").partition(".")[2]].bare
    assert (bare["Delete"], bare["Insert"]) == (7, 7), (
        "of which one has gone, one is new, and five are as they were"
    )

    ended = ending_well(community.sync("hourly"))

    assert sorted(told(ended)) == sorted(CHANGED)
    mirrors(community, "hourly")
