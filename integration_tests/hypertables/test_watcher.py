"""The watcher on a live server: it finds what is born, told or not, and outlives its connections."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from integration_tests.watched import is_waiting, terminate, until
from source_timescaledb.config.reading import read_configuration
from source_timescaledb.errors import TransientError
from source_timescaledb.hypertables.registry import read_server_facts
from source_timescaledb.hypertables.watcher import CHANNEL, Births, Watcher
from source_timescaledb.postgres.connection import Connection, ConnectionSettings, open_connection
from testkit.database import Database

NEVER = 3600.0
"""Between two looks, where only a notification is to lead to another one."""


@dataclass
class Scene:
    """A hypertable and what its watcher says."""

    database: Database
    said: list[str] = field(default_factory=list)
    connections: int = 0
    refusals: int = 0
    """How often the next connections are refused."""

    def connect(self) -> Connection:
        if self.refusals:
            self.refusals -= 1
            raise TransientError("The server is full.")
        self.connections += 1
        configuration, _ = read_configuration(self.database.config())
        return open_connection(ConnectionSettings.from_configuration(configuration), "watcher")

    @contextmanager
    def watched(
        self, *, seconds: float, listening: bool, refusals: int = 0, **options: Any
    ) -> Iterator[Watcher]:
        with self.connect() as connection:
            extension = read_server_facts(connection).extension
        assert extension is not None
        self.refusals = refusals
        watcher = Watcher(
            self.connect, extension, seconds=seconds, listening=listening, tell=self.said.append, **options
        )
        with watcher:
            yield watcher

    def bear(self, day: int) -> int:
        """Make a chunk; its id."""
        self.database.execute(
            "INSERT INTO metrics VALUES ('2024-01-01'::timestamptz + %s * interval '1 day')", [day]
        )
        return self.newest()

    def newest(self) -> int:
        found = self._ask(
            "SELECT max(id) FROM _timescaledb_catalog.chunk WHERE hypertable_id = %s", [self.id]
        )
        return int(found[0])

    @property
    def id(self) -> int:
        return int(
            self._ask("SELECT id FROM _timescaledb_catalog.hypertable WHERE table_name = 'metrics'")[0]
        )

    def _ask(self, question: str, parameters: list[object] | None = None) -> tuple[Any, ...]:
        row = self.database.as_superuser().execute(question.encode(), parameters).fetchone()
        assert row is not None
        return row


@pytest.fixture
def scene(database: Database) -> Scene:
    database.execute("CREATE TABLE metrics (time timestamptz NOT NULL)")
    database.execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')")
    return Scene(database)


def test_a_chunk_is_found_by_looking(scene: Scene) -> None:
    with scene.watched(seconds=0.05, listening=False) as watcher:
        first = scene.bear(0)
        until(lambda: watcher.newest(scene.id) == first)
        births = Births(watcher, {scene.id: first})
        assert not births()

        second = scene.bear(1)

        until(births)
        assert watcher.newest(scene.id) == second


def test_a_chunk_is_found_at_once_when_somebody_tells_and_telling_twice_does_no_harm(scene: Scene) -> None:
    with scene.watched(seconds=NEVER, listening=True) as watcher:
        until(lambda: is_waiting(scene.database))
        with scene.database.connect() as writer:
            writer.execute("INSERT INTO metrics VALUES ('2024-01-01'), ('2024-01-02')")
            for number in range(50):
                writer.execute("SELECT pg_notify(%s, %s)", [CHANNEL, str(number)])
            writer.commit()
            for _ in range(50):
                writer.execute(f"NOTIFY {CHANNEL}".encode())
                writer.commit()

        until(lambda: watcher.newest(scene.id) == scene.newest())
    assert scene.said == []


def test_it_ends_at_once_although_nothing_is_due_for_an_hour(scene: Scene) -> None:
    with scene.watched(seconds=NEVER, listening=True):
        until(lambda: is_waiting(scene.database))
        (thread,) = [one for one in threading.enumerate() if one.name == "watcher"]

    assert not thread.is_alive()


def test_a_sync_that_is_over_soon_is_spared_the_connection(scene: Scene) -> None:
    with scene.watched(seconds=NEVER, listening=True):
        pass

    assert scene.connections == 1


def test_the_connection_is_opened_again_however_often_it_is_killed_and_looking_goes_on(scene: Scene) -> None:
    with scene.watched(seconds=0.2, listening=True) as watcher:
        for day in range(3):
            until(lambda: is_waiting(scene.database))
            terminate(scene.database)

            born = scene.bear(day)

            until(lambda born=born: watcher.newest(scene.id) == born)  # type: ignore[misc]
    assert scene.connections >= 4
    assert scene.said[:2] == [
        "Looking for new chunks failed and is tried again; the sync goes on. The connection was lost.",
        "Looking for new chunks works again.",
    ]


def test_a_server_that_takes_no_connection_is_left_alone_longer_each_time_and_told_of_once(
    scene: Scene,
) -> None:
    born = scene.bear(0)
    pauses: list[float] = []
    options = {"pause": pauses.append, "uniform": lambda _, high: high}

    with scene.watched(seconds=0.25, listening=True, refusals=4, **options) as watcher:
        until(lambda: watcher.newest(scene.id) == born)

    assert pauses[1:5] == [0.25, 0.5, 1, 2]
    assert scene.said == [
        "Looking for new chunks failed and is tried again; the sync goes on. The server is full.",
        "Looking for new chunks works again.",
    ]
