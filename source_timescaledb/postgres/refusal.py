"""What the server said when it did not let us in.

When a login fails, libpq keeps the server's text and throws its SQLSTATE away (psycopg's `sqlstate` is None
then), and the text is in the server's language. But libpq can record the protocol messages of a connection
(PQtrace), and the record has the code: `ErrorResponse ... C "28P01" M "..."`. So after a failed login it is
tried once more with such a record. The record lives in memory only, is read for these two fields and then
gone, because it may also hold the password. Where recording is not possible (psycopg offers it on Linux),
nothing is learned, and the failure counts as transient.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

ERROR_RESPONSE: Final = re.compile(
    rb'\tErrorResponse\t.*? C "([0-9A-Z]{5})" M "(.*?)"(?: [A-Za-z] "|\s*\\x00|\s*$)',
    re.DOTALL | re.MULTILINE,
)
RECORDED_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Refusal:
    """The code and the primary message with which the server refused."""

    sqlstate: str
    message: str


PASSWORD_MISSING: Final = Refusal("28P01", "the server asks for a password and none is configured")


@dataclass(frozen=True, slots=True)
class Unspoken:
    """libpq did not even begin to speak, so a parameter is one that it cannot use."""


Answer = Refusal | Unspoken | None


def ask_again(parameters: Mapping[str, Any], *, clock: Callable[[], float] = time.monotonic) -> Answer:
    """Try a failed login once more and return the answer, or None where we are let in or nothing is said.

    Args:
        parameters: libpq's parameters, with `connect_timeout` in seconds.
        clock: a monotonic clock in seconds.
    """
    deadline = clock() + max(float(parameters["connect_timeout"]), 2.0)
    try:
        connection = pq.PGconn.connect_start(make_conninfo("", **parameters).encode())
    except psycopg.ProgrammingError:
        return Unspoken()
    if connection.status == pq.ConnStatus.BAD:
        return Unspoken()
    try:
        record = _recorded_login(connection, deadline, clock)
        return PASSWORD_MISSING if connection.needs_password else _refusal(record)
    except psycopg.NotSupportedError:
        return None
    finally:
        connection.finish()


def _recorded_login(connection: pq.abc.PGconn, deadline: float, clock: Callable[[], float]) -> bytes:
    record = os.memfd_create("handshake")
    try:
        connection.trace(record)
        connection.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS | pq.Trace.REGRESS_MODE)
        _log_in(connection, deadline, clock)
        connection.untrace()
        return os.pread(record, RECORDED_BYTES, 0)
    finally:
        os.close(record)


def _log_in(connection: pq.abc.PGconn, deadline: float, clock: Callable[[], float]) -> None:
    while connection.status != pq.ConnStatus.BAD and clock() < deadline:
        match connection.connect_poll():
            case pq.PollingStatus.READING:
                awaited = select.POLLIN
            case pq.PollingStatus.WRITING:
                awaited = select.POLLOUT
            case _:
                return
        poll = select.poll()
        poll.register(connection.socket, awaited)
        poll.poll(max(0.0, deadline - clock()) * 1000)


def _refusal(record: bytes) -> Refusal | None:
    """Find the last refusal: before it libpq may have tried another address, or with TLS and then without."""
    said = ERROR_RESPONSE.findall(record)
    return Refusal(said[-1][0].decode(), said[-1][1].decode(errors="replace")) if said else None
