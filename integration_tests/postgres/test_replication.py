"""The replication stream: everything in order, in bounded memory, kept alive, and never acknowledged too far."""

from __future__ import annotations

import secrets
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from typing import NamedTuple

import psutil
import pytest

from integration_tests.postgres.test_connection import settings
from source_timescaledb.errors import ConfigurationError, TransientError
from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres import replication
from source_timescaledb.postgres.barrier import emit_fence, start_position
from source_timescaledb.postgres.connection import Connection, Session, open_connection
from source_timescaledb.postgres.replication import ReplicationStream
from source_timescaledb.postgres.slot import (
    SlotActiveError,
    SlotInvalidatedError,
    UndecodableSlotError,
    create_slot,
    drop_slot,
    read_slot,
)
from testkit.database import Database
from testkit.proxy import Proxy
from testkit.roots import Root
from testkit.server import Server

HEADER = struct.Struct("!cQQQ")
INSERTED_KEY = struct.Struct("!cIcHcI")
"""Of a pgoutput Insert up to the length of its first column: tag, relation, N, columns, t, length."""


class Source(NamedTuple):
    """A database with a table `t`, a publication `p` of it and a slot that stands before all that follows."""

    database: Database
    writing: Connection
    slot: str
    start: Lsn

    def connect(self, port: int | None = None) -> Connection:
        port = port or self.database.cluster.address.port
        return open_connection(settings(self.database, port=port), "stream", Session.REPLICATION)

    def stream(
        self, *, deadline_seconds: float = 15.0, acknowledged: Lsn | None = None, port: int | None = None
    ) -> ReplicationStream:
        return ReplicationStream(
            self.connect(port),
            self.slot,
            ["p"],
            start=self.start,
            acknowledged=acknowledged or Lsn(0),
            deadline_seconds=deadline_seconds,
        )

    def insert(self, first: int, last: int) -> None:
        self.database.execute(
            "INSERT INTO t SELECT i, repeat('v', 60) FROM generate_series(%s::int, %s::int) i", [first, last]
        )

    @property
    def confirmed(self) -> Lsn:
        slot = read_slot(self.writing, self.slot)
        assert slot is not None
        assert slot.confirmed_flush is not None
        return slot.confirmed_flush


def make_slot(database: Database, writing: Connection, name: str) -> Lsn:
    with open_connection(settings(database), "make", Session.REPLICATION) as making:
        return create_slot(making, writing, name, seconds=60, clock=time.monotonic, sleep=time.sleep)


def furnish(database: Database) -> None:
    database.grant_replication()
    database.execute("CREATE TABLE t (id int PRIMARY KEY, note text)")
    database.execute("CREATE PUBLICATION p FOR TABLE t")


@pytest.fixture
def source(database: Database) -> Iterator[Source]:
    furnish(database)
    name = f"slot_of_{database.name}"
    with open_connection(settings(database), "write", Session.WRITING) as writing:
        make_slot(database, writing, name)
        start = start_position(writing, seconds=60, clock=time.monotonic, sleep=time.sleep)
        yield Source(database, writing, name, start)
        eventually(lambda: dropped(writing, name))


def dropped(connection: Connection, name: str) -> bool:
    try:
        drop_slot(connection, name)
    except SlotActiveError:
        return False
    return True


