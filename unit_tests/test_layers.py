"""The layering of the house, enforced: a module imports only from its own layer and those below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages.reading import table

PACKAGE = "source_timescaledb"
LAYERS = (
    {"remedy"},
    {"counters", "errors", "lsn"},
    {"sqlstates", "config", "types"},
    {"hypertables"},
    {"pgoutput"},
    {"state"},
    {"postgres"},
    {"snapshot"},
    {"cdc"},
    {"health"},
    {"airbyte"},
    {"source"},
    {"doctor"},
    {"command"},
    {"__init__", "__main__", "run"},
)
HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}
LONGEST = 400

FOLDER = Path(__file__).parent.parent / PACKAGE
PAGE = (FOLDER.parent / "docs" / "architecture.md").read_text()
MODULES = sorted(FOLDER.rglob("*.py"))


def room(module: Path) -> str:
    """Return the first name below the package: the room of the house in which a module lives."""
    return module.relative_to(FOLDER).parts[0].removesuffix(".py")


def imported_rooms(source: str) -> Iterator[str]:
    """Yield the room of everything that a module imports from the package, wherever in the module it does."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                paths = [name.name for name in names]
            case ast.ImportFrom(level=level) if level > 0:
                paths = [f"{PACKAGE}.(relative import)"]
            case ast.ImportFrom(module=module, names=names) if module == PACKAGE:
                paths = [f"{PACKAGE}.{name.name}" for name in names]
            case ast.ImportFrom(module=str(module)):
                paths = [module]
            case _:
                continue
        yield from (path.split(".")[1] for path in paths if path.startswith(f"{PACKAGE}."))


def offences(source: str, own_room: str) -> list[str]:
    """Return the rooms that a module in `own_room` imports from and must not: higher up, or unknown."""
    own_height = HEIGHT[own_room]
    return [name for name in imported_rooms(source) if HEIGHT.get(name, len(LAYERS)) > own_height]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(FOLDER)))
def test_every_module_lives_in_a_known_room(module: Path) -> None:
    assert room(module) in HEIGHT


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(FOLDER)))
def test_no_module_imports_from_above(module: Path) -> None:
    assert offences(module.read_text(), room(module)) == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(FOLDER)))
def test_no_module_is_too_long_to_read_at_one_go(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize(
    "source",
    [
        "from source_timescaledb.airbyte.catalog import offered",
        "import source_timescaledb.airbyte",
        "from source_timescaledb import airbyte",
        "def late():\n    from source_timescaledb.airbyte import catalog",
    ],
)
def test_an_import_from_above_is_found_however_it_is_written(source: str) -> None:
    assert offences(source, "postgres") == ["airbyte"]


@pytest.mark.parametrize("source", ["from source_timescaledb.utils import helper", "from . import sibling"])
def test_an_import_from_an_unknown_room_is_found(source: str) -> None:
    assert len(offences(source, "run")) == 1


def test_imports_from_below_and_from_other_packages_are_no_offence() -> None:
    source = (
        "import psycopg\nfrom source_timescaledb.errors import ConnectorError\nimport source_timescaledbx"
    )

    assert offences(source, "postgres") == []


def test_the_page_on_architecture_has_the_rooms_in_their_order() -> None:
    rows = table(PAGE, "| room | what it knows |")
    told = [{name.strip("`") for name in rooms.split(", ")} for rooms, _ in rows]

    assert told == [rooms if rooms != LAYERS[-1] else {"run"} for rooms in LAYERS]
