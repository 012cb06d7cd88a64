"""The table of faults, enforced: each row of `docs/faults.md` has tests with its number, in the modules that it names."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
ROW = re.compile(r"^\| (\d+) \| [^|]+ \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
NUMBERED = re.compile(r"test_fault_(\d\d)_")
NUMBERS = range(1, 41)


@dataclass(frozen=True, slots=True)
class Shown:
    """A test of a fault."""

    module: str
    name: str
    in_a_process: bool
    """Whether the connector runs in a process of its own, which needs a folder to run in."""


def numbered(source: str, module: str) -> Iterator[tuple[int, Shown]]:
    """The tests of faults in a module, by the numbers of the faults."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(name=name, args=arguments) if found := NUMBERED.match(name):
                asked = {argument.arg for argument in arguments.args}
                yield int(found[1]), Shown(module, name, in_a_process="tmp_path" in asked)


def all_tests() -> dict[int, list[Shown]]:
    found: dict[int, list[Shown]] = defaultdict(list)
    for folder in ("integration_tests", "unit_tests"):
        for path in (REPOSITORY / folder).rglob("test_*.py"):
            module = str(path.relative_to(REPOSITORY))
            for number, shown in numbered(path.read_text(), module):
                found[number].append(shown)
    return found


def table() -> dict[int, set[str]]:
    """The modules that each row names."""
    text = (REPOSITORY / "docs" / "faults.md").read_text()
    return {int(number): set(re.findall(r"\(\.\./([\w/.]+)\)", cell)) for number, cell in ROW.findall(text)}


TESTS = all_tests()


def test_the_table_has_every_fault_once() -> None:
    assert list(table()) == list(NUMBERS)


def test_every_numbered_test_belongs_to_a_row() -> None:
    assert set(TESTS) <= set(NUMBERS)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_row_names_the_modules_that_have_its_tests(number: int) -> None:
    assert table()[number] == {shown.module for shown in TESTS[number]}


@pytest.mark.parametrize("number", NUMBERS)
def test_a_fault_is_shown_with_the_connector_in_a_process_of_its_own(number: int) -> None:
    assert [shown.name for shown in TESTS[number] if shown.in_a_process]


def test_no_two_tests_of_faults_have_one_name() -> None:
    names = [shown.name for shows in TESTS.values() for shown in shows]

    assert sorted(names) == sorted(set(names))
