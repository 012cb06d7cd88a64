"""The replication connection: all that the server has to say, as fast as it can say it, and nothing promised too early.

*Speed.* A client that always waits makes the server send, and wake it, for every message. So whoever drains takes all
that libpq has, naps for two milliseconds, and only then lets libpq read again, until the socket is empty: the server
fills the socket's buffers meanwhile. (Measured, rows of ten columns in transactions of 100: 220,000 rows a second so,
155,000 with a wait for each packet, 110,000 with `pg_recvlogical`; one read for each nap throttled it to 25,000.) But
not without end: libpq doubles its buffer each time it is full, and a server that keeps up would fill that, too. No
message is parsed here but keepalives, and none is held: a call returns about a megabyte at most, so the memory of a
transaction of millions of rows is its consumer's affair.

*What the server may forget* is told in status messages: exactly the position that was acknowledged, which is the one of
a state that a destination has kept. Nothing else moves it, least of all a keepalive. They are sent every second by a
thread of their own, asked or not, because a consumer that is busy elsewhere sees no request (measured: silent for 12
seconds with `wal_sender_timeout` at 4, the connection is lost; with unasked status messages all 120,000 rows came).

*What we may trust.* Each status asks for an answer, and the session sets its own `wal_sender_timeout`, at half of which
the server also looks up from decoding a large transaction of which it sends nothing. So a sound connection is never
silent for long, and one that is silent past the deadline is lost, whatever proxy still holds it open.

libpq's connection is not made for two threads: one lock guards every use, and nobody waits or naps while holding it.

Protocol: PostgreSQL manual, "Streaming Replication Protocol" and "Logical Replication Message Formats".
"""

from __future__ import annotations

import fcntl
import select
import struct
import termios
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final

import psycopg
from psycopg import errors, sql
from psycopg.pq import ExecStatus
from typing_extensions import Self

from source_timescaledb.errors import (
    REPORT_VERSIONS,
    ConfigurationError,
    ConnectorError,
    DefectError,
    TransientError,
)
from source_timescaledb.lsn import Lsn
from source_timescaledb.pgoutput.inserts import FRAME_BYTES
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.postgres.fitness import invalidated
from source_timescaledb.postgres.slot import (
    START_OVER,
    ChangesGoneError,
    UndecodableSlotError,
    answer,
    read_slot,
    slot_error,
)
from source_timescaledb.postgres.streaming import failure
from source_timescaledb.sqlstates import LOST, connector_error

NAP_SECONDS: Final = 0.002
MOST_READS: Final = 64
"""How often libpq may read from the socket before what it has is taken."""
MOST_READ: Final = 1 << 20
"""How much it may find there meanwhile, about."""
MOST_BYTES: Final = 1 << 20
"""How much one drain takes before it returns; some milliseconds of work under the lock."""
STATUS_SECONDS: Final = 1.0
DEADLINE_SECONDS: Final = 15.0
SERVER_SHARE: Final = 2 / 3
"""The server's own deadline as a part of ours: it speaks after half of it, at a third of ours."""
START_SECONDS: Final = 60.0
"""How long the server may take to find the slot and load the plugin."""

XLOG_DATA: Final = ord("w")
KEEPALIVE: Final = ord("k")
STATUS: Final = struct.Struct("!cQQQQ?")
"""Written, flushed and applied positions, the time, and whether an answer is wanted."""
KEEPALIVE_BODY: Final = struct.Struct("!xQQ?")
EPOCH_2000: Final = 946_684_800


