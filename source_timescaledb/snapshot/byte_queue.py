"""A queue bounded by what its items weigh, not by how many there are.

It is what keeps memory flat when the destination is slower than the database: readers wait here, with their
transactions already over, until the writer has taken enough.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Closed(Exception):  # noqa: N818 - an event: the other side has left
    """Nobody takes from the queue any more."""


class ByteQueue(Generic[Item]):
    """First in, first out; `put` waits while the items inside weigh more than `capacity` bytes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[tuple[Item, int]] = deque()
        self._weight = 0
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def weight(self) -> int:
        """The bytes inside."""
        return self._weight

    def put(self, item: Item, weight: int) -> None:
        """Add an item; an item heavier than the whole queue goes in when it is empty. Raises Closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or not self._items or self._weight + weight <= self._capacity
            )
            if self._closed:
                raise Closed
            self._items.append((item, weight))
            self._weight += weight
            self._changed.notify_all()

    def get(self, timeout: float) -> Item | None:
        """The oldest item, or None if there is none for `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._items), timeout):
                return None
            item, weight = self._items.popleft()
            self._weight -= weight
            self._changed.notify_all()
            return item

    def close(self) -> list[Item]:
        """Let nobody wait any more; the items left inside."""
        with self._changed:
            self._closed = True
            left = [item for item, _ in self._items]
            self._items.clear()
            self._weight = 0
            self._changed.notify_all()
            return left
