"""Every record says which STATE counts it, and every STATE which records it counts."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from source_timescaledb.airbyte.partitions import Partitions
from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.snapshot.held import RECORD_END, LineFormat

METRICS = QualifiedName("public", "metrics")
PARTS = QualifiedName("public", "parts")
PARTS_ELSEWHERE = QualifiedName('my "own"', "parts")


@pytest.fixture
def partitions() -> Partitions:
    return Partitions("r")


def lines(stream: QualifiedName, *values: str) -> bytes:
    return LineFormat(stream, 1).lines([orjson.dumps({"v": value}) for value in values])


def partitions_of(labelled: bytes) -> list[str]:
    return [orjson.loads(line)["record"]["partition_id"] for line in labelled.splitlines()]


def global_state() -> dict[str, Any]:
    return {"type": "GLOBAL", "global": {"stream_states": []}}


def state_of(stream: QualifiedName) -> dict[str, Any]:
    return {
        "type": "STREAM",
        "stream": {"stream_descriptor": {"name": stream.name, "namespace": stream.schema}},
    }


def test_a_line_says_the_same_as_before_and_its_partition(partitions: Partitions) -> None:
    before = lines(METRICS, "a", "b")

    labelled = partitions.label(before, [METRICS]).splitlines()

    for old, new in zip(before.splitlines(), labelled, strict=True):
        record = orjson.loads(new)["record"]
        assert record.pop("partition_id")
        assert record == orjson.loads(old)["record"]


def test_lines_until_a_state_are_of_one_partition_and_those_after_it_of_another(
    partitions: Partitions,
) -> None:
    first = partitions_of(partitions.label(lines(METRICS, "a"), [METRICS]))
    second = partitions_of(partitions.label(lines(METRICS, "b", "c"), [METRICS]))
    state = state_of(METRICS)
    partitions.close(state)
    third = partitions_of(partitions.label(lines(METRICS, "d"), [METRICS]))

    assert {*first, *second} == {state["partition_id"]}
    assert {*third}.isdisjoint({*first, *second})


def test_streams_with_states_of_their_own_have_partitions_of_their_own(partitions: Partitions) -> None:
    mixed = lines(METRICS, "a") + lines(PARTS, "b") + lines(PARTS_ELSEWHERE, "c") + lines(METRICS, "d")

    found = partitions_of(partitions.label(mixed, [METRICS, PARTS, PARTS_ELSEWHERE]))

    assert found[0] == found[3]
    assert len(set(found)) == 3


def test_a_global_state_counts_the_lines_of_all_streams(partitions: Partitions) -> None:
    found = partitions_of(partitions.label(lines(METRICS, "a") + lines(PARTS, "b"), []))
    state = global_state()
    partitions.close(state)

    assert {*found} == {state["partition_id"]}


def test_states_are_numbered_from_one_in_each_series(partitions: Partitions) -> None:
    states = [state_of(METRICS), state_of(PARTS), global_state(), state_of(METRICS), global_state()]

    for state in states:
        partitions.close(state)

    assert [state["id"] for state in states] == [1, 1, 1, 2, 2]
    assert len({state["partition_id"] for state in states}) == len(states)


@pytest.mark.parametrize(
    "value", ['{"type":"RECORD","record":{"stream":"metrics","namespace":"public",', "}}\n{"]
)
def test_a_value_that_looks_like_a_line_stays_as_it_is(partitions: Partitions, value: str) -> None:
    (line,) = partitions.label(lines(METRICS, value), [METRICS]).splitlines()

    assert orjson.loads(line)["record"]["data"] == {"v": value}


def test_an_object_in_a_row_that_looks_like_a_record_stays_as_it_is(partitions: Partitions) -> None:
    row = lines(METRICS, "a").removesuffix(b"\n")
    piece = LineFormat(METRICS, 1).lines([row])

    (line,) = partitions.label(piece, [METRICS]).splitlines()

    assert line.endswith(row + RECORD_END.strip())
