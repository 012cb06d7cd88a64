from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest

from source_timescaledb.airbyte.healing import MOST_SLOTS, decode_to, proven_start
from source_timescaledb.errors import TransientError
from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.slot import UndecodableSlotError

LOGGER = logging.getLogger("test")


@dataclass
class Slots:
    """Slots of which the first ones cannot be decoded."""

    poisoned: int
    made: int = 1
    begun: list[Lsn] = field(default_factory=list)
    error: Exception = field(default_factory=lambda: UndecodableSlotError("It cannot be decoded."))

    def begin(self) -> Lsn:
        self.begun.append(Lsn(self.made * 100))
        return self.begun[-1]

    def try_out(self, start: Lsn) -> None:
        assert start == self.begun[-1]
        if self.made <= self.poisoned:
            raise self.error

    def make_again(self) -> None:
        self.made += 1

    def start(self) -> Lsn:
        return proven_start(self.begin, self.try_out, self.make_again, LOGGER)


def test_a_slot_that_can_be_decoded_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    slots = Slots(poisoned=0)

    assert slots.start() == 100
    assert (slots.made, caplog.messages) == (1, [])


def test_a_slot_that_cannot_is_made_again_with_its_reason_and_the_start_is_found_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slots = Slots(poisoned=2)

    assert slots.start() == 300
    assert slots.begun == [100, 200, 300]
    assert [message.startswith("It cannot be decoded.") for message in caplog.messages] == [True, True]


def test_a_server_that_can_decode_none_is_believed_and_the_last_slot_stays() -> None:
    slots = Slots(poisoned=99)

    with pytest.raises(UndecodableSlotError):
        slots.start()

    assert slots.made == MOST_SLOTS


def test_any_other_failure_drops_nothing() -> None:
    slots = Slots(poisoned=1, error=TransientError("The connection was lost."))

    with pytest.raises(TransientError):
        slots.start()

    assert slots.made == 1


@dataclass
class Replayed:
    """A log that gives what was prepared, batch by batch."""

    batches: list[list[bytes]]

    def drain(self) -> list[bytes]:
        return self.batches.pop(0)


def test_all_is_decoded_up_to_the_fence_and_no_further() -> None:
    log, heeded = Replayed([[b"a"], [], [b"b", b"...fence..."], [b"c"]]), []

    decode_to(log, b"fence", lambda: heeded.append(1))

    assert log.batches == [[b"c"]]
    assert len(heeded) == 2
