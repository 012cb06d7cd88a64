from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import orjson
import pytest

from demo.errors import DemoError
from demo.sync import BLOCK_BYTES, Connector, Pump, cut_half_a_line, kept_of, records, write_json


def record(stream: str, **data: Any) -> dict[str, Any]:
    body = {"stream": stream, "namespace": "public", "emitted_at": 1, "data": data}
    return {"type": "RECORD", "record": body}


def state(stream: str, position: int) -> dict[str, Any]:
    descriptor = {"name": stream, "namespace": "public"}
    body = {"stream_descriptor": descriptor, "stream_state": {"position": position}}
    return {"type": "STATE", "state": {"type": "STREAM", "stream": body}}


def written(path: Path, *messages: dict[str, Any]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(message) + b"\n" for message in messages))
    return path


def test_a_platform_keeps_what_came_before_the_last_state_of_each_stream(tmp_path: Path) -> None:
    run = written(
        tmp_path / "run.jsonl",
        record("a", id=1),
        state("a", 1),
        record("b", id=1),
        state("b", 1),
        record("b", id=2),
        state("b", 2),
        record("b", id=3),
        record("c", id=1),
    )

    kept = kept_of(run)

    assert [body["stream"]["stream_state"]["position"] for body in kept.states] == [1, 2]
    assert kept.records == {"a": 1, "b": 2}
    assert kept.dropped == 2
    assert list(records(run, kept.records)) == [("a", {"id": 1}), ("b", {"id": 1}), ("b", {"id": 2})]


def test_a_run_that_ended_is_kept_whole(tmp_path: Path) -> None:
    run = written(tmp_path / "run.jsonl", record("a", id=1), state("a", 1), record("a", id=2))

    assert [data["id"] for _, data in records(run)] == [1, 2]


def test_records_are_counted_across_the_ends_of_blocks() -> None:
    line = orjson.dumps(record("a", text='"type":"RECORD"')) + b"\n"
    source, target = io.BytesIO(line * 10_000), io.BytesIO()
    pump = Pump(source, target)

    while pump.step():
        pass

    assert len(source.getvalue()) > 10 * BLOCK_BYTES
    assert pump.records == 10_000
    assert target.getvalue() == source.getvalue()


def test_half_a_line_is_cut_off() -> None:
    file = io.BytesIO(b'{"a":1}\n{"b":2}\n{"c":')

    cut_half_a_line(file)

    assert file.getvalue() == b'{"a":1}\n{"b":2}\n'


def test_a_configuration_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("an older one, readable by all")

    write_json(path, {"password": "secret"}, private=True)

    assert path.stat().st_mode & 0o777 == 0o600
    assert orjson.loads(path.read_bytes()) == {"password": "secret"}


def program(path: Path, script: str) -> Path:
    """A program that stands in for a connector, whatever its arguments."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_reading_is_killed_when_enough_records_were_seen(tmp_path: Path) -> None:
    line = orjson.dumps(record("a", id=1)).decode()
    endless = program(tmp_path / "endless", f"while :; do echo '{line}'; done")

    reading = Connector(tmp_path, endless).read("run.jsonl", kill_after=100)

    assert reading.records >= 100
    assert next(records(reading.path)) == ("a", {"id": 1})
    assert reading.path.read_bytes().endswith(b"}\n")


def test_a_reading_that_ends_before_it_can_be_killed_is_a_failure(tmp_path: Path) -> None:
    short = program(tmp_path / "short", f"echo '{orjson.dumps(record('a', id=1)).decode()}'")

    with pytest.raises(DemoError, match="ended after 1 records: it gave no reason"):
        Connector(tmp_path, short).read("run.jsonl", kill_after=100)


@pytest.mark.parametrize("end", ["exit 1", "kill -SEGV $$"])
def test_a_reading_that_fails_is_told_with_its_own_reason(tmp_path: Path, end: str) -> None:
    error = {"message": "The server is gone.", "failure_type": "transient_error"}
    trace = {"type": "TRACE", "trace": {"type": "ERROR", "emitted_at": 1.0, "error": error}}
    failing = program(tmp_path / "failing", f"echo '{orjson.dumps(trace).decode()}'\n{end}")

    with pytest.raises(DemoError, match="ended after 0 records: The server is gone"):
        Connector(tmp_path, failing).read("run.jsonl")


def test_a_command_that_fails_is_told_with_its_own_reason(tmp_path: Path) -> None:
    failing = program(tmp_path / "failing", "exit 1")

    with pytest.raises(DemoError, match="`check` failed: it gave no reason"):
        Connector(tmp_path, failing).answer("check", "check.jsonl", config="config.json")
