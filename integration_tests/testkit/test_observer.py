"""The observer sees the transactions and connections of the program it watches, and of no other."""

from __future__ import annotations

import time
from contextlib import ExitStack

from testkit.cluster import Cluster
from testkit.database import Database
from testkit.observer import Observer
from testkit.roots import Root
from testkit.server import Server


def test_the_longest_transaction_is_seen(database: Database) -> None:
    with Observer(database.cluster, "watched") as observer:
        with database.connect(application_name="watched reader") as connection:
            connection.execute("SELECT 1")
            time.sleep(0.3)
        time.sleep(0.1)

    assert (
        0.3 - observer.observation.longest_gap_seconds <= observer.observation.longest_transaction_seconds < 5
    )


def test_connections_are_counted_at_their_most(database: Database) -> None:
    with Observer(database.cluster, "watched") as observer, ExitStack() as connections:
        for number in range(3):
            connections.enter_context(database.connect(application_name=f"watched {number}"))
        time.sleep(0.2)

    assert observer.observation.most_connections == 3


def test_other_programs_are_not_seen(database: Database) -> None:
    with Observer(database.cluster, "watched") as observer, database.connect() as connection:
        connection.execute("SELECT 1")
        time.sleep(0.2)

    seen = observer.observation
    assert (seen.most_connections, seen.longest_transaction_seconds) == (0, 0)
    assert seen.looks > 1


def test_the_observer_outlives_a_crash_of_the_server(root: Root) -> None:
    with Server(root) as server, Observer(server, "watched") as observer:
        server.crash()
        time.sleep(0.1)
        server.start()
        with server.connect(application_name="watched"):
            time.sleep(0.3)

    assert observer.observation.most_connections == 1


def test_the_observer_does_not_stop_a_database_from_being_dropped(server: Cluster) -> None:
    with Observer(server, "watched"), server.database() as database:
        assert database.value("SELECT 1") == 1
