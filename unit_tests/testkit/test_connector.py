"""The harness drives a small program that speaks the protocol: what it sees, when it acts, how a run ends."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from testkit.connector import Connector
from testkit.errors import KitError
from testkit.protocol import NotProtocolError
from testkit.run import At, Run, paused, signalled
from unit_tests.testkit import talker

Program = Callable[..., Connector]


@pytest.fixture(params=["forked", "started"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Program:
    """The program with a configuration."""

    def described(**config: float | str) -> Connector:
        command = [sys.executable, talker.__file__] if request.param == "started" else None
        return Connector(config, tmp_path / "work", entry=talker.talk, command=command)

    return described


def test_a_run_gives_its_records_its_exit_code_and_its_standard_error(program: Program) -> None:
    result = program(records=3, exit_code=7).read({})

    assert result.rows("a") == [{"value": 0}, {"value": 1}, {"value": 2}]
    assert (result.exit_code, result.stderr) == (7, "the end\n")


@pytest.mark.parametrize("last", ["hello\n", '{"type": "RECORD"}\n', "\n", '{"type":'])
def test_anything_else_on_standard_output_fails_the_run(program: Program, last: str) -> None:
    with pytest.raises(NotProtocolError):
        program(records=1, last=last).read({})


def test_a_run_to_a_file_is_judged_when_it_is_read(program: Program) -> None:
    result = program(records=1000, last="hello\n").read({}, to_file=True)

    assert sum(1 for _ in result.lines()) == 1001
    with pytest.raises(NotProtocolError):
        _ = result.messages


def test_a_run_is_killed_at_the_record_that_was_named(program: Program) -> None:
    kill = At("RECORD", 5, signalled(signal.SIGKILL))

    result = program(records=1000, pause=0.02).read({}, at=[kill])

    assert result.exit_code == -signal.SIGKILL
    assert 5 <= len(result.rows("a")) <= 7


def test_a_paused_run_goes_on(program: Program) -> None:
    started = time.monotonic()

    result = program(records=3).read({}, at=[At("RECORD", 1, paused(0.3))])

    assert (result.exit_code, len(result.rows("a"))) == (0, 3)
    assert time.monotonic() - started >= 0.3


def test_an_act_can_be_anything(program: Program) -> None:
    seen: list[int] = []

    program(records=3).read({}, at=[At("RECORD", 2, lambda run: seen.append(run.seen("RECORD")))])

    assert seen == [2]


def test_a_run_whose_reader_goes_away_fails_to_write(program: Program) -> None:
    result = program(records=100000).read({}, at=[At("RECORD", 10, Run.close_stdout)])

    assert result.exit_code != 0
    assert "BrokenPipeError" in result.stderr


def test_a_slow_reader_slows_the_run_down(program: Program) -> None:
    started = time.monotonic()

    result = program(records=100).read({}, bytes_per_second=25_000, pipe_bytes=4096)

    printed = sum(len(line) + 1 for line in result.lines())
    assert time.monotonic() - started >= printed / 25_000 * 0.8


def test_a_run_that_does_not_end_is_killed_and_says_so(program: Program) -> None:
    with pytest.raises(KitError, match=r"did not end in 0\.3 s"):
        program(records=1, pause=60).read({}, timeout=0.3)


def test_memory_is_sampled(program: Program) -> None:
    result = program(records=2, pause=0.15, ballast=64 << 20).read({})

    assert result.peak_rss > 64 << 20


def test_nobody_else_can_read_the_configuration(program: Program) -> None:
    connector = program(password="canary")

    (config,) = connector.workdir.glob("*config.json")
    assert config.stat().st_mode & 0o077 == 0


def test_a_run_has_the_environment_and_the_folder_that_it_was_given(tmp_path: Path) -> None:
    connector = Connector({}, tmp_path, entry=talker.tell_surroundings, environment={"CANARY": "yellow"})

    (said,) = connector.spec().logs

    assert said == f"yellow {tmp_path}"
