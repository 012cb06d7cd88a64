"""Lines are judged strictly, and what a run printed is found again."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from testkit.errors import KitError
from testkit.protocol import NotProtocolError, Output, configured_catalog, parse


def record(stream: str, value: int) -> dict[str, Any]:
    data = {"stream": stream, "namespace": "public", "data": {"value": value}, "emitted_at": 1}
    return {"type": "RECORD", "record": data}


def state(stream: str, position: int) -> dict[str, Any]:
    descriptor = {"name": stream, "namespace": "public"}
    body = {"stream_descriptor": descriptor, "stream_state": {"position": position}}
    return {"type": "STATE", "state": {"type": "STREAM", "stream": body}}


def global_state(position: int) -> dict[str, Any]:
    body = {"shared_state": {"position": position}, "stream_states": []}
    return {"type": "STATE", "state": {"type": "GLOBAL", "global": body}}


def output(*messages: dict[str, Any]) -> Output:
    return Output([orjson.dumps(message) for message in messages])


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"[]",
        b"{}",
        b'{"type": "NEWS", "news": {}}',
        b'{"type": "RECORD"}',
        b'{"type": "RECORD", "record": {"stream": "a"}}',
        b'{"type": "RECORD", "record": null}',
        b'{"type": "LOG", "log": {"level": "INFO", "message": NaN}}',
    ],
)
def test_a_line_that_is_no_message_fails(line: bytes) -> None:
    with pytest.raises(NotProtocolError):
        parse(line)


def test_records_are_found_by_namespace_and_stream() -> None:
    ran = output(record("a", 1), record("b", 2), record("a", 3))

    assert ran.records == {("public", "a"): [{"value": 1}, {"value": 3}], ("public", "b"): [{"value": 2}]}
    assert ran.rows("a") == [{"value": 1}, {"value": 3}]
    assert ran.rows("c") == []


def test_a_state_knows_how_many_records_came_before_it() -> None:
    ran = output(state("a", 0), record("a", 1), record("a", 2), state("a", 2))

    assert [seen.records_before for seen in ran.states] == [0, 2]


def test_the_next_run_gets_the_last_state_of_each_stream() -> None:
    ran = output(state("a", 1), state("b", 1), state("a", 2))

    assert ran.state() == [state("a", 2)["state"], state("b", 1)["state"]]


def test_the_next_run_gets_only_what_was_kept() -> None:
    ran = output(state("a", 1), state("b", 1), state("a", 2))

    assert ran.state(1) == [state("a", 1)["state"]]
    assert ran.state(0) == []


def test_states_of_several_types_are_refused_as_airbyte_refuses_them() -> None:
    with pytest.raises(NotProtocolError, match="GLOBAL, STREAM"):
        output(global_state(1), state("a", 1)).state()


def test_a_global_state_replaces_the_one_before() -> None:
    ran = output(global_state(1), global_state(2))

    assert ran.state() == [global_state(2)["state"]]


def test_the_one_message_of_a_kind_must_be_the_only_one() -> None:
    with pytest.raises(NotProtocolError, match="2 messages of type STATE"):
        output(state("a", 1), state("a", 2)).only("STATE")


CATALOG: dict[str, Any] = {
    "streams": [
        {"name": "a", "source_defined_primary_key": [["id"]], "default_cursor_field": ["time"]},
        {"name": "b"},
    ]
}


def test_a_configured_catalog_keeps_primary_key_and_default_cursor() -> None:
    (stream,) = configured_catalog(CATALOG, "incremental", ["a"])["streams"]

    assert (stream["primary_key"], stream["cursor_field"]) == ([["id"]], ["time"])
    assert stream["destination_sync_mode"] == "append_dedup"


def test_a_cursor_field_can_be_chosen() -> None:
    streams = configured_catalog(CATALOG, "incremental", b="value")["streams"]

    assert [stream["cursor_field"] for stream in streams] == [["time"], ["value"]]


def test_a_stream_that_is_not_in_the_catalog_is_named() -> None:
    with pytest.raises(KitError, match="not in the catalog: c"):
        configured_catalog(CATALOG, streams=["a", "c"])
