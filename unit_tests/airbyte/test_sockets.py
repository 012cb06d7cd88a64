"""Pieces go over several sockets, whole, and nobody waits for nothing."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest

from source_timescaledb.airbyte import sockets
from source_timescaledb.airbyte.sockets import LANE_BYTES, Lanes, ReceiverGone
from testkit.sockets import Receiver


@pytest.fixture
def receiver() -> Receiver:
    """Three sockets, which nobody reads before `with`."""
    return Receiver(3)


def opened(receiver: Receiver, *, stopped: bool = False, clock: Iterator[float] | None = None) -> Lanes:
    return Lanes(receiver.paths, lambda: stopped, time.monotonic if clock is None else lambda: next(clock))


def give_for_ever(lanes: Lanes) -> NoReturn:
    while True:
        lanes.give(bytes(65536))


def numbered(start: int, count: int) -> list[bytes]:
    return [b"%d\n" % number for number in range(start, start + count)]


def test_every_piece_arrives_once_and_whole(receiver: Receiver) -> None:
    lanes = opened(receiver)
    with receiver:
        for start in range(0, 30_000, 100):
            lanes.give(b"".join(numbered(start, 100)))
        lanes.close(patiently=True)
        heard = [list(output.lines()) for output in receiver.outputs()]

    assert sorted(line for lines in heard for line in lines) == sorted(numbered(0, 30_000))


def test_a_piece_goes_where_there_is_room(receiver: Receiver) -> None:
    lanes = opened(receiver)
    piece = bytes(LANE_BYTES)

    with ExitStack() as stack:
        connections = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in receiver.paths]
        for connection, path in zip(connections, receiver.paths, strict=True):
            connection.connect(str(path))
        for _ in connections:
            lanes.give(piece)
        first = [connection.recv(1) for connection in connections]
    lanes.close(patiently=False)

    assert first == [b"\0"] * len(connections)


def test_pieces_given_in_order_arrive_in_order(receiver: Receiver) -> None:
    lanes = opened(receiver)
    with receiver:
        for piece in numbered(0, 500):
            lanes.give_in_order(piece)
            lanes.give(b"x\n")
        lanes.close(patiently=True)
        first, *_ = receiver.outputs()

    assert [line for line in first.lines() if line != b"x\n"] == numbered(0, 500)


def test_a_destination_may_come_late(receiver: Receiver) -> None:
    lanes = opened(receiver)
    giving = threading.Thread(target=lanes.give, args=(b"1\n",))
    giving.start()

    with receiver:
        giving.join()
        lanes.close(patiently=True)
        heard = list(receiver.together().lines())

    assert heard == [b"1\n"]


def test_no_socket_is_left_behind(receiver: Receiver) -> None:
    lanes = opened(receiver)
    with receiver:
        lanes.close(patiently=True)

        assert not any(path.exists() for path in receiver.paths)


def test_a_file_that_was_left_behind_is_replaced(receiver: Receiver) -> None:
    receiver.paths[0].touch()

    lanes = opened(receiver)

    with receiver:
        lanes.give_in_order(b"1\n")
        lanes.close(patiently=True)
        assert list(receiver.together().lines()) == [b"1\n"]


def test_a_reader_that_is_slow_holds_up_the_giver(receiver: Receiver) -> None:
    lanes = Lanes(receiver.paths[:1], lambda: False, time.monotonic)
    piece, given = bytes(LANE_BYTES // 4), 0

    def give() -> None:
        nonlocal given
        for given in range(1, 41):  # noqa: B007 - it is read from outside
            lanes.give(piece)

    giving = threading.Thread(target=give)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(receiver.paths[0]))
        giving.start()
        giving.join(timeout=0.5)
        held_up = given
        heard = sum(len(connection.recv(len(piece), socket.MSG_WAITALL)) for _ in range(40))
        giving.join()
        lanes.close(patiently=True)

    assert held_up * len(piece) <= 2 * LANE_BYTES
    assert heard == 40 * len(piece)


def test_a_destination_that_leaves_is_an_error_at_the_next_piece(receiver: Receiver) -> None:
    lanes = opened(receiver)
    with receiver:
        lanes.give(b"1\n")
        lanes.flush()
        receiver.leave()

        with pytest.raises(ReceiverGone, match="does not read"):
            give_for_ever(lanes)
        with pytest.raises(ReceiverGone):
            lanes.close(patiently=True)


def test_an_idle_socket_is_probed_with_an_empty_line(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "PROBE_SECONDS", 0.01)
    lanes = opened(receiver)

    with receiver:
        lanes.give(b"1\n")
        while receiver.probes < 6:
            time.sleep(0.01)
        lanes.close(patiently=True)
        assert list(receiver.together().lines()) == [b"1\n"]


def test_nobody_is_waited_for_after_an_order_to_stop(receiver: Receiver) -> None:
    lanes = opened(receiver, stopped=True)

    with pytest.raises(ReceiverGone, match=r"has not connected to .*socket_0\.sock"):
        lanes.give(b"1\n")
    lanes.close(patiently=False)


def test_patience_with_a_destination_that_does_not_come_ends(receiver: Receiver) -> None:
    lanes = opened(receiver, clock=iter([0.0, 1.0, 1e9]))

    with pytest.raises(ReceiverGone, match="has not connected"):
        lanes.give(b"1\n")
    lanes.close(patiently=False)


def test_an_end_that_is_urgent_waits_for_nobody(receiver: Receiver) -> None:
    lanes = opened(receiver)

    lanes.close(patiently=False)

    assert os.listdir(receiver.paths[0].parent) == []  # noqa: PTH208 - names are all that is asked for


def test_a_path_in_no_folder_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Lanes([tmp_path / "missing" / "socket"], lambda: False, time.monotonic)
