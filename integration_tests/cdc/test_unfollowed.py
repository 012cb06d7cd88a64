"""Streams that are not followed beside those that are: one type of STATE, and every stream goes on from it."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from integration_tests.cdc.conftest import Followed, fill
from integration_tests.cdc.scenes import kill
from integration_tests.inprocess import Acts, Ended
from integration_tests.truth import Truth
from testkit.protocol import Json

pytestmark = pytest.mark.any_server

EVENTS = "timescaledb_chunk_events"
FULL_REFRESH = {"events", "parts"}
STREAMS = ("metrics", "events", "parts", "seen", EVENTS)
"""One that is followed; two that are read in whole, by chunks and by keys; a view with a cursor; chunk events."""


@pytest.fixture
def mixed(followed: Followed) -> Followed:
    """A database of which changes are followed and much else is read; nothing is synced yet."""
    followed.settings["chunk_events"] = True
    database = followed.database
    fill(database)
    database.execute("CREATE TABLE visits (id int, what text)")
    database.execute("INSERT INTO visits SELECT i, 'visit ' || i FROM generate_series(1, 50) i")
    database.execute("CREATE VIEW seen AS SELECT * FROM visits")
    followed.publish("metrics", "events", "parts")
    return followed


def catalog_of(followed: Followed, *streams: str) -> Json:
    catalog = followed.source().catalog("incremental", streams or STREAMS, seen="id")
    for stream in catalog["streams"]:
        if stream["stream"]["name"] in FULL_REFRESH:
            stream["sync_mode"] = "full_refresh"
    return catalog


def sync(followed: Followed, *streams: str, acts: Acts | None = None) -> Ended:
    ended = followed.source().read(catalog_of(followed, *streams), followed.state, acts)
    assert ended.failure is None, (ended.errors, ended.logged)
    followed.state = ended.state()
    return ended


def blobs(state: Json) -> dict[str, Json]:
    """The states of streams in a GLOBAL one."""
    entries = state["global"]["stream_states"]
    return {entry["stream_descriptor"]["name"]: entry["stream_state"] for entry in entries}


def types(ended: Ended) -> set[str]:
    return {state.message["type"] for state in ended.states}


def copied(state: list[Json]) -> list[Json]:
    copy: list[Json] = orjson.loads(orjson.dumps(state))
    return copy


def without(state: list[Json], *streams: str) -> list[Json]:
    """A state after the platform has cleared some streams, as it does with those of a full refresh before a job."""
    kept = copied(state)
    entries = kept[0]["global"]["stream_states"]
    entries[:] = [entry for entry in entries if entry["stream_descriptor"]["name"] not in streams]
    return kept


def test_a_sync_prints_global_states_only_and_the_next_one_goes_on_with_every_stream(mixed: Followed) -> None:
    first = sync(mixed)
    mixed.database.execute("UPDATE metrics SET note = 'changed' WHERE device = 1")
    mixed.database.execute("INSERT INTO visits VALUES (51, 'new')")
    mixed.database.execute("INSERT INTO metrics VALUES ('2025-05-05', 1, 1, 'born')")

    second = sync(mixed)

    assert types(first) == types(second) == {"GLOBAL"}
    assert {row["note"] for row in second.rows("metrics")} == {"changed", "born"}
    assert [row["id"] for row in second.rows("seen")] == [51]
    assert [event["event"] for event in second.rows(EVENTS)] == ["born"]
    assert second.rows("events") == second.rows("parts") == [], "the job before has read them"
    assert {status for _, _, status in second.statuses if "COMPLETE" in status} == {"COMPLETE"}


def test_every_state_holds_what_was_read_and_what_came_in(mixed: Followed) -> None:
    first = sync(mixed)
    second = sync(mixed)

    held = [len(blobs(state.message)) for state in first.states]
    assert held == sorted(held)
    assert set(blobs(first.states[-1].message)) == set(STREAMS)
    assert all(set(blobs(state.message)) == set(STREAMS) for state in second.states)


def test_each_state_counts_the_records_since_the_one_before(mixed: Followed) -> None:
    ended = sync(mixed)

    before = 0
    for state in ended.states:
        assert state.message["sourceStats"]["recordCount"] == state.records_before - before
        before = state.records_before
    assert before == sum(map(len, ended.records.values()))


@pytest.mark.usefixtures("small_slices")
def test_every_state_of_a_sync_leads_to_all_rows_of_all_streams(
    mixed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("source_timescaledb.airbyte.reading.STATE_SECONDS", 0.0)
    first = sync(mixed)
    truths = {name: Truth.of(mixed.database, name) for name in ("metrics", "events", "parts", "visits")}
    records = [message["record"] for message in first.messages if message["type"] == "RECORD"]
    assert len(first.states) > len(STREAMS)

    for count, state in enumerate(first.states, start=1):
        mixed.state = copied(first.state(count))
        resumed = sync(mixed)

        told = records[: state.records_before]
        for stream in ("metrics", "events", "parts", "seen"):
            rows = [one["data"] for one in told if one["stream"] == stream] + resumed.rows(stream)
            plain = [{name: row[name] for name in row if not name.startswith("_ab_cdc")} for row in rows]
            truth = truths["visits" if stream == "seen" else stream]
            assert truth.parsed(plain) == truth.rows, (count, stream)
        events = [one for one in told if one["stream"] == EVENTS] + resumed.rows(EVENTS)
        assert len(events) == len(first.rows(EVENTS))


def test_a_killed_sync_leaves_states_that_go_on_with_the_streams_it_had_not_come_to(mixed: Followed) -> None:
    sync(mixed)
    mixed.state = without(mixed.state, *FULL_REFRESH)
    mixed.database.execute("UPDATE metrics SET note = 'changed' WHERE device = 1")
    mixed.database.execute("INSERT INTO visits VALUES (60, 'new')")

    killed = mixed.source().read(catalog_of(mixed), mixed.state, {("STATE", 3): kill})
    mixed.state = killed.state()
    resumed = sync(mixed)

    assert types(killed) == {"GLOBAL"}
    assert {row["note"] for row in killed.rows("metrics")} == {"changed"}
    assert killed.rows("seen") == []
    assert resumed.rows("metrics") == []
    assert [row["id"] for row in resumed.rows("seen")] == [60], "its cursor was in the killed sync's states"
    assert resumed.rows(EVENTS) == []


def test_a_full_refresh_that_has_finished_is_not_read_again_by_the_next_attempt_of_its_job(
    mixed: Followed,
) -> None:
    sync(mixed)
    mixed.state = without(mixed.state, *FULL_REFRESH)

    again, attempted = sync(mixed), sync(mixed)

    assert len(again.rows("events")) == len(again.rows("parts")) == 300
    assert attempted.rows("events") == attempted.rows("parts") == []
    assert types(again) == types(attempted) == {"GLOBAL"}


def test_states_that_earlier_versions_wrote_beside_the_global_one_are_gone_on_from(mixed: Followed) -> None:
    sync(mixed)
    (state,) = copied(mixed.state)
    beside = [one for one in state["global"]["stream_states"] if one["stream_state"]["state_type"] != "cdc"]
    mixed.state = without(mixed.state, *(one["stream_descriptor"]["name"] for one in beside))
    mixed.state += [{"type": "STREAM", "stream": one} for one in beside]
    mixed.database.execute("UPDATE metrics SET note = 'changed' WHERE device = 1")

    ended = sync(mixed)

    assert types(ended) == {"GLOBAL"}
    assert set(blobs(ended.states[0].message)) == set(STREAMS)
    assert {name for _, name in ended.records} == {"metrics"}


def test_where_nothing_is_followed_the_states_are_global_too_and_share_nothing(mixed: Followed) -> None:
    first, second = sync(mixed, "parts", "seen", EVENTS), sync(mixed, "parts", "seen", EVENTS)

    assert types(first) == types(second) == {"GLOBAL"}
    assert all("shared_state" not in state.message["global"] for state in [*first.states, *second.states])
    assert second.records == {}


def test_a_connection_that_follows_nothing_any_more_keeps_the_position_for_the_day_it_does_again(
    mixed: Followed,
) -> None:
    first = mixed.sync("metrics")
    position = first.state()[0]["global"]["shared_state"]
    mixed.database.execute("DELETE FROM metrics WHERE device = 1")

    nothing = sync(mixed, "parts")
    mixed.database.execute("DELETE FROM metrics WHERE device = 2")
    mixed.destinations.pop("metrics")
    mixed.sync("metrics")

    assert types(nothing) == {"GLOBAL"}
    assert {orjson.dumps(one.message["global"]["shared_state"]) for one in nothing.states} == {
        orjson.dumps(position)
    }
    assert set(blobs(nothing.states[-1].message)) == {"parts"}
    mixed.mirrors("metrics")


def test_a_stream_that_is_followed_no_longer_is_not_taken_for_one_that_was_all_along(mixed: Followed) -> None:
    mixed.sync("metrics", "parts")
    stopped = mixed.source().read(
        catalog_of(mixed, "metrics", "parts"), copied(mixed.state), {("STATE", 2): kill}
    )
    mixed.state = stopped.state()
    assert set(blobs(mixed.state[0])) == {"metrics"}, "parts is in full refresh, and the position moves on"
    mixed.database.execute("DELETE FROM parts WHERE id < 100")
    mixed.destinations.pop("parts")

    mixed.sync("metrics", "parts")

    mixed.mirrors("metrics", "parts")


def test_a_stream_that_was_read_by_a_cursor_is_read_from_the_start_once_it_is_followed(
    mixed: Followed,
) -> None:
    source = mixed.source()
    source.config["replication_method"] = {"method": "Standard"}
    mixed.state = source.read(source.catalog("incremental", ["metrics"])).state()

    ended = mixed.sync("metrics")

    assert any("metrics was synced in another mode before" in line for line in ended.logged)
    mixed.mirrors("metrics")


@pytest.mark.parametrize("kind", ["cursor_based", "ctid"])
@pytest.mark.parametrize("place", ["in the global one", "beside it"])
def test_a_foreign_state_of_a_stream_that_is_followed_is_refused_and_never_taken_as_empty(
    mixed: Followed, place: str, kind: str
) -> None:
    foreign = {"version": 2, "state_type": kind, "cursor": "canary"}
    entry = {"stream_descriptor": {"name": "metrics", "namespace": "public"}, "stream_state": foreign}
    mixed.state = [{"type": "GLOBAL", "global": {"stream_states": [entry]}}]
    if place == "beside it":
        mixed.state = [{"type": "STREAM", "stream": entry}]

    ended = mixed.sync("metrics", "parts")

    (error,) = ended.errors
    assert error["failure_type"] == "config_error"
    assert "public.metrics has version 2" in error["message"]
    assert ended.rows("metrics") == []
    assert len(ended.rows("parts")) == 300


@pytest.mark.parametrize("before", ["global", "stream"])
def test_a_state_of_the_other_shape_is_gone_on_from(mixed: Followed, before: str) -> None:
    after = "stream" if before == "global" else "global"
    mixed.settings["state_mode"] = before
    sync(mixed)
    mixed.settings["state_mode"] = after
    mixed.database.execute("UPDATE metrics SET note = 'changed' WHERE device = 1")

    ended = sync(mixed)

    assert types(ended) == {after.upper()}
    assert {name for _, name in ended.records} == {"metrics"}
    assert {row["note"] for row in ended.rows("metrics")} == {"changed"}


def drop(followed: Followed) -> None:
    followed.database.execute("DROP VIEW seen")


def hide(followed: Followed) -> None:
    followed.database.execute("ALTER TABLE metrics DROP COLUMN note")


@pytest.mark.parametrize("break_", [drop, hide], ids=["a view", "a followed stream"])
def test_a_stream_that_fails_keeps_its_state_in_those_of_the_others(
    mixed: Followed, break_: Callable[[Followed], None]
) -> None:
    sync(mixed)
    (before,) = copied(mixed.state)
    catalog = catalog_of(mixed)
    break_(mixed)

    ended = mixed.source().read(catalog, mixed.state)

    assert ended.failure is not None
    assert types(ended) == {"GLOBAL"}
    for state in ended.states:
        assert set(blobs(state.message)) == set(STREAMS)
        assert blobs(state.message)["seen"] == blobs(before)["seen"] or break_ is hide
    if break_ is hide:
        assert ended.state()[0]["global"]["shared_state"] == before["global"]["shared_state"]
        assert blobs(ended.state()[0])["metrics"] == blobs(before)["metrics"]


def test_each_stream_has_a_state_of_its_own_where_that_is_wanted(mixed: Followed) -> None:
    mixed.settings["state_mode"] = "stream"

    first, second = sync(mixed), sync(mixed)

    assert types(first) == types(second) == {"STREAM"}
    assert len(first.state()) == len(STREAMS)
    assert second.records == {}
