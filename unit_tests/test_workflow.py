"""The workflow of GitHub Actions and the hooks of pre-commit, which nobody runs here, call what there is."""

from __future__ import annotations

import os
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from testkit.servers import IMAGES, IMAGES_VARIABLE, images, of_image

ROOT = Path(__file__).parents[1]
JOBS: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())["jobs"]
MAKEFILE = (ROOT / "Makefile").read_text()
VENV = (ROOT / ".ci" / "venv").read_text()
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]


def filled(text: str, values: dict[str, str]) -> str:
    """A text with the values of a matrix in it."""
    return re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda found: values[found[1]], text)


def cells(job: dict[str, Any]) -> list[dict[str, str]]:
    """Each combination of a job's matrix."""
    matrix = job.get("strategy", {}).get("matrix", {})
    return [dict(zip(matrix, chosen, strict=True)) for chosen in product(*matrix.values())]


def commands() -> list[str]:
    """Everything that the workflow runs, each in each combination."""
    return [
        filled(step["run"], cell)
        for job in JOBS.values()
        for cell in cells(job)
        for step in job["steps"]
        if "run" in step
    ]


@pytest.mark.parametrize("command", commands())
def test_a_command_calls_a_target_that_takes_its_settings_or_a_script_that_is_there(command: str) -> None:
    match command.split():
        case ["make", target, *settings]:
            assert re.search(rf"^{target}: .*##", MAKEFILE, re.MULTILINE), target
            for setting in settings:
                name = setting.partition("=")[0]
                assert f"$({name})" in MAKEFILE or f"${{{name}:-" in VENV, name
        case [*_, script]:
            assert (ROOT / script).is_file()
            assert os.access(ROOT / script, os.X_OK)


def test_every_python_that_the_project_takes_is_tried() -> None:
    asked = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert asked

    assert JOBS["check"]["strategy"]["matrix"]["python"] == [
        f"3.{n}" for n in range(int(asked[1]), int(asked[2]))
    ]


@pytest.mark.parametrize("cell", cells(JOBS["versions"]), ids=lambda cell: cell["server"])
def test_a_version_is_a_server_that_the_kit_offers_by_this_name(
    cell: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in JOBS["versions"]["env"].items():
        monkeypatch.setenv(name, filled(value, cell))

    (image,) = images()

    assert set(JOBS["versions"]["env"]) == {IMAGES_VARIABLE}
    assert of_image(image).name == cell["server"]


def test_the_image_is_tried_on_a_server_that_the_kit_offers_by_itself() -> None:
    (command,) = [step["run"] for step in JOBS["image"]["steps"] if "SERVER=" in step.get("run", "")]
    names = [of_image(image).name for image in IMAGES]

    assert re.findall(r"SERVER=(\S+)", command)[0] in names


def test_the_hooks_are_those_of_make_lint_from_the_locked_environment() -> None:
    lint = re.search(r"^lint: .*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert lint

    called = [hook["entry"].replace(".venv/bin/", "$(BIN)/") for hook in HOOKS]

    assert called == [line.strip() for line in lint[1].splitlines()]
