"""A snapshot sees what had committed when it was taken, whatever the epoch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.cdc.visibility import Snapshot, nearest
from source_timescaledb.errors import DefectError

WRAP = 2**32
XIDS = st.integers(3, 2**40)


def test_what_was_running_is_not_seen() -> None:
    snapshot = Snapshot.parse("10:20:10,15")

    assert [xid for xid in range(8, 22) if snapshot.sees(xid)] == [8, 9, 11, 12, 13, 14, 16, 17, 18, 19]


def test_a_snapshot_without_running_transactions_sees_all_below_its_end() -> None:
    snapshot = Snapshot.parse("20:20:")

    assert (snapshot.sees(19), snapshot.sees(20)) == (True, False)


@pytest.mark.parametrize("text", ["", "1:2", "a:b:c", "1:2:3,", "1:2:3:4"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(DefectError):
        Snapshot.parse(text)


def test_a_transaction_before_the_wrap_is_older_than_a_snapshot_after_it() -> None:
    snapshot = Snapshot.parse(f"{WRAP - 5}:{WRAP + 5}:{WRAP - 5},{WRAP + 2}")

    assert snapshot.sees(WRAP - 6)
    assert not snapshot.sees(WRAP - 5)
    assert snapshot.sees(WRAP - 4)
    assert snapshot.sees(1)
    assert not snapshot.sees(2)
    assert not snapshot.sees(5)


@given(reference=XIDS, distance=st.integers(-(2**31) + 1, 2**31 - 1))
def test_the_whole_id_is_found_from_its_low_half(reference: int, distance: int) -> None:
    whole = max(reference + distance, 0)

    assert nearest(whole % WRAP, reference) == whole
