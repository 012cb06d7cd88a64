"""States in every dress a platform hands them over in, and the ones that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from source_timescaledb.errors import ConfigurationError
from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.state.codec import (
    FollowedStates,
    KeptStates,
    decode,
    encode,
    encode_followed,
    followed_states,
    kept_states,
    other_states,
    same_database,
    stream_states,
    undress,
)
from source_timescaledb.state.model import (
    ChunkProgress,
    CursorPosition,
    DatabaseIdentity,
    FollowedState,
    KeyProgress,
    LogPosition,
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


@pytest.mark.parametrize("following", [False, True])
@pytest.mark.parametrize("blob", ["text", [1], [], "", 7, 0, True], ids=repr)
def test_a_stream_whose_state_is_no_object_is_refused(blob: Any, following: bool) -> None:
    with pytest.raises(ConfigurationError, match=r"The state of stream public\.metrics is .* no JSON object"):
        kept_states([message(blob)], HERE, following=following)


@pytest.mark.parametrize("following", [False, True])
@pytest.mark.parametrize("stream", [None, "text", [1], 7], ids=repr)
def test_a_state_of_a_stream_without_one_is_refused(stream: object, following: bool) -> None:
    with pytest.raises(ConfigurationError, match="of type STREAM holds no stream"):
        kept_states([{"type": "STREAM", "stream": stream}], HERE, following=following)


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


POSITION = LogPosition(database=HERE, timeline=1, slot="slot", lsn="16/B374D848", clock=7, open=False)
FOLLOWED = FollowedState(relation=16400, complete=True, progress=ChunkProgress(hypertable=3, through=9))


def followed_message(**changes: Any) -> dict[str, Any]:
    """A GLOBAL state of one stream, with changes to what all share."""
    shared, each = encode_followed(FollowedStates(POSITION, {NAME: FOLLOWED}))
    entry = {"stream_descriptor": {"name": "metrics", "namespace": "public"}, "stream_state": each[NAME]}
    return {"type": "GLOBAL", "global": {"shared_state": {**shared, **changes}, "stream_states": [entry]}}


def single_message(table: str, **changes: Any) -> dict[str, Any]:
    """The same as the state of one stream."""
    shared, each = encode_followed(FollowedStates(POSITION, {NAME: FOLLOWED}))
    blob = {**each[NAME], "shared": {**shared, **changes}}
    return {"type": "STREAM", "stream": {"stream_descriptor": {"name": table}, "stream_state": blob}}


@pytest.mark.parametrize("dress", ["global", "global_"])
def test_what_was_kept_of_followed_streams_survives_the_round_trip(dress: str) -> None:
    message = followed_message()
    message[dress] = message.pop("global")

    assert followed_states([message], HERE) == FollowedStates(POSITION, {NAME: FOLLOWED})


def test_states_of_single_streams_say_the_same() -> None:
    states = followed_states([single_message("metrics")], HERE)

    assert states == FollowedStates(POSITION, {NAME: FOLLOWED})


def test_of_positions_that_differ_the_lowest_counts_with_the_latest_clock_and_the_state_is_open() -> None:
    low, high = single_message("a", lsn="1/FF", clock=3), single_message("b", lsn="2/1", clock=9)

    states = followed_states([high, low], HERE)

    assert states is not None
    assert (states.position.lsn, states.position.clock, states.position.open) == ("1/FF", 9, True)
    assert {name.name for name in states.streams} == {"a", "b"}


@pytest.mark.parametrize("nothing", [None, {}])
def test_a_followed_stream_with_an_empty_state_has_none_and_the_position_stays(nothing: object) -> None:
    message = followed_message()
    message["global"]["stream_states"][0]["stream_state"] = nothing

    assert followed_states([message], HERE) == FollowedStates(POSITION, {})


@pytest.mark.parametrize(
    "lsn", ["", "x", "16", "-1/0", "1/-1", "0x1/0", "1_0/0", " 1/0", "1/0\n", "123456789/0", "1/123456789"]
)
def test_what_is_no_position_is_refused(lsn: str) -> None:
    with pytest.raises(ConfigurationError, match="damaged at: lsn"):
        followed_states([followed_message(lsn=lsn)], HERE)


@pytest.mark.parametrize("clock", [-1, 2**63])
def test_a_clock_that_no_log_has_is_refused(clock: int) -> None:
    with pytest.raises(ConfigurationError, match="damaged at: clock"):
        followed_states([followed_message(clock=clock)], HERE)


BROKEN_GLOBALS: tuple[dict[str, Any], ...] = (
    {"global": None},
    {"global": "x"},
    {"global": []},
    {},
    {"global": {}},
    {"global": {"shared_state": followed_message()["global"]["shared_state"]}},
    {"global": {"shared_state": None, "stream_states": None}},
)


@pytest.mark.parametrize("following", [False, True])
@pytest.mark.parametrize("body", BROKEN_GLOBALS, ids=lambda body: str(body)[:40])
def test_a_broken_global_state_is_never_taken_for_an_empty_one(body: dict[str, Any], following: bool) -> None:
    with pytest.raises(
        ConfigurationError, match=r"GLOBAL (holds no JSON object|state are damaged or missing)"
    ):
        kept_states([{"type": "GLOBAL", **body}], HERE, following=following)


NOTHING_OF_METRICS = {"stream_descriptor": {"name": "metrics", "namespace": "public"}, "stream_state": None}


@pytest.mark.parametrize("following", [False, True])
@pytest.mark.parametrize("shared", [{"shared_state": None}, {}], ids=["null", "left out"])
@pytest.mark.parametrize("entries", [[], [NOTHING_OF_METRICS]], ids=["no streams", "no state of a stream"])
def test_a_global_state_that_says_nothing_is_no_state(
    shared: dict[str, Any], entries: list[Any], following: bool
) -> None:
    emptied = {"type": "GLOBAL", "global": {**shared, "stream_states": entries}}

    assert kept_states([emptied], HERE, following=following) == KeptStates(None, {})


def test_followed_streams_without_the_position_that_they_share_are_refused() -> None:
    emptied = followed_message()
    emptied["global"]["shared_state"] = None

    with pytest.raises(ConfigurationError, match="shared state is missing"):
        followed_states([emptied], HERE)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (None, "are damaged"),
        ("x", "are damaged"),
        ({}, "are damaged"),
        ([7], "are damaged"),
        ([{}], "does not name"),
        ([{"stream_descriptor": 7}], "does not name"),
        ([{"stream_descriptor": {"name": ""}}], "does not name"),
        ([{"stream_descriptor": {"name": "a", "namespace": 7}}], "does not name"),
        ([{"stream_descriptor": {"name": "a"}, "stream_state": 7}], "no JSON object"),
        (
            [{"stream_descriptor": {"name": "a"}, "stream_state": {"version": 2, "state_type": "cdc"}}],
            "version 2",
        ),
    ],
    ids=str,
)
def test_damaged_entries_are_refused(entries: object, sentence: str) -> None:
    message = followed_message()
    message["global"]["stream_states"] = entries

    with pytest.raises(ConfigurationError, match=sentence):
        kept_states([message], HERE, following=True)


def test_a_position_in_another_database_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="another database"):
        followed_states([followed_message(database={"system": "7711", "oid": 6, "name": "shop"})], HERE)


def test_states_of_other_streams_are_told_apart() -> None:
    plain = message(encode(STATE))

    assert other_states([followed_message(), single_message("a"), plain]) == [plain]
    assert followed_states([plain], HERE) is None


PARTS = QualifiedName("public", "parts")


def with_parts(told: dict[str, Any], blob: dict[str, Any]) -> dict[str, Any]:
    """A GLOBAL state, with the state of one more stream."""
    told["global"]["stream_states"].append({"stream_descriptor": {"name": "parts"}, "stream_state": blob})
    return told


@pytest.mark.parametrize("kind", ["full_refresh", "cursor_based", "chunk_events"])
def test_a_global_state_holds_those_of_streams_that_are_not_followed_too(kind: str) -> None:
    blob = {"version": 1, "state_type": kind}

    kept = kept_states([with_parts(followed_message(), blob)], HERE, following=True)

    assert kept == KeptStates(FollowedStates(POSITION, {NAME: FOLLOWED}), {PARTS: blob})


def test_a_global_state_of_streams_of_which_none_is_followed_needs_no_position() -> None:
    alone = with_parts({"type": "GLOBAL", "global": {"stream_states": []}}, encode(STATE))

    assert kept_states([alone], HERE, following=True) == KeptStates(None, {PARTS: encode(STATE)})


@pytest.mark.parametrize("kind", [None, "ctid", ["cdc"], 7], ids=repr)
def test_a_state_of_no_kind_of_ours_in_a_global_one_is_refused_as_its_streams(kind: object) -> None:
    foreign = with_parts(followed_message(), {"version": 1, "state_type": kind})

    kept = kept_states([foreign], HERE, following=True)

    assert kept.streams == {NAME: FOLLOWED}
    with pytest.raises(ConfigurationError, match=r"public\.parts is damaged at"):
        decode(PARTS, kept.plain[PARTS], HERE)


def test_of_a_stream_in_a_global_state_and_beside_it_the_one_in_it_counts() -> None:
    old, new = message({**encode(STATE), "relation": 1}), encode(STATE)
    entry = {"stream_descriptor": {"name": "metrics", "namespace": "public"}, "stream_state": new}
    told = {"type": "GLOBAL", "global": {"stream_states": [entry]}}

    assert kept_states([told, old], HERE, following=True).plain == {NAME: new}
