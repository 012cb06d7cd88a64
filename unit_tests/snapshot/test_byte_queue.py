"""A queue bounded by weight."""

from __future__ import annotations

import threading

import pytest

from source_timescaledb.snapshot.byte_queue import ByteQueue, Closed


def test_items_come_out_in_the_order_they_went_in() -> None:
    queue: ByteQueue[str] = ByteQueue(100)

    queue.put("a", 10)
    queue.put("b", 10)

    assert [queue.get(0), queue.get(0), queue.get(0)] == ["a", "b", None]
    assert queue.weight == 0


def test_an_item_heavier_than_the_queue_still_passes_when_it_is_empty() -> None:
    queue: ByteQueue[str] = ByteQueue(100)

    queue.put("heavy", 1000)

    assert queue.get(0) == "heavy"


def test_a_full_queue_makes_its_filler_wait_until_something_is_taken() -> None:
    queue: ByteQueue[str] = ByteQueue(100)
    queue.put("first", 80)
    second = threading.Thread(target=queue.put, args=("second", 80))

    second.start()
    waiting = queue.weight
    taken = queue.get(1)
    second.join(timeout=5)

    assert waiting == 80
    assert taken == "first"
    assert queue.get(0) == "second"


def test_closing_wakes_whoever_waits_to_fill_it_and_returns_what_is_left() -> None:
    queue: ByteQueue[str] = ByteQueue(10)
    queue.put("left", 10)
    ended: list[type[BaseException]] = []

    def fill() -> None:
        try:
            queue.put("late", 10)
        except Closed:
            ended.append(Closed)

    filler = threading.Thread(target=fill)
    filler.start()
    left = queue.close()
    filler.join(timeout=5)

    assert left == ["left"]
    assert ended == [Closed]


def test_nothing_can_be_put_into_a_closed_queue() -> None:
    queue: ByteQueue[str] = ByteQueue(10)
    queue.close()

    with pytest.raises(Closed):
        queue.put("late", 1)
