"""Whoever waits for a program is seen, behind others too; who waits for somebody else is not."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg

from testkit.bystanders import Bystanders
from testkit.database import Database


def ask(connection: psycopg.Connection, mode: str) -> None:
    connection.execute(f"LOCK TABLE metrics IN {mode} MODE".encode())


def test_who_waits_for_a_program_is_seen_and_who_waits_behind_them(database: Database) -> None:
    database.execute("CREATE TABLE metrics (number int)")
    with (
        Bystanders(database.cluster, "watched") as bystanders,
        database.connect(application_name="watched reader") as reader,
        database.connect(application_name="maintenance") as maintenance,
        database.connect(application_name="application") as application,
        ThreadPoolExecutor() as threads,
    ):
        ask(reader, "ACCESS SHARE")
        first = threads.submit(ask, maintenance, "ACCESS EXCLUSIVE")
        time.sleep(0.2)
        second = threads.submit(ask, application, "ROW EXCLUSIVE")
        time.sleep(0.3)
        reader.rollback()
        first.result()
        time.sleep(0.3)
        maintenance.rollback()
        second.result()

    delays = bystanders.delays
    slack = bystanders.observation.longest_gap_seconds + 0.1
    assert delays.keys() == {"maintenance", "application"}
    assert 0.5 - slack <= delays["maintenance"].longest_seconds < 0.5 + slack
    assert 0.3 - slack <= delays["application"].longest_seconds < 0.3 + slack, (
        "it waits on for somebody at work"
    )
    assert bystanders.delay("application").waits == 1
    assert bystanders.delay("nobody").waits == 0