class ReplicationStream:
    """The changes of a slot's database, from a position on; a context manager that ends with its connection closed.

    One thread drains. Any may acknowledge.
    """

    def __init__(
        self,
        connection: Connection,
        slot: str,
        publications: Sequence[str],
        *,
        start: Lsn,
        acknowledged: Lsn = Lsn(0),  # noqa: B008 - immutable
        deadline_seconds: float = DEADLINE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Describe a stream; a `with` block starts it.

        Args:
            connection: a `Session.REPLICATION` one, which is the stream's from now on.
            slot: the slot's name; `fitness.slot_problems` were none.
            publications: their names.
            start: transactions whose commit ends before it are not sent; the server raises it to `confirmed_flush`.
            acknowledged: what the server may forget already; 0 is nothing.
            deadline_seconds: how long a drained connection may be silent.
            clock: a monotonic clock in seconds.
            sleep: takes seconds.
        """
        self.slot = slot
        self._connection = connection
        self._server = connection.pgconn
        self._command = start_command(slot, start, publications)
        self._acknowledged = acknowledged
        self._deadline_seconds = deadline_seconds
        self._server_seconds = deadline_seconds * SERVER_SHARE
        self._clock = clock
        self._sleep = sleep
        self._position = Lsn(0)
        self._exhausted = False
        self._ended = False
        self._socket = select.poll()
        self._heard = clock()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._reporter = threading.Thread(target=self._report, name="replication status", daemon=True)

    def __repr__(self) -> str:
        return f"ReplicationStream({self.slot}, acknowledged {self._acknowledged})"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def position(self) -> Lsn:
        """How far the server has decoded, by its last keepalive; 0 before the first.

        Every change that committed before it was returned by a drain.
        """
        return self._position

    @property
    def acknowledged(self) -> Lsn:
        """What the server is told that it may forget."""
        return self._acknowledged

    def acknowledge(self, lsn: Lsn) -> None:
        """Let the server forget what lies before `lsn`; with the next status, and never taken back."""
        self._acknowledged = max(self._acknowledged, lsn)

    def drain(self) -> list[bytes]:
        """Take what has come, in order, about a megabyte at most; nothing if nothing has. Never waits but for its nap.

        Each is an XLogData message as it came: `w`, start and end position and time, eight bytes each, and from byte
        25 on one message of pgoutput. Call it again at once: it naps by itself when there was no more.

        Raises:
            UndecodableSlotError: the server fails at what comes next, and will again.
            ChangesGoneError: the server has no longer what the slot needs.
            TransientError: the connection was lost, or was silent past the deadline.
            DefectError: what came is no message of the protocol.
            ConnectorError: as the server's reason deserves.
        """
        if self._exhausted:
            self._sleep(NAP_SECONDS)
        try:
            with self._lock:
                if self._ended:
                    raise self._last_word()
                has_looked = self._exhausted
                if has_looked:
                    self._read()
                messages = self._take()
        except psycopg.Error as error:
            raise self._broken(error) from None
        if (
            has_looked and not messages
        ):  # whoever comes back late finds silence only where nothing has come since
            self._check_silence()
        return messages

    def close(self) -> None:
        """Tell the server once more what is acknowledged, and hang up, which frees the slot."""
        self._closing.set()
        if self._reporter.ident is not None:
            self._reporter.join()
        with suppress(psycopg.Error):
            self._tell_status()
        self._connection.close()

    def _start(self) -> None:
        doing = f"Starting to read the replication slot {self.slot}"
        try:
            self._connection.execute(f"SET wal_sender_timeout = {int(self._server_seconds * 1000)}".encode())
            self._server.send_query(self._command)
            result = answer(self._server, seconds=START_SECONDS, clock=self._clock, sleep=self._sleep)
            if result is None:
                raise TransientError(
                    f"{doing} took longer than {START_SECONDS:g} seconds.", remedy=LOST.remedy
                )
            if result.status != ExecStatus.COPY_BOTH:
                raise self._refused(failure(result), doing)
            self._tell_status()
        except psycopg.Error as error:
            raise connector_error(error, doing) from None
        self._socket.register(self._server.socket, select.POLLIN)
        self._heard = self._clock()
        self._reporter.start()

    def _read(self) -> None:
        """Let libpq read until the socket is empty, or enough was read."""
        size = 0
        for turn in range(MOST_READS):
            if self._socket.poll(0):
                self._heard = self._clock()
            elif turn:
                break
            size += _waiting(self._server.socket)
            # What OpenSSL has decrypted already shows on no socket, so the first time it reads in any case.
            self._server.consume_input()
            if size >= MOST_READ:
                break

    def _take(self) -> list[bytes]:
        """Take from libpq what it has."""
        messages: list[bytes] = []
        size = 0
        take = self._server.get_copy_data
        while size < MOST_BYTES:
            length, data = take(1)
            if length <= 0:
                self._exhausted = True
                self._ended = length < 0
                return messages
            message = bytes(data)
            if length > FRAME_BYTES and message[0] == XLOG_DATA:
                messages.append(message)
                size += length
            elif length == KEEPALIVE_BODY.size and message[0] == KEEPALIVE:
                self._on_keepalive(message)
            else:
                raise DefectError(
                    "The server sent what is neither a change nor a keepalive.", remedy=REPORT_VERSIONS
                )
        self._exhausted = False
        return messages

    def _on_keepalive(self, message: bytes) -> None:
        self._heard = self._clock()
        end, _, wants_answer = KEEPALIVE_BODY.unpack_from(message)
        self._position = Lsn(end)
        if wants_answer:
            self._put_status()

    def _check_silence(self) -> None:
        if self._clock() - self._heard >= self._deadline_seconds and not self._ended:
            raise TransientError(
                f"The server has been silent on the replication connection for {self._deadline_seconds:g} seconds.",
                remedy=LOST.remedy,
            )

    def _report(self) -> None:
        """Send the status on time, until the stream ends or the connection is lost: whoever drains meets the same."""
        with suppress(psycopg.Error):
            while not self._closing.wait(min(STATUS_SECONDS, self._server_seconds / 5)):
                self._tell_status()

    def _tell_status(self) -> None:
        with self._lock:
            if not self._ended:
                self._put_status()

    def _put_status(self) -> None:
        """Send the status; the lock is held. The socket does not block: what does not fit goes with the next."""
        lsn = self._acknowledged
        microseconds = int((time.time() - EPOCH_2000) * 1_000_000)
        self._server.put_copy_data(STATUS.pack(b"r", lsn, lsn, lsn, microseconds, True))
        self._server.flush()

    def _last_word(self) -> psycopg.Error:
        """Why the server ended the stream."""
        result = self._server.get_result()
        if result is None or result.status != ExecStatus.FATAL_ERROR:
            return psycopg.OperationalError("the server ended the stream")
        return failure(result)

    def _refused(self, error: psycopg.Error, doing: str) -> ConnectorError:
        """Why the stream was not started; a slot that was invalidated is known by its facts, not by the refusal."""
        if isinstance(error, errors.ObjectNotInPrerequisiteState):
            slot = read_slot(self._connection, self.slot)
            if slot is not None and slot.invalidation_reason:
                return invalidated(slot)
        return slot_error(error, doing)

    def _broken(self, error: psycopg.Error) -> ConnectorError:
        """What an error in mid-stream means."""
        self._ended = True
        plain = connector_error(error, f"Reading the replication slot {self.slot}")
        match error.sqlstate:
            case "XX000":
                return UndecodableSlotError(
                    plain.message,
                    remedy=f"The slot cannot be read past this point, whoever tries. {START_OVER}",
                    detail=plain.detail,
                )
            case "58P01":
                return ChangesGoneError(plain.message, remedy=START_OVER, detail=plain.detail)
            case "42704":
                return ConfigurationError(
                    plain.message,
                    remedy="Create what is missing. If it is a publication that exists, it was made after the slot, "
                    f"which therefore cannot be read. {START_OVER}",
                    detail=plain.detail,
                )
            case _:
                return plain


def _waiting(socket: int) -> int:
    """How many bytes wait in a socket."""
    (size,) = struct.unpack("i", fcntl.ioctl(socket, termios.FIONREAD, bytes(4)))
    return int(size)


def start_command(slot: str, start: Lsn, publications: Sequence[str]) -> bytes:
    """The command that starts the stream: protocol 1, which sends a transaction when it has committed; values as text.

    The replication grammar knows no escape strings: a backslash in a constant is a backslash.
    """
    names = ", ".join(sql.Identifier(name).as_string(None) for name in publications)
    constant = names.replace("'", "''")
    quoted_slot = sql.Identifier(slot).as_string(None)
    return (
        f"START_REPLICATION SLOT {quoted_slot} LOGICAL {start}"
        f" (proto_version '1', publication_names '{constant}', messages 'true')"
    ).encode()
