"""Unix sockets to the destination, each fed by a thread of its own, all from one place.

The source listens and the destination connects, at its own time; nothing is written to a socket before. What is given
out goes to the connected socket that has the least to send, and at most `LANE_BYTES` wait at each, so that memory stays
flat when the destination is slower than the database. A piece is whole lines and one socket's alone, so lines are never
torn; between sockets there is no order. What needs one (changes, and whatever is said of the rows) goes through the first
socket, after everything that went through it before.

A socket that has nothing to send for a while gets an empty line, the probe of the data channel: it shows that the other
side still reads. A side that has gone ends the sync: the next call here raises.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from source_timescaledb.errors import TransientError

LANE_BYTES: Final = 4 * 1024 * 1024
CONNECT_SECONDS: Final = 600.0
"""A destination may take its time to start; Airbyte itself gives up on a job that is silent for longer."""
PROBE_SECONDS: Final = 5.0
PROBE: Final = b"\n"
_LOOK_SECONDS: Final = 0.1


class ReceiverGone(TransientError):  # noqa: N818 - the field's own word would be a class of the standard library
    """The destination does not read from its sockets, or not any more."""

    def __init__(self, message: str) -> None:
        super().__init__(message, remedy="Look into the destination's log for the reason; then sync again.")


class Lane:
    """One socket and what waits for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connected = False
        self.pieces: deque[bytes] = deque()
        self.unsent = 0
        self._listener = _listening(path)

    def has_room_for(self, piece: bytes) -> bool:
        """Whether the piece may wait here, too; one that is larger than the room may wait alone."""
        return not self.unsent or self.unsent + len(piece) <= LANE_BYTES

    def put(self, piece: bytes) -> None:
        """Let a piece wait."""
        self.pieces.append(piece)
        self.unsent += len(piece)

    def accept(self, waiting: Callable[[], bool]) -> socket.socket | None:
        """The connection, once there is one; None if nobody came while there was reason to wait."""
        with self._listener as listener:
            listener.settimeout(_LOOK_SECONDS)
            while waiting():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                connection.setblocking(True)
                return connection
        return None


class Lanes:
    """All sockets of a sync, listening from the start; `stopped` and `clock`, in seconds, as everywhere."""

    def __init__(
        self, paths: Sequence[Path], stopped: Callable[[], bool], clock: Callable[[], float]
    ) -> None:
        self._stopped = stopped
        self._clock = clock
        self._deadline = clock() + CONNECT_SECONDS
        self._changed = threading.Condition()
        self._closing = False
        self._failure: ReceiverGone | None = None
        self._lanes = [Lane(path) for path in paths]
        self._threads = [
            threading.Thread(target=self._feed, args=(lane,), name=f"socket-{lane.path.name}", daemon=True)
            for lane in self._lanes
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        return len(self._lanes)

    def give(self, piece: bytes) -> None:
        """Send whole lines through whichever socket has room. Raises ReceiverGone."""
        self._put(piece, self._lanes)

    def give_in_order(self, piece: bytes) -> None:
        """Send whole lines after everything that was sent in order before. Raises ReceiverGone."""
        self._put(piece, self._lanes[:1])

    def flush(self) -> None:
        """Wait until everything is in the hands of the system. Raises ReceiverGone."""
        with self._changed:
            self._await(lambda: not any(lane.unsent for lane in self._lanes))

    def close(self, *, patiently: bool) -> None:
        """Send what is left, show the readers the end, and leave no socket behind.

        A destination connects to all sockets: those that it has not come to yet wait for it, so that it finds an end and
        not a refusal, unless there is something more urgent to say. Raises ReceiverGone if it is waited for in vain.
        """
        try:
            self.flush()
            if patiently:
                with self._changed:
                    self._await_connected(self._lanes, all)
                    self._await(lambda: True)
        except ReceiverGone:
            if patiently:
                raise
        finally:
            self._end()

    def _end(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=1)
        for lane in self._lanes:
            lane.path.unlink(missing_ok=True)

    def _put(self, piece: bytes, lanes: Sequence[Lane]) -> None:
        def with_room() -> list[Lane]:
            return [lane for lane in lanes if lane.connected and lane.has_room_for(piece)]

        with self._changed:
            self._await_connected(lanes, any)
            self._await(lambda: bool(with_room()))
            min(with_room(), key=lambda lane: lane.unsent).put(piece)
            self._changed.notify_all()

    def _await(self, condition: Callable[[], bool]) -> None:
        """Wait, with the lock held, for something that the feeding threads bring about."""
        self._changed.wait_for(lambda: self._failure is not None or condition())
        if self._failure is not None:
            raise self._failure

    def _await_connected(self, lanes: Sequence[Lane], enough: Callable[[Iterable[bool]], bool]) -> None:
        """Wait, with the lock held, for the destination, unless the sync is stopped or it takes too long."""
        while self._failure is None and not enough(lane.connected for lane in lanes):
            if self._stopped() or self._clock() >= self._deadline:
                missing = ", ".join(str(lane.path) for lane in lanes if not lane.connected)
                raise ReceiverGone(f"The destination has not connected to {missing}.")
            self._changed.wait(_LOOK_SECONDS)

    def _feed(self, lane: Lane) -> None:
        """What a lane's thread does: wait for the reader, then send until the end."""
        try:
            connection = lane.accept(lambda: not self._closing)
            if connection is None:
                return
            with connection:
                self._note(lane)
                while (piece := self._next(lane)) is not None:
                    connection.sendall(piece)
                    self._note(lane, sent=len(piece))
        except OSError as error:
            with self._changed:
                self._failure = ReceiverGone(
                    f"The destination does not read from {lane.path} any more: {error.strerror}."
                )
                self._changed.notify_all()

    def _next(self, lane: Lane) -> bytes | None:
        """What to send next: the probe where nothing came for long, None at the end."""
        with self._changed:
            if not self._changed.wait_for(lambda: lane.pieces or self._closing, PROBE_SECONDS):
                lane.put(PROBE)
            return lane.pieces.popleft() if lane.pieces else None

    def _note(self, lane: Lane, *, sent: int = 0) -> None:
        """That a lane is connected and has sent so many bytes more."""
        with self._changed:
            lane.connected = True
            lane.unsent -= sent
            self._changed.notify_all()


def _listening(path: Path) -> socket.socket:
    """A socket at a path, whatever a process before left there."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    return listener
