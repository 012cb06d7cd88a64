"""The kit's destination commits what Airbyte's would, and says why it would not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from testkit.protocol import Output
from testkit.sockets import NotCommittedError, committed


def record(partition: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {"stream": "a", "namespace": "public", "data": {}, "emitted_at": 1}
    if partition is not None:
        body["partition_id"] = partition
    return {"type": "RECORD", "record": body}


def state(partition: str, number: int, records: float) -> dict[str, Any]:
    descriptor = {"name": "a", "namespace": "public"}
    body = {
        "type": "STREAM",
        "stream": {"stream_descriptor": descriptor, "stream_state": {"position": number}},
        "sourceStats": {"recordCount": records},
        "partition_id": partition,
        "id": number,
    }
    return {"type": "STATE", "state": body}


def positions(*messages: dict[str, Any]) -> list[int]:
    told = Output([orjson.dumps(message) + b"\n" for message in messages])
    return [kept["stream"]["stream_state"]["position"] for kept in committed(told)]


def test_states_are_committed_by_their_numbers_whatever_the_order() -> None:
    told = [state("y", 2, 1.0), record("x"), record("y"), state("x", 1, 2.0), record("x")]

    assert positions(*told) == [1, 2]


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ([record(None)], "names no partition"),
        ([record("x")], "no STATE counts"),
        ([state("x", 1, 1.0)], "0 records, 1.0 counted"),
        ([record("x"), state("x", 2, 1.0)], "do not follow each other"),
    ],
)
def test_what_a_destination_would_wait_for_is_an_error(told: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(NotCommittedError, match=why):
        positions(*told)