def eventually(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def until_fence(source: Source, stream: ReplicationStream) -> list[bytes]:
    """All messages up to the commit of a fence that is written now, the second last of them."""
    content = secrets.token_hex(8)
    emit_fence(source.writing, content)
    messages: list[bytes] = []
    while not (len(messages) > 1 and messages[-2].endswith(content.encode())):
        messages += stream.drain()
    return messages


def drain_for_ever(stream: ReplicationStream) -> None:
    while True:
        stream.drain()


def key(message: bytes) -> int:
    """The first column of an Insert."""
    *_, length = INSERTED_KEY.unpack_from(message, 25)
    start = 25 + INSERTED_KEY.size
    return int(message[start : start + length])


def keys(messages: list[bytes]) -> list[int]:
    return [key(message) for message in messages if message[25:26] == b"I"]


def end_lsn(commit: bytes) -> Lsn:
    """The end of the transaction that a Commit message ends."""
    return Lsn(*struct.unpack_from("!Q", commit, 25 + 1 + 1 + 8))


def test_messages_come_as_they_are_and_in_order(source: Source) -> None:
    with source.stream() as stream:
        source.insert(1, 3)
        messages = until_fence(source, stream)

    assert [message[25:26] for message in messages] == [b"B", b"R", b"I", b"I", b"I", b"C", b"B", b"M", b"C"]
    assert {message[:1] for message in messages} == {b"w"}
    assert keys(messages) == [1, 2, 3]
    positions = [HEADER.unpack_from(message)[1] for message in messages if message[25:26] == b"I"]
    assert positions == sorted(positions)
    assert positions[0] > source.start


@pytest.mark.any_server
def test_a_large_transaction_is_drained_in_order_and_in_little_memory(source: Source) -> None:
    process = psutil.Process()
    source.insert(1, 200_000)
    emit_fence(source.writing, "fence")
    with source.stream() as stream:
        before = process.memory_info().rss
        peak, expected, largest, fenced = before, 1, 0, False
        while not fenced:
            messages = stream.drain()
            for found in keys(messages):
                assert found == expected
                expected += 1
            largest = max(largest, sum(map(len, messages)))
            peak = max(peak, process.memory_info().rss)
            fenced = any(message[25:26] == b"M" for message in messages)

    assert expected == 200_001
    assert largest <= replication.MOST_BYTES + 1000
    assert peak - before < 32 * 2**20


@pytest.mark.any_server
def test_a_stream_that_nobody_drains_outlives_the_server_patience(source: Source) -> None:
    with source.stream(deadline_seconds=3) as stream:
        source.insert(1, 100_000)
        time.sleep(6)

        assert keys(until_fence(source, stream)) == list(range(1, 100_001))


@pytest.mark.any_server
def test_an_idle_stream_is_not_taken_for_a_silent_one(source: Source) -> None:
    with source.stream(deadline_seconds=3) as stream:
        ends = time.monotonic() + 6
        while time.monotonic() < ends:
            assert stream.drain() == []

        source.insert(1, 1)
        assert keys(until_fence(source, stream)) == [1]


@pytest.mark.any_server
def test_a_link_that_swallows_everything_is_noticed(source: Source) -> None:
    address = source.database.cluster.address
    with (
        Proxy(address.host, address.port) as proxy,
        source.stream(deadline_seconds=1.5, port=proxy.port) as stream,
    ):
        stream.drain()
        proxy.blackhole()

        with pytest.raises(TransientError, match="silent on the replication connection for"):
            drain_for_ever(stream)


@pytest.mark.any_server
@pytest.mark.parametrize("how", ["cut", "reset"])
def test_a_link_that_breaks_is_noticed(source: Source, how: str) -> None:
    address = source.database.cluster.address
    with Proxy(address.host, address.port) as proxy, source.stream(port=proxy.port) as stream:
        stream.drain()
        getattr(proxy, how)()

        with pytest.raises(
            TransientError, match=f"{source.slot} failed: the connection to the server was lost"
        ):
            drain_for_ever(stream)


def test_a_terminated_stream_can_be_started_again_and_loses_nothing(source: Source) -> None:
    with source.stream() as stream:
        source.insert(1, 10)
        source.database.as_superuser().execute(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = %s",
            [source.slot],
        )
        with pytest.raises(TransientError):
            drain_for_ever(stream)

    with source.stream() as again:
        assert keys(until_fence(source, again)) == list(range(1, 11))


def test_the_slot_is_confirmed_to_exactly_what_was_acknowledged(source: Source) -> None:
    with source.stream() as stream:
        source.insert(1, 5)
        acknowledged = next(
            end_lsn(message) for message in until_fence(source, stream) if message[25:26] == b"C"
        )
        source.insert(6, 10)
        until_fence(source, stream)

        stream.acknowledge(acknowledged)
        eventually(lambda: source.confirmed == acknowledged)
        eventually(lambda: bool(stream.drain()) or stream.position > acknowledged)
        stream.acknowledge(Lsn(1))

    assert stream.acknowledged == acknowledged
    assert source.confirmed == acknowledged


def test_what_was_acknowledged_reaches_the_server_when_the_stream_closes(source: Source) -> None:
    with source.stream() as stream:
        source.insert(1, 5)
        acknowledged = end_lsn(until_fence(source, stream)[-1])
        stream.acknowledge(acknowledged)

    eventually(lambda: source.confirmed == acknowledged)


def test_without_an_acknowledgement_nothing_is_confirmed_whatever_is_read(source: Source) -> None:
    before = source.confirmed
    with source.stream() as stream:
        source.insert(1, 5)
        last = end_lsn(until_fence(source, stream)[-1])
        eventually(lambda: bool(stream.drain()) or stream.position >= last)

    with source.stream() as again:
        assert keys(until_fence(source, again)) == [1, 2, 3, 4, 5]
    assert source.confirmed == before


@pytest.mark.any_server
def test_the_position_follows_writes_that_are_not_published(source: Source) -> None:
    source.database.execute("CREATE TABLE other (a int)")
    with source.stream() as stream:
        source.database.execute("INSERT INTO other SELECT generate_series(1, 1000)")
        written = Lsn.parse(source.database.value("SELECT pg_current_wal_flush_lsn()::text"))
        messages: list[bytes] = []

        def reached() -> bool:
            messages.extend(stream.drain())
            return stream.position >= written

        eventually(reached)

    assert keys(messages) == []


def test_closing_frees_the_slot(source: Source) -> None:
    with source.stream():
        assert source.database.value("SELECT count(*) FROM pg_replication_slots WHERE active") == 1

    eventually(lambda: source.database.value("SELECT count(*) FROM pg_replication_slots WHERE active") == 0)


def test_a_slot_that_another_process_reads_is_transient_and_its_reader_is_named(source: Source) -> None:
    with closing(source.connect()) as first:
        pid = first.info.backend_pid
        with ReplicationStream(first, source.slot, ["p"], start=source.start):
            second = source.stream()
            with pytest.raises(SlotActiveError, match=f"PID {pid}"), second:
                pass


def test_a_missing_slot_is_a_configuration_error(source: Source) -> None:
    stream = ReplicationStream(source.connect(), "nowhere", ["p"], start=source.start)

    with pytest.raises(ConfigurationError, match='"nowhere" does not exist'), stream:
        pass


def test_a_publication_with_any_name_can_be_read(source: Source) -> None:
    odd = 'it\'s "odd", \\ 100 % süß'
    quoted = odd.replace('"', '""')
    source.database.execute(f'CREATE PUBLICATION "{quoted}" FOR TABLE t'.encode())
    since = emit_fence(source.writing, "after the publication")
    with ReplicationStream(source.connect(), source.slot, ["p", odd], start=since) as stream:
        source.insert(1, 2)
        messages = until_fence(source, stream)

    assert keys(messages) == [1, 2]


def test_a_missing_publication_is_a_configuration_error_where_the_server_tells(source: Source) -> None:
    source.insert(1, 1)
    silent = source.writing.info.server_version >= 180_000
    told: AbstractContextManager[object] = (
        nullcontext() if silent else pytest.raises(ConfigurationError, match='"nowhere" does not exist')
    )
    messages: list[bytes] = []
    with ReplicationStream(source.connect(), source.slot, ["nowhere"], start=source.start) as stream, told:
        messages = until_fence(source, stream)

    assert keys(messages) == []
    assert bool(messages) == silent


def test_an_invalidated_slot_is_recognised_and_the_setting_named(root: Root) -> None:
    limits = {"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}
    with Server(root, settings=limits) as server, server.database() as database:
        furnish(database)
        with open_connection(settings(database), "write", Session.WRITING) as writing:
            start = make_slot(database, writing, "lost")
            source = Source(database, writing, "lost", start)
            superuser = database.as_superuser()
            for _ in range(5):
                superuser.execute("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000))")
                superuser.execute("SELECT pg_switch_wal()")
            superuser.execute("CHECKPOINT")
            stream = source.stream()

            with pytest.raises(SlotInvalidatedError, match="max_slot_wal_keep_size"), stream:
                pass


def waits_for(connection: Connection, waiting: int, blocker: int) -> bool:
    row = connection.execute("SELECT %s = ANY(pg_blocking_pids(%s))", [blocker, waiting]).fetchone()
    return row == (True,)


def slot_made_while_a_chunk_is_born(database: Database, writing: Connection, name: str) -> None:
    """The sequence of the trial runs (hole 1) whose last commit a fresh slot cannot decode."""
    database.execute("CREATE TABLE metrics (time timestamptz NOT NULL, value int)")
    database.execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')")
    with (
        database.connect() as first,
        database.connect() as second,
        database.connect() as third,
        closing(open_connection(settings(database), "make", Session.REPLICATION)) as making,
        ThreadPoolExecutor() as threads,
    ):
        first.execute("SELECT pg_current_xact_id()")
        made = threads.submit(
            create_slot, making, writing, name, seconds=60, clock=time.monotonic, sleep=time.sleep
        )
        pid = making.info.backend_pid
        eventually(lambda: waits_for(database.as_superuser(), pid, first.info.backend_pid))
        second.execute("SELECT pg_current_xact_id()")
        first.execute("SAVEPOINT born")
        first.execute("INSERT INTO metrics VALUES ('2024-01-01', 1)")
        first.execute("RELEASE born")
        first.commit()
        eventually(lambda: waits_for(database.as_superuser(), pid, second.info.backend_pid))
        third.execute("INSERT INTO metrics VALUES ('2024-01-01', 2)")
        second.commit()
        made.result(timeout=60)
        third.commit()


@pytest.fixture
def poisoned(database: Database) -> Iterator[Source]:
    """A slot that cannot decode what comes next."""
    furnish(database)
    name = f"slot_of_{database.name}"
    with open_connection(settings(database), "write", Session.WRITING) as writing:
        slot_made_while_a_chunk_is_born(database, writing, name)
        yield Source(database, writing, name, Lsn(0))
        eventually(lambda: dropped(writing, name))


def test_a_slot_made_while_a_chunk_was_born_is_recognised_as_undecodable(poisoned: Source) -> None:
    with poisoned.stream() as stream, pytest.raises(UndecodableSlotError, match="SQLSTATE XX000"):
        until_fence(poisoned, stream)


@pytest.mark.parametrize("temporary", [True, False])
def test_the_start_guard_makes_such_a_slot_readable(poisoned: Source, temporary: bool) -> None:
    if not temporary:
        poisoned.database.as_superuser().execute(
            f"REVOKE TEMPORARY ON DATABASE {poisoned.database.name} FROM {poisoned.database.reader}".encode()
        )
    start = start_position(poisoned.writing, seconds=60, clock=time.monotonic, sleep=time.sleep)
    poisoned.database.execute("INSERT INTO metrics VALUES ('2024-01-01', 3)")
    poisoned.insert(1, 1)

    with poisoned._replace(start=start).stream() as stream:
        assert keys(until_fence(poisoned, stream)) == [1]
