"""States in every dress a platform hands them over in, and the ones that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from source_timescaledb.errors import ConfigurationError
from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.state.codec import decode, encode, same_database, stream_states, undress
from source_timescaledb.state.model import (
    ChunkProgress,
    CursorPosition,
    DatabaseIdentity,
    KeyProgress,
    StreamState,
)

HERE = DatabaseIdentity(system="7711", oid=5, name="shop")
NAME = QualifiedName("public", "metrics")
STATE = StreamState(
    state_type="cursor_based",
    database=HERE,
    relation=16400,
    progress=ChunkProgress(hypertable=3, through=9, after=(100, 4), open={6: ((0, 5), (7, 9))}),
    cursor=CursorPosition(field="time", value="2024-01-01", count=2, upper="2024-02-01"),
)


def message(blob: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "type": "STREAM",
        "stream": {"stream_descriptor": {"name": "metrics", "namespace": "public"}, "stream_state": blob},
    }


@pytest.mark.parametrize("nothing", [None, [], {}])
def test_no_state_is_no_state(nothing: object) -> None:
    assert undress(nothing) == []


@pytest.mark.parametrize(
    "dress",
    [
        [message(encode(STATE))],
        message(encode(STATE)),
        {"type": "STATE", "state": message(encode(STATE))},
        [{"type": "STATE", "state": message(encode(STATE))}],
        [{**message(encode(STATE)), "global_": None, "data": None, "destinationStats": None}],
    ],
    ids=["list", "bare", "message", "list of messages", "PyAirbyte"],
)
def test_every_dress_holds_the_same_state(dress: object) -> None:
    states = stream_states(undress(dress))

    assert decode(NAME, states[NAME], HERE) == STATE


def test_a_state_of_keys_survives_the_round_trip() -> None:
    progress = KeyProgress(key=("a", "b"), through=("1", "x'y"), open=((("2", ""), None),))
    state = STATE.model_copy(update={"progress": progress, "state_type": "full_refresh", "cursor": None})

    assert decode(NAME, encode(state), HERE) == state


@pytest.mark.parametrize("blob", [None, {}])
def test_a_stream_with_an_empty_state_has_none(blob: dict[str, Any] | None) -> None:
    assert stream_states([message(blob)]) == {}


@pytest.mark.parametrize("garbage", ["text", [1], [None], 7])
def test_what_is_no_state_message_is_refused(garbage: object) -> None:
    with pytest.raises(ConfigurationError, match="not a state message"):
        undress(garbage)


def test_a_global_state_is_refused_by_its_type() -> None:
    with pytest.raises(ConfigurationError, match="GLOBAL"):
        stream_states([{"type": "GLOBAL", "global": {"shared_state": {}, "stream_states": []}}])


def test_a_legacy_state_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="LEGACY"):
        stream_states([{"type": "LEGACY", "data": {"cursor": 5}}])


@pytest.mark.parametrize("version", [None, 0, 2, "1", 3])
def test_another_version_is_refused_with_both_numbers(version: object) -> None:
    with pytest.raises(ConfigurationError, match="reads version 1"):
        decode(NAME, {**encode(STATE), "version": version}, HERE)


def test_a_damaged_state_names_the_place_and_not_the_value() -> None:
    blob = encode(STATE)
    blob["progress"]["after"] = "canary"

    with pytest.raises(ConfigurationError) as caught:
        decode(NAME, blob, HERE)

    assert "progress" in caught.value.sentence
    assert "after" in caught.value.sentence
    assert "canary" not in caught.value.sentence


@pytest.mark.parametrize(
    "elsewhere",
    [
        DatabaseIdentity(system="7712", oid=5, name="shop"),
        DatabaseIdentity(system="7711", oid=6, name="shop"),
        DatabaseIdentity(system="7711", oid=5, name="till"),
    ],
    ids=["another cluster", "recreated", "another name"],
)
def test_a_state_of_another_database_is_refused(elsewhere: DatabaseIdentity) -> None:
    with pytest.raises(ConfigurationError, match="another database"):
        decode(NAME, encode(STATE), elsewhere)


def test_a_role_that_may_not_see_the_clusters_identity_still_knows_its_database() -> None:
    unseen = DatabaseIdentity(system="", oid=5, name="shop")

    assert same_database(unseen, HERE)
    assert not same_database(unseen, DatabaseIdentity(system="7711", oid=6, name="shop"))
