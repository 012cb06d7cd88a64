from __future__ import annotations

import csv
import io
import re

import pytest

from demo.flights import TABLES, Table, opened


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_columns_of_a_table_are_those_of_its_file(table: Table) -> None:
    with opened(table.name) as file:
        header = next(csv.reader(io.TextIOWrapper(file, encoding="utf-8")))

    assert re.findall(r"^\s*([a-z_]+) (?!KEY)", table.columns, re.MULTILINE) == header
