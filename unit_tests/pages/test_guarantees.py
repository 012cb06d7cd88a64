"""The page on guarantees names tests and rows of the README, and each of them is there."""

from __future__ import annotations

import ast
import re
from typing import Final

from pages.reading import ROOT

PAGE: Final = (ROOT / "docs" / "guarantees.md").read_text()
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
