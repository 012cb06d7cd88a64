"""What a sync makes of the state it is given, and what it leaves: streams that come and go, stops, bad states."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from integration_tests.cdc.conftest import Followed, fill
from integration_tests.inprocess import Ended
from source_timescaledb.airbyte.following import Following
from source_timescaledb.lsn import Lsn
from testkit.protocol import Json

TABLES = ("metrics", "events", "parts")


def ending_well(ended: Ended) -> Ended:
    assert ended.failure is None, (ended.errors, ended.logged)
    return ended


@pytest.fixture
def synced(followed: Followed) -> Followed:
    """Three tables with rows, synced once."""
    fill(followed.database)
    followed.publish(*TABLES)
    ending_well(followed.sync(*TABLES))
    return followed


def shared(state: list[Json]) -> Json:
    """What all streams share."""
    blob: Json = state[-1]["global"]["shared_state"]
    return blob


def confirmed(followed: Followed) -> Lsn:
    """What the server has been told that it may forget."""
    query = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s"
    return Lsn.parse(followed.database.value(query, [followed.slot]))


def test_a_new_stream_is_read_before_its_changes(synced: Followed) -> None:
    database = synced.database
    ending_well(synced.sync("metrics"))
    database.execute("UPDATE parts SET note = 'changed' WHERE id < 10")
    database.execute("DELETE FROM parts WHERE id > 290")
    database.execute("UPDATE metrics SET note = 'changed' WHERE device = 1")
    synced.destinations.pop("parts")

    ended = ending_well(synced.sync("metrics", "parts"))

    assert len(ended.rows("parts")) == 290
    assert {row["note"] for row in ended.rows("metrics")} == {"changed"}
    synced.mirrors("metrics", "parts")
    assert ending_well(synced.sync("metrics", "parts")).records == {}


def test_a_stream_that_is_not_configured_any_more_is_dropped_from_the_state(synced: Followed) -> None:
    ended = ending_well(synced.sync("metrics"))

    names = [one["stream_descriptor"]["name"] for one in ended.state()[0]["global"]["stream_states"]]
    assert names == ["metrics"]
    assert any("public.parts is dropped" in line for line in ended.logged)


@pytest.mark.parametrize("how", ["left out", "null", "empty"])
def test_a_refreshed_stream_starts_again_and_the_others_go_on(synced: Followed, how: str) -> None:
    synced.database.execute("DELETE FROM parts WHERE id > 100")
    entries = synced.state[0]["global"]["stream_states"]
    (parts,) = [entry for entry in entries if entry["stream_descriptor"]["name"] == "parts"]
    if how == "left out":
        entries.remove(parts)
    else:
        parts["stream_state"] = None if how == "null" else {}
    synced.destinations.pop("parts")

    ended = ending_well(synced.sync(*TABLES))

    assert set(ended.records) == {("public", "parts")}
    assert len(ended.rows("parts")) == 100
    synced.mirrors("parts")


def test_an_idle_stream_in_a_busy_database_ends_at_once_and_lets_the_log_go(synced: Followed) -> None:
    database = synced.database
    database.execute("CREATE TABLE noise (n int, filler text)")
    flushed, positions = [confirmed(synced)], [Lsn.parse(shared(synced.state)["lsn"])]
    for _ in range(3):
        database.execute("INSERT INTO noise SELECT i, repeat('x', 200) FROM generate_series(1, 5000) i")

        ended = ending_well(synced.sync(*TABLES))

        assert ended.records == {}
        flushed.append(confirmed(synced))
        positions.append(Lsn.parse(shared(synced.state)["lsn"]))
    assert positions == sorted(set(positions))
    assert flushed[1:] == positions[:-1], (
        "each sync confirms what the one before had told, no more and no less"
    )


def test_nothing_is_confirmed_that_no_state_has_told(synced: Followed) -> None:
    kept = [orjson.loads(orjson.dumps(state)) for state in synced.state]
    before = Lsn.parse(shared(kept)["lsn"])
    for number in range(3):
        synced.database.execute("INSERT INTO parts VALUES (%s, 'again')", [2000 + number])
        synced.state = kept

        rows = ending_well(synced.sync(*TABLES)).rows("parts")

        assert [row["id"] for row in rows] == [2000 + past for past in range(number + 1)]
        assert confirmed(synced) == before


def test_states_of_single_streams_do_the_same_where_they_are_wanted(followed: Followed) -> None:
    fill(followed.database)
    followed.settings["state_mode"] = "stream"
    followed.publish(*TABLES)

    first = ending_well(followed.sync(*TABLES))
    followed.database.execute("UPDATE parts SET note = 'changed' WHERE id < 10")
    followed.database.execute("DELETE FROM metrics WHERE device = 1")
    followed.database.execute("INSERT INTO events VALUES ('2024-01-01', 'new')")
    second = ending_well(followed.sync(*TABLES))

    assert {state.message["type"] for state in first.states} == {"STREAM"}
    assert len(second.rows("parts")) == 9
    assert len(second.rows("events")) == 1
    followed.mirrors(*TABLES)
    assert ending_well(followed.sync(*TABLES)).records == {}


def test_of_states_of_single_streams_that_differ_the_lowest_position_counts(followed: Followed) -> None:
    fill(followed.database)
    followed.settings["state_mode"] = "stream"
    followed.publish("metrics", "parts")
    ending_well(followed.sync("metrics", "parts"))
    (old,) = [state for state in followed.state if state["stream"]["stream_descriptor"]["name"] == "parts"]
    followed.database.execute("UPDATE parts SET note = 'lost' WHERE id = 1")
    followed.database.execute("UPDATE metrics SET note = 'seen' WHERE device = 1")
    ending_well(followed.sync("metrics", "parts"))
    followed.destinations["parts"].newest.pop(("1",))
    followed.state = [old, *(state for state in followed.state if "metrics" in str(state["stream"]))]

    ending_well(followed.sync("metrics", "parts"))

    followed.mirrors("metrics", "parts")


@pytest.mark.parametrize("message", [("STATE", 1), ("RECORD", 1), ("RECORD", 299), ("RECORD", 550)])
def test_a_stopped_sync_says_so_and_the_next_one_goes_on(
    followed: Followed, monkeypatch: pytest.MonkeyPatch, message: tuple[str, int]
) -> None:
    monkeypatch.setattr("source_timescaledb.airbyte.following.ROUND_SECONDS", 0.05)
    database = followed.database
    fill(database)
    followed.publish("metrics", "parts")
    stops: list[Callable[[], None]] = []
    opened = Following.__init__

    def listening(self: Following, session: object, *others: object) -> None:
        stops.append(session.stop.set)  # type: ignore[attr-defined]
        opened(self, session, *others)  # type: ignore[arg-type]

    def stop() -> None:
        stops[-1]()

    monkeypatch.setattr(Following, "__init__", listening)

    stopped = followed.sync("metrics", "parts", acts={message: stop})

    ends = {status for _, _, status in stopped.statuses if status in ("COMPLETE", "INCOMPLETE")}
    assert ends == {"INCOMPLETE"}
    assert stopped.states
    database.execute("UPDATE metrics SET note = 'changed' WHERE device = 1")
    database.execute("DELETE FROM parts WHERE id % 3 = 0")
    database.execute("DELETE FROM metrics WHERE device = 2")
    ending_well(followed.sync("metrics", "parts"))
    followed.mirrors("metrics", "parts")


def with_shared(**changes: object) -> Callable[[Json], None]:
    def change(state: Json) -> None:
        state["global"]["shared_state"].update(changes)

    return change


def with_entries(entries: object) -> Callable[[Json], None]:
    def change(state: Json) -> None:
        state["global"]["stream_states"] = entries

    return change


def without_shared(state: Json) -> None:
    del state["global"]["shared_state"]


def of_another_database(state: Json) -> None:
    state["global"]["shared_state"]["database"]["oid"] += 1


BAD = {
    "another database": (of_another_database, "another database"),
    "unknown version": (with_shared(version=2), "version 2"),
    "no version": (with_shared(version=None), "version None"),
    "garbage": (with_shared(lsn="hello"), "damaged at: lsn"),
    "empty": (with_shared(lsn=""), "damaged at: lsn"),
    "negative": (with_shared(lsn="-1/0"), "damaged at: lsn"),
    "too long": (with_shared(lsn="FFFFFFFFF/0"), "damaged at: lsn"),
    "beyond the server": (with_shared(lsn="FFFFFFF/0"), "set back"),
    "before the slot": (with_shared(lsn="0/1"), "begins at"),
    "negative clock": (with_shared(clock=-1), "damaged at: clock"),
    "enormous clock": (with_shared(clock=2**63), "damaged at: clock"),
    "no clock": (with_shared(clock=None), "damaged at: clock"),
    "another timeline": (with_shared(timeline=99), "timeline"),
    "something unknown": (with_shared(more=1), "damaged at: more"),
    "no position": (without_shared, "missing"),
    "entries that are none": (with_entries(["x"]), "damaged"),
    "entries that are no list": (with_entries("x"), "damaged"),
    "an entry without a name": (with_entries([{"stream_state": {"version": 1}}]), "does not name"),
    "an entry with a broken name": (with_entries([{"stream_descriptor": {"name": 7}}]), "does not name"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_state_is_a_configuration_error_and_nothing_is_read(synced: Followed, bad: str) -> None:
    change, sentence = BAD[bad]
    change(synced.state[0])

    ended = synced.sync(*TABLES)

    assert ended.failure is not None
    assert ended.records == {}
    said = [
        (ended.failure.failure_type.value, str(ended.failure.message)),
        *((error["failure_type"], error["message"]) for error in ended.errors),
    ]
    assert [kind for kind, message in said if sentence in message] == ["config_error"], said


def test_a_global_state_is_refused_where_no_changes_are_followed(synced: Followed) -> None:
    synced.method["method"] = "Standard"
    source = synced.source()
    source.config["replication_method"] = {"method": "Standard"}

    ended = source.read(source.catalog("incremental", ["parts"]), synced.state)

    assert ended.failure is not None
    assert "GLOBAL" in str(ended.failure.message)
    assert ended.records == {}


def test_a_state_of_single_streams_is_refused_where_no_changes_are_followed(followed: Followed) -> None:
    fill(followed.database)
    followed.settings["state_mode"] = "stream"
    followed.publish("parts")
    ending_well(followed.sync("parts"))
    source = followed.source()
    source.config["replication_method"] = {"method": "Standard"}

    ended = source.read(source.catalog("incremental", ["parts"]), followed.state)

    assert ended.failure is not None
    assert ended.records == {}
    assert {error["failure_type"] for error in ended.errors} == {"config_error"}


def test_the_counts_of_states_are_those_of_the_records(synced: Followed) -> None:
    database = synced.database
    database.execute("UPDATE parts SET note = 'x'")
    database.execute("UPDATE parts SET id = id + 10000 WHERE id <= 50")

    ended = ending_well(synced.sync(*TABLES))

    assert sum(state.message["sourceStats"]["recordCount"] for state in ended.states) == 300 + 100


def test_a_stream_that_cannot_be_told_any_more_holds_up_the_position_that_all_share(
    followed: Followed,
) -> None:
    fill(followed.database)
    followed.publish("metrics", "parts")
    followed.sync("metrics", "parts")
    catalog = followed.source().catalog("incremental", ["metrics", "parts"])
    followed.database.execute("ALTER TABLE parts DROP COLUMN note")
    followed.database.execute("DELETE FROM parts WHERE id < 10")
    followed.database.execute("DELETE FROM metrics WHERE device = 1")

    held_up = followed.source().read(catalog, followed.state)

    assert held_up.failure is not None
    assert (held_up.records, held_up.states) == ({}, [])
    assert any("wait until those of public.parts" in line for line in held_up.logged)
    assert len(followed.sync("metrics", "parts").rows("parts")) == 9
    followed.mirrors("metrics")
