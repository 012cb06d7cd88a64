"""Which role the connector runs as in tests, benchmarks and demo: the reader, or for a reason another.

Whoever runs it takes `Database.config`, whose role is the reader unless `username` is given. So that is what is looked
for in the sources: who gives a name that is not the reader's. The reader's rights are shown by
`integration_tests/test_least_privilege.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).parent.parent
FOLDERS: Final = ("integration_tests", "oracle", "benchmarks", "demo")

PUBLISHES: Final = (
    "it adds chunks to the publication, for which its role must own publication and tables (README)"
)
OTHERS: Final[Mapping[str, str]] = {
    "integration_tests/acceptance.py": PUBLISHES,
    "integration_tests/cdc/conftest.py": PUBLISHES,
    "integration_tests/cdc/test_deduplication.py": "its tables are those of cdc/conftest.py, read without changes, too",
    "integration_tests/recording.py": PUBLISHES,
    "integration_tests/traps/test_rights_and_replicas.py": PUBLISHES,
    "integration_tests/test_pyairbyte.py": PUBLISHES,
    "integration_tests/test_migration.py": PUBLISHES,
    "integration_tests/postgres/test_publication.py": "what an owner may do with a publication is what it shows",
    "integration_tests/health/test_mending.py": "the remedy that it shows is to run as the owner",
    "integration_tests/health/test_servers_to_mend.py": "the doctor's script has made the role",
    "integration_tests/test_least_privilege.py": "the README and the doctor's script have made the roles",
    "oracle/syncs.py": PUBLISHES,
}


def roles(source: str) -> Iterator[str]:
    """What is given as the name of the connector's role."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.keyword(arg="username", value=value):
                yield ast.unparse(value)
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "username":
                        yield ast.unparse(value)


@lru_cache
def given() -> Mapping[str, list[str]]:
    found = {
        str(path.relative_to(REPOSITORY)): list(roles(path.read_text()))
        for folder in FOLDERS
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
    }
    return {path: names for path, names in found.items() if names}


def test_nobody_runs_the_connector_as_a_superuser() -> None:
    names = [name for every in given().values() for name in every]

    assert names
    assert [name for name in names if "super" in name or "postgres" in name] == []


def test_who_runs_it_as_another_than_the_reader_has_a_reason() -> None:
    """A literal names a role that nobody has made."""
    found = given()

    assert {path for path, names in found.items() if any(map(is_another, names))} == OTHERS.keys()


def is_another(name: str) -> bool:
    return not (name.endswith(".reader") and " " not in name) and not name.startswith(("'", '"'))


@pytest.mark.parametrize(
    "source",
    [
        "database.config(username=address.superuser)",
        "config = {'username': address.superuser}",
        "role: Json = {**more, 'username': address.superuser}",
    ],
)
def test_a_role_is_found_however_it_is_given(source: str) -> None:
    assert list(roles(source)) == ["address.superuser"]
