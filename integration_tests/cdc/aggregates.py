"""Continuous aggregates for tests: made, refreshed, published, and compared with what is materialized.

And the server's own jobs, which refresh them: let loose, and ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from integration_tests.cdc.conftest import Followed
from integration_tests.inprocess import Ended
from integration_tests.truth import Truth
from testkit.database import Database

SIX_HOURLY: Final = (
    "SELECT time_bucket('6 hours', time) AS bucket, device, sum(value) AS total, count(*) AS number FROM metrics"
    " GROUP BY 1, 2"
)
DAILY: Final = "SELECT time_bucket('1 day', bucket) AS day, sum(number) AS number FROM hourly GROUP BY 1"
"""On top of another aggregate."""


def aggregate(database: Database, name: str, query: str = SIX_HOURLY, *, real_time: bool = False) -> None:
    """Make a continuous aggregate and refresh it."""
    settings = f"timescaledb.continuous, timescaledb.materialized_only = {not real_time}"
    database.execute(f"CREATE MATERIALIZED VIEW {name} WITH ({settings}) AS {query} WITH NO DATA".encode())
    refresh(database, name)


def refresh(database: Database, *names: str) -> None:
    """Refresh aggregates in whole, one after the other."""
    for name in names:
        database.execute(f"CALL refresh_continuous_aggregate('{name}', NULL, NULL)".encode())


def table_of(database: Database, name: str) -> str:
    """The hypertable that holds an aggregate's rows, quoted."""
    query = (
        "SELECT format('%%I.%%I', materialization_hypertable_schema, materialization_hypertable_name)"
        " FROM timescaledb_information.continuous_aggregates WHERE view_name = %s"
    )
    found: str = database.value(query, [name])
    return found


def identify(database: Database, *names: str) -> None:
    """Give aggregates the replica identity that lets their refresh survive a publication."""
    for name in names:
        database.execute(f"ALTER TABLE {table_of(database, name)} REPLICA IDENTITY FULL".encode())


def publish(followed: Followed, *names: str, tables: str = "metrics") -> None:
    """Give aggregates what it takes to be followed, identity first, and make publication and slot."""
    identify(followed.database, *names)
    followed.publish(tables, *(table_of(followed.database, name) for name in names))


def ending_well(ended: Ended) -> Ended:
    """A sync that did not fail."""
    assert ended.failure is None, (ended.errors, ended.logged)
    return ended


def mirrors(followed: Followed, *names: str) -> None:
    """Fail unless the destination has what is materialized, no more and no less."""
    for name in names:
        truth = Truth.of(followed.database, table_of(followed.database, name))
        assert followed.destinations[name].rows(truth) == truth.rows, name


def refresh_by_policy(database: Database, *names: str) -> None:
    """Let the server refresh aggregates every second, all of their time."""
    for name in names:
        database.execute(
            "SELECT add_continuous_aggregate_policy(%s, NULL::interval, NULL::interval, interval '1 second')",
            [name],
        )


def start_background_workers(database: Database) -> None:
    """Let the server's jobs run in this database."""
    database.as_superuser().execute("SELECT _timescaledb_functions.start_background_workers()")


def calm(database: Database) -> None:
    """End the policies, and those that run."""
    database.execute(
        "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs WHERE job_id > 999"
    )
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%Policy%'"
    eventually(lambda: not database.as_superuser().execute(query).fetchall())


def eventually(condition: Callable[[], object]) -> None:
    """Fail unless something comes about."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
