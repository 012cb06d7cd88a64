"""Chunks that are born while a first load goes on join it when the watcher sees them, however long its rounds are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from integration_tests.cdc.conftest import Followed, fill
from integration_tests.inprocess import Ended
from integration_tests.slices import shrink_slices
from integration_tests.watched import await_look, terminate
from source_timescaledb.hypertables.watcher import CHANNEL

ROWS = 20_000

pytestmark = pytest.mark.any_server  # what the watcher asks the catalog is tried on all, in hypertables/


@pytest.fixture
def loading(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> Followed:
    """A load of many small slices in one round without an end, of which readers are a few ahead."""
    monkeypatch.setattr("source_timescaledb.airbyte.following.ROUND_SECONDS", 3600.0)
    monkeypatch.setattr("source_timescaledb.snapshot.crew.QUEUE_BYTES", 64 * 1024)
    shrink_slices(monkeypatch, 16 * 1024)
    fill(followed.database, rows=ROWS)
    followed.publish("metrics", "events")
    return followed


def bear(followed: Followed) -> None:
    """Make another chunk of each hypertable."""
    database = followed.database
    database.execute(
        "INSERT INTO metrics SELECT max(time) + interval '9 days', 1, 1, 'born' FROM metrics;"
        "INSERT INTO events SELECT max(time) + interval '9 days', 'born' FROM events"
    )


def load(followed: Followed, act: Callable[[], object]) -> Ended:
    ended = followed.sync("metrics", "events", acts={("RECORD", 2000): act, ("RECORD", 10_000): act})
    assert ended.failure is None, (ended.errors, ended.logged)
    return ended


def assert_joined(followed: Followed, ended: Ended) -> None:
    """What was born first was known to a STATE in the first half, and all rows came once; so does what changes later."""
    known = [
        state.records_before
        for state in ended.states
        for stream in state.message["global"]["stream_states"]
        if stream["stream_descriptor"]["name"] == "metrics"
        and stream["stream_state"]["progress"]["last_chunk"] > stream["stream_state"]["progress"]["through"]
    ]
    assert min(known) < ROWS
    followed.mirrors("metrics", "events")
    followed.database.execute("UPDATE metrics SET value = 7 WHERE note = 'born'")
    later = followed.sync("metrics", "events")
    assert {row["note"] for row in later.rows("metrics")} == {"born"}
    assert later.rows("events") == []
    followed.mirrors("metrics", "events")


def test_a_chunk_joins_the_load_at_the_next_look(loading: Followed) -> None:
    loading.settings |= {"chunk_poll_seconds": 0.2, "use_notifications": False}

    def act() -> None:
        bear(loading)
        await_look(loading.database)

    assert_joined(loading, load(loading, act))


def test_a_chunk_joins_the_load_when_somebody_tells_although_others_tell_all_the_time(
    loading: Followed,
) -> None:
    loading.settings["chunk_poll_seconds"] = 3600

    def tell() -> None:
        for _ in range(20):
            loading.database.execute(f"NOTIFY {CHANNEL}, 'anything'".encode())

    def act() -> None:
        bear(loading)
        await_look(loading.database, after=tell)

    assert_joined(loading, load(loading, act))


def test_a_chunk_joins_the_load_although_what_listens_for_it_is_killed(loading: Followed) -> None:
    loading.settings["chunk_poll_seconds"] = 0.5

    def act() -> None:
        terminate(loading.database)
        bear(loading)
        await_look(loading.database)
        terminate(loading.database)

    assert_joined(loading, load(loading, act))


@pytest.mark.usefixtures("small_slices")
def test_a_sync_ends_although_chunks_are_born_faster_than_they_are_read(followed: Followed) -> None:
    fill(followed.database, days=3)
    followed.publish("metrics", "events")
    born = 0

    def act() -> None:
        nonlocal born
        for _ in range(3):
            bear(followed)
            born += 1

    ended = followed.sync("metrics", "events", acts={("STATE", n): act for n in range(2, 300)})

    assert ended.failure is None, ended.errors
    assert 0 < born < 150
    assert "Chunks are born faster than they are read" in "".join(ended.logged)
    followed.sync("metrics", "events")
    followed.mirrors("metrics", "events")
