"""What comes in the frames of the replication protocol, and what is none of them."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from source_timescaledb.errors import DefectError
from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.replication import ReplicationStream

KEEPALIVE = struct.pack("!cQQ?", b"k", 77, 0, False)
CHANGE = b"w" + bytes(24) + b"B"


class Wire:
    """A connection, and libpq's part of it, on which these messages have come."""

    def __init__(self, *messages: bytes) -> None:
        self.pgconn = self
        self._messages = list(messages)

    def get_copy_data(self, _nonblocking: int) -> tuple[int, bytes]:
        message = self._messages.pop(0) if self._messages else b""
        return len(message), message


def stream(*messages: bytes) -> ReplicationStream:
    wire: Any = Wire(*messages)
    return ReplicationStream(wire, "slot", ["publication"], start=Lsn(0))


def test_changes_are_passed_on_and_keepalives_are_taken_note_of() -> None:
    ours = stream(CHANGE, KEEPALIVE, CHANGE)

    assert ours.drain() == [CHANGE, CHANGE]
    assert ours.position == 77


@pytest.mark.parametrize(
    "message", [b"w", CHANGE[:-1], b"k", KEEPALIVE[:-1], KEEPALIVE + b"x", b"x" + bytes(40)]
)
def test_what_is_no_frame_is_refused_and_not_told(message: bytes) -> None:
    with pytest.raises(DefectError, match="neither a change nor a keepalive"):
        stream(message).drain()
