"""The second half of the sequences (`test_sequences_1_to_7`): those that need a server of their own, and TRUNCATE."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from integration_tests.cdc.conftest import PUBLICATION, Followed, fill, make_tables
from integration_tests.cdc.scenes import (
    TABLES,
    begun,
    blocked,
    committed_late,
    kill,
    standby_that_never_answers,
    until,
)
from testkit.database import Database
from testkit.roots import Root
from testkit.server import Server

WRAP = 2**32


@pytest.fixture
def delayed(root: Root) -> Iterator[Followed]:
    """A database of a server of its own, with settings of which other tests would suffer, and with no jobs that write."""
    with (
        Server(root, settings={"timescaledb.max_background_workers": 0}) as server,
        server.database() as database,
    ):
        make_tables(database)
        yield Followed(database, f"slot_{database.name}")


def test_sequence_08a_no_fence_waits_for_a_standby_that_never_answers(delayed: Followed) -> None:
    """Nothing that the connector commits is waited for: the start, a chunk that joins the publication, the fences."""
    database = delayed.database
    fill(database)
    delayed.publish(*TABLES)
    for day in ("2025-05-05", "2025-06-06"):
        database.execute("INSERT INTO events VALUES (%s, 'in a chunk of its own')", [day])
        with standby_that_never_answers(database):
            ended = delayed.sync(*TABLES)

        assert ended.failure is None, (ended.errors, ended.logged)
        assert [line for line in ended.logged if "added to the publication" in line]
        delayed.mirrors(*TABLES)


def test_sequence_08b_what_was_committed_but_not_visible_when_the_slot_was_made_is_read(
    delayed: Followed,
) -> None:
    """The slot's creation waits for T0, then for T1, which has begun meanwhile; T2 commits and stays invisible; T1 ends,
    and the slot is ready. T2's commit lies before it, so T2 is not decoded, and no snapshot sees T2 for a second.
    """
    database = delayed.database
    fill(database)
    database.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE {', '.join(TABLES)}".encode())
    with (
        closing(database.connect()) as t0,
        closing(database.connect(options="-c synchronous_commit=local")) as t1,
        closing(database.connect("superuser")) as maker,
        ThreadPoolExecutor() as executor,
        committed_late(
            database,
            "INSERT INTO events VALUES ('2024-01-02 12:34:56', 'of T2')",
            "UPDATE parts SET note = 'of T2'",
            seconds=1.0,
        ) as commit_t2,
    ):
        begun(t0)
        made = executor.submit(
            maker.execute, "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [delayed.slot]
        )
        until(blocked(database, maker, by=t0))
        begun(t1)
        t0.commit()
        until(blocked(database, maker, by=t1))
        commit_t2()
        t1.commit()
        made.result()
        ended = delayed.sync(*TABLES)

    assert ended.failure is None, (ended.errors, ended.logged)
    delayed.mirrors(*TABLES)


def test_sequence_08c_what_a_killed_sync_has_left_for_its_slices_is_waited_for_by_the_next(
    delayed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T commits and stays invisible; a sync tells T's changes of a stream that is read, leaves those of another one for
    its slices, says in a STATE that it has come past T, and is killed. The next one must not read before T is visible.
    """
    monkeypatch.setattr("source_timescaledb.airbyte.following.STATE_SECONDS", 0.0)
    database = delayed.database
    fill(database)
    delayed.publish(*TABLES)
    delayed.sync("parts")
    before = delayed.state[0]["global"]["shared_state"]["lsn"]
    statements = (
        "UPDATE parts SET note = 'of T'",
        "INSERT INTO events VALUES ('2024-01-02 12:34:56', 'of T')",
    )
    with committed_late(database, *statements, seconds=1.5) as commit:
        killed = delayed.sync("parts", "events", acts={("STATE", 1): commit, ("STATE", 2): kill})
        after = delayed.state[0]["global"]["shared_state"]["lsn"]
        ended = delayed.sync("parts", "events")

    assert len(killed.rows("parts")) == len(database.rows("SELECT FROM parts"))
    assert after != before
    assert ended.failure is None, (ended.errors, ended.logged)
    delayed.mirrors("parts", "events")


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


@pytest.fixture
def wrapping(root: Root) -> Iterator[Followed]:
    """A database of a server that has given out nearly all transaction ids of its first epoch."""
    with Server(root, settings={"autovacuum": "off", "timescaledb.max_background_workers": 0}) as server:
        server.wind_to(WRAP - 5000)
        with server.database() as database:
            make_tables(database)
            yield Followed(database, f"slot_{database.name}")


def spend(database: Database, *, to: int) -> None:
    """Give transaction ids out until this one is the next."""
    database.execute(
        f"DO $$ BEGIN WHILE pg_current_xact_id()::text::int8 < {to - 1} LOOP COMMIT; END LOOP; END $$".encode()
    )


def test_sequence_11_snapshots_from_before_and_after_the_wrap_know_what_they_have_seen(
    wrapping: Followed,
) -> None:
    """T writes before transaction ids begin anew and commits after; slices are read before and after; U writes after and
    commits at once, V writes after and commits with T.
    """
    database = wrapping.database
    fill(database)
    wrapping.publish(*TABLES)
    with closing(database.connect()) as t, closing(database.connect()) as v:

        def approach() -> None:
            spend(database, to=WRAP - 2)
            write(t, "of T", device=1)

        def cross() -> None:
            spend(database, to=WRAP + 5)
            write(v, "of V", device=2)
            with database.connect() as u:
                write(u, "of U", device=3)

        def end() -> None:
            t.commit()
            v.commit()

        ended = wrapping.sync(
            *TABLES, acts={("STATE", 1): approach, ("RECORD", 1): cross, ("RECORD", 303): end}
        )

    assert ended.failure is None, (ended.errors, ended.logged)
    wrapping.mirrors(*TABLES)
    told = [row["what"] for row in ended.rows("events") if row["what"].startswith("of")]
    assert sorted(told) == [of for of in ("of T", "of U", "of V") for _ in range(3)]


def write(connection: psycopg.Connection, name: str, *, device: int) -> None:
    """Rows in each chunk, rows changed and rows deleted."""
    connection.execute(
        "INSERT INTO events SELECT timestamptz '2024-01-01 12:34' + i * interval '1 day', %s"
        " FROM generate_series(0, 2) i",
        [name],
    )
    connection.execute("UPDATE metrics SET note = %s WHERE device = %s AND value < 200", [name, device])
    connection.execute("DELETE FROM metrics WHERE device = %s AND value >= 200", [device])
    connection.execute("UPDATE parts SET note = %s WHERE id %% 7 = %s", [name, device])


def test_sequence_11_a_writer_from_before_the_wrap_is_waited_for(wrapping: Followed) -> None:
    """T writes before transaction ids begin anew; a sync starts after; its barrier must not take T for one of later."""
    database = wrapping.database
    fill(database)
    wrapping.publish(*TABLES)
    wrapping.sync(*TABLES)
    database.execute("INSERT INTO events VALUES ('2025-05-05', 'makes the chunk')")
    spend(database, to=WRAP - 2)
    with closing(database.connect()) as t, ThreadPoolExecutor() as executor:
        t.execute("INSERT INTO events VALUES ('2025-05-05', 'of T')")
        spend(database, to=WRAP + 5)
        syncing = executor.submit(wrapping.sync, *TABLES)
        time.sleep(0.5)
        assert not syncing.done()
        t.commit()
        ended = syncing.result()

    assert ended.failure is None, (ended.errors, ended.logged)
    wrapping.mirrors(*TABLES)


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
