"""Databases that somebody has set up badly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration_tests.cdc.conftest import Followed, fill, make_tables
from testkit.database import Database


@pytest.fixture
def followed(database: Database) -> Iterator[Followed]:
    """Three tables with rows, of which changes are to be followed; nothing is published yet."""
    yield from _filled(database)


@pytest.fixture
def community(community_database: Database) -> Iterator[Followed]:
    """The same on a Community edition server."""
    yield from _filled(community_database)


def _filled(database: Database) -> Iterator[Followed]:
    make_tables(database)
    fill(database)
    yield Followed(database, f"slot_{database.name}")
    database.disconnect()
    database.as_superuser().execute(  # a physical slot belongs to no database, and goes with none
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE %s AND plugin IS NULL",
        [f"slot_{database.name}%"],
    )
