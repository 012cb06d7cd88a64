"""The command line, from its first word on: what is no command is told, and what the environment says wrong as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from source_timescaledb.command import COMMANDS, execute
from testkit.connector import Connector

VARIABLE = "SOURCE_TIMESCALEDB_RETRY_SECONDS"
NOWHERE = {"host": "127.0.0.1", "port": 1, "database": "d", "username": "u"}
CATALOG = {
    "streams": [
        {
            "stream": {"name": "s", "json_schema": {}, "supported_sync_modes": ["full_refresh"]},
            "sync_mode": "full_refresh",
            "destination_sync_mode": "append",
        }
    ]
}


def test_without_a_word_the_usage_is_printed_for_people_and_nothing_on_stdout(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert execute([]) == 2

    printed = capfd.readouterr()
    assert printed.out == ""
    assert all(f"\n    {name} " in printed.err for name in COMMANDS)


def test_help_lists_the_doctor_beside_the_commands_of_airbyte(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        execute(["--help"])

    assert ended.value.code == 0
    assert list(COMMANDS) == ["spec", "check", "discover", "read", "doctor"]
    assert "\n    doctor " in capfd.readouterr().out


def test_a_word_that_is_no_command_is_told_with_those_that_are(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        execute(["docter"])

    assert ended.value.code == 2
    assert "'docter'" in (said := capfd.readouterr().err)
    assert "'doctor'" in said


@pytest.mark.parametrize("said", ["abc", "-1", "nan", "inf"])
def test_a_variable_that_says_no_seconds_is_one_error_of_every_command_that_needs_it(
    said: str, tmp_path: Path
) -> None:
    connector = Connector(NOWHERE, tmp_path, environment={VARIABLE: said})

    checked, discovered, read = connector.check(), connector.discover(), connector.read(CATALOG)

    assert checked.connection_status["status"] == "FAILED"
    assert VARIABLE in checked.connection_status["message"]
    for failed in (discovered, read):
        (error,) = failed.errors
        assert failed.exit_code == 1
        assert error["failure_type"] == "config_error"
        assert error["message"] == (
            f"The environment variable {VARIABLE} is no number of seconds. "
            "Set it to a number of at least 0, or remove it: then it is 120."
        )
    assert connector.spec().exit_code == 0
    assert not any(one.stderr for one in (checked, discovered, read))


def test_a_variable_that_is_empty_is_one_that_is_not_set(tmp_path: Path) -> None:
    environment = {VARIABLE: "", "DATA_CHANNEL_MEDIUM": " ", "SOURCE_TIMESCALEDB_PROMETHEUS_FILE": ""}
    spec = Connector(NOWHERE, tmp_path, environment=environment).spec()

    assert spec.exit_code == 0
    assert [message["type"] for message in spec.messages if message["type"] != "LOG"] == ["SPEC"]
