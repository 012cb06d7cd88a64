"""Changes between two positions: the server takes any that it is asked for, and says nothing of what it leaves out.

The connector compares what its state remembers with the slot, the server and the publication before it reads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from integration_tests.cdc.aggregates import ending_well
from integration_tests.cdc.conftest import PUBLICATION, Followed
from source_timescaledb.lsn import Lsn

CREATE_SLOT = "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')"
BEYOND = "F/0"
KEEPALIVE = struct.Struct("!cQQ?")
STATUS = struct.Struct("!cQQQQ?")


@pytest.mark.any_server
def test_trap_10_a_stream_may_begin_past_the_end_of_the_log_and_skips_up_to_there(followed: Followed) -> None:
    database = followed.database
    followed.publish("parts")
    ending_well(followed.sync("parts"))
    slot = f"naive_{database.name}"
    database.as_superuser().execute(CREATE_SLOT, [slot])
    with closing(
        psycopg.connect(database.conninfo("owner", replication="database"), autocommit=True)
    ) as naive:
        start = f"START_REPLICATION SLOT {slot} LOGICAL {BEYOND} (proto_version '1', publication_names '{PUBLICATION}')"
        naive.pgconn.send_query(start.encode())
        result = naive.pgconn.get_result()
        assert result is not None
        assert result.status == ExecStatus.COPY_BOTH, "it is accepted"
        database.execute("INSERT INTO parts VALUES (1, 'now')")
        end = Lsn.parse(database.value("SELECT pg_current_wal_lsn()::text"))
        assert [kind for kind in sent_up_to(naive.pgconn, end) if kind != b"k"] == []
    followed.state[0]["global"]["shared_state"]["lsn"] = BEYOND

    ended = followed.sync("parts")

    (error,) = ended.errors
    assert (ended.records, error["failure_type"]) == ({}, "config_error")
    assert "set back" in error["message"]


def sent_up_to(connection: PGconn, end: Lsn) -> Iterator[bytes]:
    """The kinds of messages until the server says that it has sent everything up to a position."""
    connection.put_copy_data(STATUS.pack(b"r", 0, 0, 0, 0, True))
    connection.flush()
    while True:
        _, data = connection.get_copy_data(0)
        kind = bytes(data[:1])
        yield kind
        if kind == b"k":
            if KEEPALIVE.unpack(data)[1] >= end:
                return
            connection.put_copy_data(STATUS.pack(b"r", 0, 0, 0, 0, True))
            connection.flush()


def test_trap_32_a_slot_that_is_older_than_its_publication_fails_or_loses_what_lies_between(
    followed: Followed,
) -> None:
    """Up to PostgreSQL 17 it fails at the first change; from 18 on it goes on without it."""
    database, superuser = followed.database, followed.database.as_superuser()
    superuser.execute(CREATE_SLOT, [followed.slot])
    superuser.execute(CREATE_SLOT, [f"naive_{database.name}"])
    database.execute("INSERT INTO parts VALUES (1, 'before the publication')")
    database.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE parts".encode())
    database.execute("INSERT INTO parts VALUES (2, 'after it')")
    changes = (
        "SELECT count(*) FILTER (WHERE substr(data, 1, 1) = 'I') FROM pg_logical_slot_get_binary_changes"
    )
    options = "(%s, NULL, NULL, 'proto_version', '1', 'publication_names', %s)"
    naive = [f"naive_{database.name}", PUBLICATION]
    if database.cluster.postgres < 18:
        with pytest.raises(
            psycopg.errors.UndefinedObject, match=f'publication "{PUBLICATION}" does not exist'
        ):
            superuser.execute((changes + options).encode(), naive)
    else:
        assert superuser.execute((changes + options).encode(), naive).fetchone() == (1,), "of two"

    ending_well(followed.sync("parts"))

    followed.mirrors("parts")
    database.execute(f"DROP PUBLICATION {PUBLICATION}".encode())
    database.execute("INSERT INTO parts VALUES (3, 'between two')")
    database.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE parts".encode())
    ended = followed.sync("parts")
    assert ended.records == {}
    assert "was made again since the last sync" in ended.errors[0]["message"]
