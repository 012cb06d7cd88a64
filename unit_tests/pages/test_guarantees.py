"""The page on guarantees names tests and rows of the README, and each of them is there."""

from __future__ import annotations

import ast
import re
from typing import Final

import pytest

from pages.reading import ROOT
from pages.settings import settings
from source_timescaledb.airbyte import following, reading

PAGE: Final = (ROOT / "docs" / "guarantees.md").read_text()
README: Final = (ROOT / "README.md").read_text()
ARCHITECTURE: Final = (ROOT / "docs" / "architecture.md").read_text()
FOLDERS: Final = ("unit_tests", "integration_tests")


def all_tests() -> set[str]:
    """The names of all tests."""
    modules = (
        ast.parse(file.read_text()) for folder in FOLDERS for file in (ROOT / folder).rglob("test_*.py")
    )
    return {node.name for module in modules for node in ast.walk(module) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))

    assert len(named) > 20
    assert named - all_tests() == set()


def test_every_file_and_folder_that_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:unit|integration)_tests/[\w/.]+)`", PAGE)

    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_guarantee_has_its_reason_and_what_shows_it() -> None:
    for guarantee in PAGE.split("\n## ")[1:]:
        assert "\n> " in guarantee, guarantee[:40]
        assert "**Shown by**" in guarantee, guarantee[:40]


def test_how_often_a_state_comes_is_said_in_the_numbers_of_the_code() -> None:
    assert (reading.STATE_SECONDS, following.ROUND_SECONDS) == (1.0, 5.0), (
        "mend the pages, then these numbers"
    )
    asked = next(one for one in settings() if one.path == "checkpoint_target_interval_seconds")

    for text in (README, asked.meaning):
        assert "every second" in text
        assert "five seconds of reading" in flowing(text)
    assert "slices for at most five seconds" in flowing(ARCHITECTURE)


@pytest.mark.parametrize("text", [README, PAGE], ids=["README", "guarantees"])
def test_a_failure_is_said_to_cost_one_stream_only_but_where_streams_share_the_log(text: str) -> None:
    assert (
        "costs its own stream only; with CDC, what concerns the shared log stops all followed streams"
        in flowing(text)
    )


def flowing(text: str) -> str:
    """A text without its line breaks, and the marks of a quotation at their beginning."""
    return " ".join(re.sub(r"^> ?", "", text, flags=re.MULTILINE).split())
