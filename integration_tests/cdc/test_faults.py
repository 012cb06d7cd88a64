"""Faults of the network, the server and the connector while changes are followed: none of them costs a row.

The numbers are those of the table of faults (`docs/faults.md`).
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from airbyte_cdk.models import AirbyteMessage

from integration_tests.cdc.conftest import Followed, fill, make_tables
from integration_tests.cdc.impatient import run_that_gives_silence_up_soon
from integration_tests.cdc.scenes import until
from source_timescaledb.airbyte.sink import ObjectSink
from source_timescaledb.errors import UnavailableError
from source_timescaledb.lsn import Lsn
from testkit.connector import Connector
from testkit.protocol import Json, Output
from testkit.proxy import Proxy
from testkit.roots import Root
from testkit.run import At, Run, signalled
from testkit.server import Server

pytestmark = pytest.mark.any_server

TABLES = ("metrics", "events", "parts")
ROWS = 3000
MOST_MEMORY = 150_000_000
DEADLINE_SECONDS = 15.0
FIRST_WARNING = 2
"""Of the lines of the log; the one before it is of airbyte-cdk."""


def change(followed: Followed, *, each: int = 100) -> None:
    """Changes enough to be in the middle of them: in transactions of so many rows, the last one without a key."""
    database = followed.database
    for first in range(0, ROWS, each):
        database.execute(
            "INSERT INTO metrics SELECT '2024-01-01'::timestamptz + i * interval '1 second', 1000 + i %% 7, i,"
            " repeat('x', 5000) FROM generate_series(%s::int, %s::int) i",
            [first, first + each - 1],
        )
    database.execute("UPDATE parts SET note = 'changed' WHERE id % 2 = 0")
    database.execute("DELETE FROM parts WHERE id % 3 = 0")
    database.execute("INSERT INTO events SELECT time, 'new' FROM metrics WHERE device = 1001")


def once(act: Callable[[], object]) -> Callable[[Run], object]:
    return lambda _run: act()


def end_the_walsender(followed: Followed) -> None:
    followed.database.as_superuser().execute(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s",
        [followed.slot],
    )


def confirmed(followed: Followed) -> Lsn:
    """What the server may forget."""
    query = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s"
    row = followed.database.as_superuser().execute(query, [followed.slot]).fetchone()
    assert row is not None
    return Lsn.parse(row[0])


def position(state: list[Json]) -> Lsn:
    return Lsn.parse(state[-1]["global"]["shared_state"]["lsn"])


def repeated(output: Output) -> int:
    """How many records of metrics came again."""
    told = Counter((row["time"], row["device"], row["value"]) for row in output.rows("metrics"))
    return sum(number - 1 for number in told.values())


def reconnections(output: Output) -> list[str]:
    """What the log says of connections to the stream that were lost and replaced."""
    return [line for line in output.logs if "Following goes on from" in line]


@pytest.mark.parametrize("record", [1, ROWS // 2, ROWS - 1])
def test_fault_03_killed_in_the_middle_of_a_transaction_it_tells_all_of_it_again(
    synced: Followed, tmp_path: Path, record: int
) -> None:
    change(synced, each=ROWS)
    before = synced.state

    killed = synced.run(tmp_path, *TABLES, at=[At("RECORD", record, signalled(signal.SIGKILL))])

    assert killed.exit_code == -signal.SIGKILL
    assert position(synced.state) == position(before)
    ended = synced.run(tmp_path, *TABLES)
    assert len(ended.rows("metrics")) == ROWS
    synced.mirrors("metrics", "parts")


def test_fault_08_a_terminated_walsender_is_replaced_from_the_last_commit_and_confirms_nothing(
    synced: Followed, tmp_path: Path
) -> None:
    change(synced)
    before = position(synced.state)

    ended = synced.run(
        tmp_path, *TABLES, at=[At("RECORD", ROWS // 2, once(lambda: end_the_walsender(synced)))]
    )

    assert ended.exit_code == 0
    assert reconnections(ended)
    assert confirmed(synced) == before
    assert repeated(ended) <= 100
    synced.mirrors(*TABLES)


def test_a_destination_that_does_not_take_changes_is_not_taken_for_a_log_that_is_lost(
    synced: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(synced)

    def refuse(*_: object) -> Iterator[AirbyteMessage]:
        raise UnavailableError("Nobody takes it.")

    with monkeypatch.context() as refusing:
        refusing.setattr(ObjectSink, "write_in_order", refuse)
        ended = synced.sync(*TABLES)

    assert ended.failure is not None
    assert synced.sync(*TABLES).rows("metrics")
    synced.mirrors(*TABLES)


def test_fault_10_a_server_that_crashes_while_it_is_followed_leaves_no_gap(
    root: Root, tmp_path: Path
) -> None:
    with Server(root, fsync=True) as server, server.database() as database:
        make_tables(database)
        fill(database, rows=ROWS)
        followed = Followed(database, f"slot_{database.name}")
        followed.publish(*TABLES)

        def crash() -> None:
            database.disconnect()
            server.crash()
            server.start()

        loaded = followed.run(tmp_path, *TABLES, at=[At("RECORD", ROWS, once(crash))])
        change(followed)
        told = followed.run(tmp_path, *TABLES, at=[At("RECORD", ROWS // 2, once(crash))])

        assert (loaded.exit_code, told.exit_code) == (0, 0)
        assert reconnections(told)
        followed.mirrors("metrics", "parts")


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_fault_11_a_connection_that_breaks_is_replaced(synced: Followed, tmp_path: Path, fault: str) -> None:
    change(synced)
    address = synced.database.cluster.address
    with Proxy(address.host, address.port) as proxy:
        ended = synced.run(
            tmp_path,
            *TABLES,
            config={"port": proxy.port},
            at=[At("RECORD", at, once(getattr(proxy, fault))) for at in (1, ROWS // 2, ROWS)],
        )

    assert ended.exit_code == 0
    assert reconnections(ended)
    synced.mirrors("metrics", "parts")


@pytest.mark.slow
def test_fault_12_a_network_that_swallows_everything_is_noticed_within_seconds(
    synced: Followed, tmp_path: Path
) -> None:
    change(synced, each=ROWS)  # no STATE within it, which would ask for the publication on another connection
    address = synced.database.cluster.address
    with Proxy(address.host, address.port) as proxy:
        times: list[float] = []

        def swallow(_run: Run) -> None:
            proxy.blackhole()
            times.append(time.monotonic())

        def heal(_run: Run) -> None:
            times.append(time.monotonic())
            proxy.heal()

        proxy.throttle(200_000)
        ended = synced.run(
            tmp_path,
            *TABLES,
            config={"port": proxy.port},
            at=[At("RECORD", 100, swallow), At("LOG", FIRST_WARNING, heal)],
        )

    assert ended.exit_code == 0
    assert "silent on the replication connection" in reconnections(ended)[0]
    assert times[1] - times[0] < DEADLINE_SECONDS + 2
    synced.mirrors("metrics", "parts")


def test_fault_12_a_network_that_swallows_the_wait_for_writers_is_noticed_too(
    followed: Followed, tmp_path: Path
) -> None:
    fill(followed.database)
    followed.publish(*TABLES)
    address = followed.database.cluster.address
    with Proxy(address.host, address.port) as proxy, closing(followed.database.connect()) as writer:
        writer.execute("DELETE FROM parts WHERE id = 1")
        catalog = followed.source().catalog("incremental", list(TABLES))
        run = followed.start(
            tmp_path,
            catalog,
            config={"port": proxy.port},
            entry=run_that_gives_silence_up_soon,
            at=[At("LOG", FIRST_WARNING, once(proxy.heal))],
        )
        until(lambda: waits_for_writers(followed))
        proxy.blackhole()
        until(lambda: run.seen("LOG") >= FIRST_WARNING)
        writer.commit()
        ended = run.wait()

    assert ended.exit_code == 0
    assert "the connection to the server was lost" in ended.logs[FIRST_WARNING - 1]
    assert len(ended.rows("parts")) == 299


def waits_for_writers(followed: Followed) -> bool:
    """Whether the connector asks, again and again, which transactions are open."""
    row = (
        followed.database.as_superuser()
        .execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE %s AND query LIKE %s",
            ["source-timescaledb fences%", "%pg_snapshot_xmin%"],
        )
        .fetchone()
    )
    return row == (1,)


@pytest.mark.slow
def test_fault_13_a_destination_that_pauses_costs_neither_memory_nor_the_connection(
    synced: Followed, tmp_path: Path
) -> None:
    synced.database.execute(
        "INSERT INTO events SELECT '2024-01-01'::timestamptz + i * interval '1 second', repeat('x', 400)"
        " FROM generate_series(1, 30000) i"
    )

    ended = synced.run(
        tmp_path, *TABLES, at=[At("RECORD", 1000, lambda _run: time.sleep(DEADLINE_SECONDS + 1))]
    )

    assert ended.exit_code == 0
    assert reconnections(ended) == []
    assert ended.peak_rss < MOST_MEMORY
    synced.mirrors("events")


def test_fault_13_a_slow_link_costs_no_memory(synced: Followed, tmp_path: Path) -> None:
    change(synced)
    address = synced.database.cluster.address
    with Proxy(address.host, address.port) as proxy:
        proxy.throttle(3_000_000)
        ended = synced.run(tmp_path, *TABLES, config={"port": proxy.port})

    assert ended.exit_code == 0
    assert reconnections(ended) == []
    assert ended.peak_rss < MOST_MEMORY
    synced.mirrors(*TABLES)


def test_fault_23_a_chunk_born_in_mid_run_is_read_when_its_writers_have_ended(
    synced: Followed, tmp_path: Path
) -> None:
    database = synced.database
    with closing(database.connect()) as writer:

        def bear_a_chunk(_run: Run) -> None:
            writer.execute("INSERT INTO events VALUES ('2025-05-05', 'before')")
            database.execute("INSERT INTO parts SELECT i, 'late' FROM generate_series(5000, 5009) i")

        def write_more(_run: Run) -> None:
            writer.execute("INSERT INTO events VALUES ('2025-05-05', 'after')")
            writer.commit()

        change(synced)
        ended = synced.run(
            tmp_path, *TABLES, at=[At("RECORD", 1, bear_a_chunk), At("RECORD", ROWS, write_more)]
        )
        last = synced.run(tmp_path, *TABLES)

    assert (ended.exit_code, last.exit_code) == (0, 0)
    synced.mirrors(*TABLES)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "rate"), [(300_000, None), (30_000, 1_000_000)])
def test_fault_31_a_large_transaction_is_told_in_little_memory_however_slowly_it_is_taken(
    synced: Followed, tmp_path: Path, rows: int, rate: float | None
) -> None:
    """Five million rows are measured by `python -m benchmarks`."""
    synced.database.execute(
        "INSERT INTO events SELECT '2024-01-01'::timestamptz + i * interval '1 microsecond', repeat('x', 200)"
        " FROM generate_series(1, %s) i",
        [rows],
    )
    catalog = synced.source().catalog("incremental", list(TABLES))

    ended = Connector(synced.config, tmp_path).read(
        catalog, synced.state, to_file=rate is None, bytes_per_second=rate
    )

    assert ended.exit_code == 0
    assert sum(b'"type":"RECORD"' in line for line in ended.lines()) == rows
    assert ended.peak_rss < MOST_MEMORY
