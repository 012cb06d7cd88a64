"""What says the same thing in several files says the same."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from airbyte_cdk.models.connector_metadata import ConnectorLanguage, MetadataFile
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from source_timescaledb.airbyte.data_channel import JSONL, Medium
from source_timescaledb.run import run

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-runtime.lock", "requirements-build.lock")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def text(name: str) -> str:
    return (ROOT / name).read_text()


def metadata() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(text("metadata.yaml"))["data"]
    return data


def requirements_of(name: str) -> list[Requirement]:
    """The quoted requirements of one list in pyproject.toml; tomllib is too young for Python 3.10."""
    found = re.search(rf"^{name} = \[(.*?)^\]", text("pyproject.toml"), re.MULTILINE | re.DOTALL)
    assert found, name
    return [Requirement(line) for line in re.findall(r'^\s*"([^"]+)"', found[1], re.MULTILINE)]


def locked(name: str) -> dict[str, str]:
    """The entries of a lock: each requirement as it is written, with its hashes."""
    entries = re.split(r"^(?=\S)", text(name), flags=re.MULTILINE)[1:]
    return {
        entry.split(" \\")[0]: " ".join(sorted(HASH.findall(entry))) for entry in entries if entry.strip()
    }


def test_the_version_is_the_same_everywhere() -> None:
    project = re.search(r'^version = "(.+)"', text("pyproject.toml"), re.MULTILINE)
    label = re.search(r"^LABEL io\.airbyte\.version=(.+)$", text("Dockerfile"), re.MULTILINE)
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+)", text("CHANGELOG.md"), re.MULTILINE)

    assert project, "pyproject.toml has a version"
    assert label, "the image is labelled"
    assert newest, "CHANGELOG.md has a section for a version"
    assert {project[1], label[1], newest[1], metadata()["dockerImageTag"]} == {project[1]}


def test_the_image_is_built_on_the_base_image_that_the_metadata_names() -> None:
    base = re.search(r"^ARG BASE_IMAGE=(.+)$", text("Dockerfile"), re.MULTILINE)
    name = re.search(r"^LABEL io\.airbyte\.name=(.+)$", text("Dockerfile"), re.MULTILINE)

    assert base
    assert name
    assert base[1] == metadata()["connectorBuildOptions"]["baseImage"]
    assert name[1] == metadata()["dockerRepository"]
    assert re.fullmatch(r"docker\.io/airbyte/python-connector-base:[\d.]+@sha256:[0-9a-f]{64}", base[1])


def test_the_image_runs_the_console_script_by_its_absolute_path_as_an_ordinary_user() -> None:
    final = text("Dockerfile").rpartition("\nFROM ")[2]
    (script,) = (one for one in entry_points(group="console_scripts") if one.name == "source-timescaledb")
    environment = re.search(r"python -m venv (/\S+)", text("Dockerfile"))

    assert script.load() is run
    assert environment
    path = f"{environment[1]}/bin/{script.name}"
    assert f'\nENV AIRBYTE_ENTRYPOINT="{path}"\n' in final
    assert f'\nENTRYPOINT ["{path}"]\n' in final
    assert re.findall(r"^USER (.+)$", final, re.MULTILINE) == ["airbyte"]
    assert "RUN" not in final.split("USER airbyte")[1]


def test_the_image_gets_every_file_it_copies() -> None:
    allowed = set(re.findall(r"^!(.+)$", text(".dockerignore"), re.MULTILINE))
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text("Dockerfile"), re.MULTILINE)

    assert {name for line in copied for name in line.split()} == allowed
    assert all((ROOT / name).exists() for name in allowed)


def test_the_metadata_say_what_airbyte_wants_to_know() -> None:
    found = MetadataFile.from_file(ROOT / "metadata.yaml").data

    assert found.language is ConnectorLanguage.PYTHON
    assert metadata()["allowedHosts"]["hosts"] == [
        "${host}",
        "${tunnel_method.tunnel_host}",
        "${timescaledb.replica_host}",
    ]
    assert (ROOT / metadata()["icon"]).exists()


def test_the_metadata_declare_the_data_channels_that_are_spoken() -> None:
    declared = metadata()["connectorIPCOptions"]["dataChannel"]

    assert set(declared["supportedTransport"]) == {medium.value for medium in Medium}
    assert declared["supportedSerialization"] == [JSONL]


@pytest.mark.parametrize("name", LOCKS)
def test_every_entry_of_a_lock_has_one_version_and_its_hashes(name: str) -> None:
    entries = locked(name)

    assert entries
    for requirement, hashes in entries.items():
        assert [one.operator for one in Requirement(requirement).specifier] == ["=="], requirement
        assert hashes, requirement


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_place(name: str) -> None:
    without_hashes = HASH.sub("", text(name))

    assert not re.search(r"://|--(?!hash)|(^|\s)[/.~]", without_hashes, re.MULTILINE)


def test_the_image_has_the_versions_that_were_tested() -> None:
    everything, runtime = locked("requirements.lock"), locked("requirements-runtime.lock")

    assert runtime.items() <= everything.items()
    assert len(runtime) < len(everything)


def test_what_builds_and_is_also_installed_has_one_version() -> None:
    everything, build = locked("requirements.lock"), locked("requirements-build.lock")

    assert {Requirement(one).name for one in build} == {"poetry-core", "setuptools"}
    assert {one for one in build if one.startswith("setuptools")} <= everything.keys()


@pytest.mark.parametrize(
    ("group", "lock"),
    [
        ("dependencies", "requirements-runtime.lock"),
        ("metrics", "requirements-runtime.lock"),
        ("dev", "requirements.lock"),
    ],
)
def test_a_lock_has_what_the_project_asks_for(group: str, lock: str) -> None:
    entries = [Requirement(one) for one in locked(lock)]

    for asked in requirements_of(group):
        name = canonicalize_name(asked.name)
        versions = [str(one.specifier)[2:] for one in entries if canonicalize_name(one.name) == name]
        assert versions, f"{asked} is not in {lock}: run `make lock`"
        assert all(version in asked.specifier for version in versions), f"{asked}: run `make lock`"


def test_every_dependency_has_its_reason() -> None:
    asked = {
        one.name for group in ("dependencies", "metrics", "dev", "requires") for one in requirements_in(group)
    }
    asked |= {Requirement(one).name for one in locked("requirements-build.lock")}

    explained = re.findall(r"^\| `([\w-]+)` \|", text("docs/dependencies.md"), re.MULTILINE)

    assert sorted(explained) == sorted(asked)


def requirements_in(group: str) -> list[Requirement]:
    if group != "requires":
        return requirements_of(group)
    found = re.search(r'^requires = \["(.+)"\]', text("pyproject.toml"), re.MULTILINE)
    assert found
    return [Requirement(found[1])]


def test_the_icon_is_a_square_drawing_of_our_own() -> None:
    icon = ET.parse(ROOT / "icon.svg").getroot()

    _, _, width, height = icon.attrib["viewBox"].split()
    assert icon.tag == "{http://www.w3.org/2000/svg}svg"
    assert width == height
    assert "href" not in text("icon.svg")
