"""The harness drives a small program that speaks the protocol: what it sees, when it acts, how a run ends."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from testkit.connector import Connector
from testkit.errors import KitError
from testkit.protocol import NotProtocolError
from testkit.run import At, Run, paused, signalled

PROGRAM = """
import json, sys, time
arguments = dict(zip(sys.argv[2::2], sys.argv[3::2]))
config = json.load(open(arguments["--config"]))

def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()

def record(value):
    return json.dumps({"type": "RECORD", "record": {
        "stream": "a", "namespace": "public", "data": {"value": value}, "emitted_at": 1}}) + "\\n"

ballast = bytearray(config.get("ballast", 0))
for value in range(config.get("records", 0)):
    say(record(value))
    time.sleep(config.get("pause", 0))
say(config.get("last", ""))
sys.stderr.write("the end\\n")
sys.exit(config.get("exit_code", 0))
"""


def program(tmp_path: Path, **config: float | str) -> Connector:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return Connector(config, tmp_path / "work", command=[sys.executable, str(path)])


def test_a_run_gives_its_records_its_exit_code_and_its_standard_error(tmp_path: Path) -> None:
    result = program(tmp_path, records=3, exit_code=7).read({})

    assert result.rows("a") == [{"value": 0}, {"value": 1}, {"value": 2}]
    assert (result.exit_code, result.stderr) == (7, "the end\n")


@pytest.mark.parametrize("last", ["hello\n", '{"type": "RECORD"}\n', "\n", '{"type":'])
def test_anything_else_on_standard_output_fails_the_run(tmp_path: Path, last: str) -> None:
    with pytest.raises(NotProtocolError):
        program(tmp_path, records=1, last=last).read({})


def test_a_run_to_a_file_is_judged_when_it_is_read(tmp_path: Path) -> None:
    result = program(tmp_path, records=1000, last="hello\n").read({}, to_file=True)

    assert sum(1 for _ in result.lines()) == 1001
    with pytest.raises(NotProtocolError):
        _ = result.messages


def test_a_run_is_killed_at_the_record_that_was_named(tmp_path: Path) -> None:
    kill = At("RECORD", 5, signalled(signal.SIGKILL))

    result = program(tmp_path, records=1000, pause=0.02).read({}, at=[kill])

    assert result.exit_code == -signal.SIGKILL
    assert 5 <= len(result.rows("a")) <= 7


def test_a_paused_run_goes_on(tmp_path: Path) -> None:
    started = time.monotonic()

    result = program(tmp_path, records=3).read({}, at=[At("RECORD", 1, paused(0.3))])

    assert (result.exit_code, len(result.rows("a"))) == (0, 3)
    assert time.monotonic() - started >= 0.3


def test_an_act_can_be_anything(tmp_path: Path) -> None:
    seen: list[int] = []

    program(tmp_path, records=3).read({}, at=[At("RECORD", 2, lambda run: seen.append(run.seen("RECORD")))])

    assert seen == [2]


def test_a_run_whose_reader_goes_away_fails_to_write(tmp_path: Path) -> None:
    result = program(tmp_path, records=100000).read({}, at=[At("RECORD", 10, Run.close_stdout)])

    assert result.exit_code != 0
    assert "BrokenPipeError" in result.stderr


def test_a_slow_reader_slows_the_run_down(tmp_path: Path) -> None:
    started = time.monotonic()

    result = program(tmp_path, records=100).read({}, bytes_per_second=25_000, pipe_bytes=4096)

    printed = sum(len(line) + 1 for line in result.lines())
    assert time.monotonic() - started >= printed / 25_000 * 0.8


def test_a_run_that_does_not_end_is_killed_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"did not end in 0\.3 s"):
        program(tmp_path, records=1, pause=60).read({}, timeout=0.3)


def test_memory_is_sampled(tmp_path: Path) -> None:
    result = program(tmp_path, records=2, pause=0.15, ballast=64 << 20).read({})

    assert result.peak_rss > 64 << 20


def test_nobody_else_can_read_the_configuration(tmp_path: Path) -> None:
    connector = program(tmp_path, password="canary")

    (config,) = connector.workdir.glob("*config.json")
    assert config.stat().st_mode & 0o077 == 0
