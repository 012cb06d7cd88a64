"""The second half of the sequences (`test_sequences_1_to_7`): those that need a server of their own, and TRUNCATE."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from integration_tests.cdc.conftest import Followed, fill, make_tables
from integration_tests.cdc.scenes import TABLES, committed_late
from testkit.roots import Root
from testkit.server import Server


@pytest.fixture
def delayed(root: Root) -> Iterator[Followed]:
    """A database of a server of its own, with the settings of which other tests would suffer."""
    with Server(root) as server, server.database() as database:
        make_tables(database)
        yield Followed(database, f"slot_{database.name}")


def test_sequence_08c_a_slice_is_read_again_until_it_sees_what_the_stream_has_shown(
    delayed: Followed,
) -> None:
    """A commit waits for a standby: it is decoded, as a change of rows not read yet, and no snapshot sees it."""
    fill(delayed.database)
    delayed.publish(*TABLES)
    late = "INSERT INTO events VALUES ('2024-01-02 12:34:56', 'late')"
    with committed_late(delayed.database, late) as commit:
        ended = delayed.sync(*TABLES, acts={("STATE", 1): commit})

    assert ended.failure is None, (ended.errors, ended.logged)
    delayed.mirrors(*TABLES)


def test_sequence_08d_a_large_value_is_looked_up_where_its_transaction_is_seen(delayed: Followed) -> None:
    """T sets a large value, then updates another column, and its commit waits for a standby: what is looked up must
    be T's value, not the one before.
    """
    database = delayed.database
    database.execute("ALTER TABLE metrics ALTER COLUMN note SET STORAGE EXTERNAL")
    fill(database)
    database.execute("UPDATE metrics SET note = repeat('old', 3000) WHERE device = 3")
    delayed.publish(*TABLES)
    delayed.sync(*TABLES)
    with committed_late(
        database,
        "UPDATE metrics SET note = repeat('new', 3000) WHERE device = 3",
        "UPDATE metrics SET value = -1 WHERE device = 3",
    ) as commit:
        ended = delayed.sync(*TABLES, acts={("STATE", 1): commit})

    assert ended.failure is None, (ended.errors, ended.logged)
    assert {row["note"] for row in ended.rows("metrics")} == {"new" * 3000}
    delayed.mirrors(*TABLES)


def test_sequence_10_a_truncate_before_the_slices_are_read_clears_nothing_that_is_new(
    followed: Followed,
) -> None:
    """The root is truncated and filled anew before its slices are read: they hold the new rows, which stay."""
    database = followed.database
    fill(database)
    followed.publish(*TABLES)

    def truncate() -> None:
        database.execute("TRUNCATE events")
        database.execute("INSERT INTO events VALUES ('2024-01-02', 'new'), ('2024-01-02', 'new')")

    ended = followed.sync(*TABLES, acts={("STATE", 1): truncate})

    assert ended.failure is None, (ended.errors, ended.logged)
    assert not [line for line in ended.logged if "TRUNCATE" in line]
    followed.mirrors(*TABLES)


def test_sequence_10_a_truncate_of_rows_that_were_told_is_told_once_and_what_follows_arrives(
    followed: Followed,
) -> None:
    """The root is truncated after its rows were read: its keys cannot be listed, so a warning says it."""
    database = followed.database
    fill(database)
    followed.publish(*TABLES)
    followed.sync(*TABLES)
    database.execute("TRUNCATE metrics")
    database.execute("INSERT INTO metrics VALUES ('2024-01-02 12:34:56', 77, 1, 'new')")

    ended = followed.sync(*TABLES)

    assert [row["note"] for row in ended.rows("metrics")] == ["new"]
    assert len([line for line in ended.logged if "public.metrics" in line and "TRUNCATE" in line]) == 1
    followed.mirrors("events", "parts")


def test_sequence_12_a_destination_that_does_not_listen_does_not_cost_the_connection(
    followed: Followed,
) -> None:
    """Nobody takes the connector's output for longer than `wal_sender_timeout`, so it reads no keepalive either."""
    database = followed.database
    fill(database)
    followed.publish(*TABLES)
    database.as_superuser().execute(f"ALTER ROLE \"{database.owner}\" SET wal_sender_timeout = '2s'".encode())

    ended = followed.sync(*TABLES, acts={("STATE", 1): lambda: time.sleep(5)})

    assert ended.failure is None, (ended.errors, ended.logged)
    assert not [line for line in ended.logged if "goes on from" in line]
    followed.mirrors(*TABLES)
