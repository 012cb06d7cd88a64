"""Healing: what a sync mends by itself is what cannot lose data, and each act says why.

Elsewhere connections are opened again (`postgres.retry`), and chunks are added to the publication and read
(`health.preparation`). Here are the acts on a slot, which is where data can be lost: a slot that is dropped takes with it
all changes that nobody has kept. So two kinds may be dropped, and no others.

- A slot that this very sync has made and has read nothing from. A slot can be made in a moment from which the server can
  never decode on (XX000, `postgres.barrier`). The start guard prevents what is known of it, and a trial proves it: all
  that was written until now is decoded once, before any row is read or any STATE is told. Where that fails, there is
  nothing yet that could be lost.
- A slot that the server itself has given up, where the settings say both that the connector makes slots and that lost
  changes are to be answered by reading everything again. Nobody can ever read it again; it only stands in the way.

Anything else is an error with a remedy: a slot that is there may be somebody's last hold on his changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol

from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.postgres.slot import UndecodableSlotError, drop_slot, read_slot

MOST_SLOTS: Final = 3
"""How many slots are made before the server is believed to be unable to decode."""


class Log(Protocol):
    """What a slot's changes come from."""

    def drain(self) -> list[bytes]:
        """Take what has come. Raises ConnectorError."""


def decode_to(log: Log, fence: bytes, heed: Callable[[], None]) -> None:
    """Let the server decode up to a fence, and forget it all; `heed` is called again and again and may raise.

    Raises UndecodableSlotError where the server cannot, and other ConnectorErrors as they come.
    """
    while not any(fence in message for message in log.drain()):
        heed()


def proven_start(
    begin: Callable[[], Lsn],
    try_out: Callable[[Lsn], None],
    make_again: Callable[[], None],
    logger: logging.Logger,
) -> Lsn:
    """Where a slot of our own that was just made can be read from, which a trial has proved.

    Args:
        begin: finds the position to start from.
        try_out: decodes from there to the end.
        make_again: drops the slot and makes another.
        logger: is told of each act.

    Raises UndecodableSlotError if none of the slots can be decoded, and other ConnectorErrors as they come.
    """
    for _ in range(MOST_SLOTS - 1):
        start = begin()
        try:
            try_out(start)
        except UndecodableSlotError as error:
            logger.warning(
                "%s This sync has made the slot and read nothing from it yet, so it is dropped and made again.",
                error.message,
            )
            make_again()
        else:
            return start
    start = begin()
    try_out(start)
    return start


def drop_if_given_up(connection: Connection, name: str, logger: logging.Logger) -> None:
    """Drop a slot that the server has invalidated; any other, or none, is left alone. Raises ConnectorError."""
    slot = read_slot(connection, name)
    if slot is None or not slot.invalidation_reason:
        return
    drop_slot(connection, name)
    logger.warning(
        "The replication slot %s was dropped to be made again: the server had given it up (%s), so nobody could read it "
        "any more.",
        name,
        slot.invalidation_reason,
    )
