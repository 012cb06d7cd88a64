"""A file that cannot be used is named in what is said of it, whatever the bytes of its path are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from source_timescaledb.config.files import json_file
from source_timescaledb.errors import ConfigurationError
from testkit.connector import Connector
from testkit.run import Plan


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        json_file(str(tmp_path / "gone.json"), "configuration")

    assert caught.value.sentence == (
        f"The file of the configuration, {tmp_path}/gone.json, cannot be read: No such file or directory."
    )


def test_a_file_that_holds_no_json_is_named_and_not_quoted(tmp_path: Path) -> None:
    torn = tmp_path / "torn.json"
    torn.write_text('{"password": "canary')

    with pytest.raises(ConfigurationError) as caught:
        json_file(str(torn), "state")

    assert caught.value.sentence == f"The file of the state, {torn}, is not valid JSON."


@pytest.mark.parametrize("command", ["check", "doctor"])
def test_a_path_that_is_no_utf_8_can_be_told_as_well(tmp_path: Path, command: str) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/g\xffne.json")

    options = ["--json"] if command == "doctor" else []
    plan = Plan(to_file=True)
    ended = Connector({}, tmp_path).start(command, "--config", path, *options, plan=plan).wait()

    assert ended.exit_code == 1
    assert f"{tmp_path}/g\N{REPLACEMENT CHARACTER}ne.json, cannot be read" in b"".join(ended.lines()).decode()
