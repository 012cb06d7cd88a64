"""Each of the 35 traps that are known of TimescaleDB has its test in `integration_tests/traps`, and no more than one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

KNOWN = range(1, 36)
FOLDER = Path(__file__).parents[1] / "integration_tests/traps"
NAME = re.compile(r"test_trap_(\d\d)_\w+")


def test_every_trap_has_exactly_one_test() -> None:
    names = [
        node.name
        for module in FOLDER.glob("test_*.py")
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.FunctionDef)
    ]

    numbers = sorted(int(found[1]) for name in names if (found := NAME.fullmatch(name)))

    assert numbers == list(KNOWN)
