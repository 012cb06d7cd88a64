"""What a page quotes, lists or links to is there, and what it takes from the code is what the code says."""

from __future__ import annotations

import re
from itertools import cycle
from pathlib import Path
from typing import Final

import pytest

from pages.reading import ROOT, all_pages, blocks, broken_links, section, table
from pages.sentences import sentences, templates
from pages.settings import settings
from pages.types import ROWS
from pages.writing import PARTS, anew
from source_timescaledb.types.rendering import BUILT_IN

PAGE: Final = (ROOT / "docs" / "source-timescaledb.md").read_text()
README: Final = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", all_pages(), ids=lambda path: path.name)
def test_every_link_on_a_page_leads_somewhere(path: Path) -> None:
    assert broken_links(path) == []


@pytest.mark.parametrize("path", PARTS, ids=lambda path: path.name)
def test_what_a_page_takes_from_the_code_is_what_the_code_says(path: Path) -> None:
    assert path.read_text() == anew(path), "run `make docs`"


def test_every_page_is_linked_from_the_readme() -> None:
    named = set(re.findall(r"\((docs/[\w-]+\.md)", README))

    assert {str(path.relative_to(ROOT)) for path in all_pages()} - {"README.md"} <= named


def test_every_sentence_that_the_page_explains_is_one_of_the_connector() -> None:
    troubleshooting = section(PAGE, "Troubleshooting")
    quoted = re.findall(r"^#### (.+)$", troubleshooting, re.MULTILINE)
    quoted += re.findall(r"\*([A-Z][^*\n]+…[^*\n]*)\*", troubleshooting)

    assert len(quoted) > 20
    assert [one for one in quoted if not any(one in text for text in templates())] == []


def test_the_sentences_of_errors_and_findings_are_found_wherever_they_are_made() -> None:
    said = {one.text: one for one in sentences()}

    assert said["The role … may not replicate."].kind == "blocks"
    assert said["The replication slot … is being read by process …."].kind == "passing"
    assert (
        said["The configured catalog selects no stream."].remedy
        == "Select at least one stream in the connection."
    )
    assert len(said) > 100


def test_every_built_in_type_is_in_the_table() -> None:
    named = {name.replace("\\", "") for row in ROWS for name in re.findall(r"`([^`]+)`", row.names)}
    spoken = {
        "int2": "smallint", "int4": "integer", "int8": "bigint", "float4": "real", "float8": "double precision",
        "bool": "boolean", "timetz": "time with time zone", "timestamptz": "timestamp with time zone",
        "bpchar": "char(n)", "char": '"char"', "bit": "bit(n)", "varbit": "bit varying",
    }  # fmt: skip

    assert {spoken.get(name, name) for name in BUILT_IN} - named == set()


def test_the_settings_of_timescaledb_in_the_readme_are_those_of_the_specification() -> None:
    rows = table(README, "| setting | default | what it does |")
    said = {
        f"timescaledb.{name}": default
        for names, defaults, _ in rows
        for name, default in zip(re.findall(r"`(\w+)`", names), cycle(defaults.replace("`", "").split(", ")))
    }
    specified = {
        one.path: one.default.strip("`") for one in settings() if one.path.startswith("timescaledb.")
    }

    assert said.keys() == specified.keys()
    for path, default in specified.items():
        spoken = default.strip('"')
        assert spoken == "none" or said[path] == spoken.removesuffix(".0") or said[path] == spoken, path


def test_every_command_on_a_page_is_of_a_kind_that_something_runs() -> None:
    pages = [README, *(path.read_text() for path in all_pages() if path.name in EXECUTED)]
    commands = [line for page in pages for one in blocks(page, "sh") for line in one.text.splitlines()]

    assert [line for line in commands if line and not line.startswith((*RUN_BY, "#"))] == []


RUN_BY: Final = {
    "source-timescaledb ": "integration_tests/test_pages.py",
    "docker build ": ".ci/image, by `make image`",
    "docker run ": "integration_tests/test_image.py, by `make image`",
    "make ": ".ci/run",
    "pip install .": "the stage of the Dockerfile that builds, by `make image`",
}
EXECUTED: Final = ("source-timescaledb.md", "architecture.md", "guarantees.md", "scaling-out.md")
