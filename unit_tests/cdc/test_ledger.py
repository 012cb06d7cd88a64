"""What must be there if the log told everything, and what is: the difference is exact at the moment the log stands at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.cdc.ledger import MOST_RANGES, Comparison, Count, Ledger, ranges
from source_timescaledb.cdc.visibility import Snapshot
from source_timescaledb.state.model import (
    Audited,
    ChunkProgress,
    FollowedState,
)

SEEN = "100:100:"
ALL = Snapshot.parse("1000:1000:")


def counted(
    ledger: Ledger, rows: dict[int, int], snapshot: Snapshot = ALL, *, existing: int = 10
) -> Comparison:
    """Count chunks 1 to `existing`, of which those in `rows` are compressed, and compare."""
    ledger.begin_count()
    counts = {chunk: Count(number, snapshot) for chunk, number in rows.items()}
    return ledger.compare(counts, range(1, existing + 1))


def adopted(ledger: Ledger, comparison: Comparison, *, existing: int = 10) -> Ledger:
    """The ledger of the next process."""
    ledger.adopt(ledger.close(comparison, range(1, existing + 1), SEEN, complete=True))
    return Ledger(ledger.state)


def opened(rows: dict[int, int], *, existing: int = 10) -> Ledger:
    """A ledger after its first audit, in the next process."""
    first = Ledger(None)
    return adopted(first, counted(first, rows, existing=existing), existing=existing)


def tell(ledger: Ledger, xid: int, **rows: int) -> None:
    """A transaction that inserts rows into chunks, named `c1`, or deletes some."""
    for chunk, number in rows.items():
        ledger.note(int(chunk[1:]), number)
    ledger.commit(xid)


def test_the_first_audit_has_nothing_to_compare_with() -> None:
    ledger = Ledger(None)

    assert ledger.state is None
    assert counted(ledger, {1: 5}) == Comparison({1: 5}, new=frozenset({1}))


def test_what_the_log_tells_is_no_difference() -> None:
    ledger = opened({1: 100, 2: 200})
    tell(ledger, 500, c1=7, c2=-3, c9=1)

    assert counted(ledger, {1: 107, 2: 197}).differences == {}
    assert counted(ledger, {1: 107, 2: 190}).differences == {2: -7}
    assert counted(ledger, {1: 110, 2: 197}).differences == {1: 3}


def test_a_transaction_that_the_count_does_not_see_is_added_to_it() -> None:
    ledger = opened({1: 100})
    tell(ledger, 500, c1=1)
    comparison = counted(ledger, {1: 100}, Snapshot.parse("500:510:500,502"))

    assert comparison.rows == {1: 101}
    ledger.begin_count()
    tell(ledger, 502, c1=10)
    tell(ledger, 501, c1=20)
    late = ledger.compare({1: Count(120, Snapshot.parse("500:510:500,502"))}, [1])

    assert late.rows == {1: 131}
    assert late.differences == {}


def test_a_transaction_told_again_counts_once() -> None:
    ledger = opened({1: 100})
    assert ledger.note(1, 5)
    assert not ledger.note(1, 5)
    ledger.discard()
    tell(ledger, 500, c1=10)

    assert counted(ledger, {1: 110}).differences == {}


def test_a_state_in_the_middle_of_a_sync_has_all_that_was_told() -> None:
    ledger = opened({1: 100, 2: 200})
    tell(ledger, 500, c1=7)
    ledger.note(2, 1000)

    later = Ledger(ledger.state)

    assert counted(later, {1: 107, 2: 200}).differences == {}


def test_what_is_told_after_a_comparison_belongs_to_the_next() -> None:
    ledger = opened({1: 100})
    closing = ledger.close(counted(ledger, {1: 90}), [1], SEEN, complete=True)
    tell(ledger, 2000, c1=4)
    ledger.adopt(closing)

    assert counted(ledger, {1: 94}, Snapshot.parse("3000:3000:")).differences == {}


def test_dropped_chunks_are_forgotten_and_decompressed_ones_remembered() -> None:
    ledger = opened({1: 100, 2: 200, 3: 300})
    ledger.begin_count()
    comparison = ledger.compare({3: Count(300, ALL)}, [2, 3])
    assert comparison.differences == {}
    ledger.adopt(ledger.close(comparison, [2, 3], SEEN, complete=True))

    assert counted(ledger, {2: 150, 3: 300}).differences == {2: -50}


def test_chunks_that_were_not_compressed_before_are_new() -> None:
    ledger = opened({1: 100, 3: 300})

    comparison = counted(ledger, {1: 100, 2: 5, 3: 300, 11: 6}, existing=11)

    assert comparison.differences == {}
    assert comparison.new == {2, 11}
    assert comparison.untouched == {2}


def test_a_new_chunk_is_touched_by_what_the_log_tells_of_it_in_this_process_or_one_before() -> None:
    ledger = opened({1: 100})
    tell(ledger, 500, c2=1)

    assert counted(ledger, {1: 100, 2: 5}).untouched == frozenset()
    assert counted(Ledger(ledger.state), {1: 100, 2: 5, 3: 5}).untouched == frozenset()


def test_rows_that_were_split_off_are_no_difference() -> None:
    ledger = opened({1: 100})

    assert counted(ledger, {1: 60, 11: 40}, existing=11).differences == {}
    assert counted(ledger, {1: 60, 11: 39}, existing=11).differences == {1: -40}


def test_more_differences_than_can_be_told_are_none() -> None:
    ledger = opened(dict.fromkeys(range(1, 201), 100), existing=200)

    comparison = counted(ledger, dict.fromkeys(range(1, 201), 99), existing=200)

    assert not comparison.readable
    assert comparison.differences == {}
    again = adopted(ledger, comparison, existing=200)
    assert counted(again, dict.fromkeys(range(1, 201), 99), existing=200).readable


def test_a_chunk_in_a_gap_that_was_closed_is_new_when_it_is_compressed() -> None:
    odd = dict.fromkeys(range(1, 201, 2), 10)
    ledger = opened(odd, existing=200)

    comparison = counted(ledger, {**odd, 100: 7, 102: 8}, existing=200)

    assert comparison.differences == {}
    assert comparison.new >= {100, 102}


@given(st.sets(st.integers(1, 300)), st.sets(st.integers(1, 300)))
def test_ranges_hold_every_counted_chunk_and_are_few(counted_ones: set[int], others: set[int]) -> None:
    found = ranges(counted_ones, counted_ones | others)

    assert len(found) <= MOST_RANGES
    assert all(any(first <= chunk <= last for first, last in found) for chunk in counted_ones)
    if len(counted_ones) <= MOST_RANGES:
        assert not any(first <= chunk <= last for first, last in found for chunk in others - counted_ones)


def test_the_state_of_fifty_thousand_chunks_fits_in_four_kibibytes() -> None:
    chunks = range(1, 50_001)
    ledger = opened({chunk: 10**9 + chunk for chunk in chunks if chunk % 7}, existing=50_000)
    state = FollowedState(
        relation=2**31,
        complete=True,
        progress=ChunkProgress(hypertable=10**6, through=50_000, after=(2**60, 50_000), last_chunk=10**6),
        audit=ledger.state,
    )

    assert ledger.state is not None
    assert len(ledger.state.counted) == MOST_RANGES
    assert len(state.model_dump_json()) <= 3072


def test_a_damaged_state_is_refused() -> None:
    good = opened({1: 1}).state
    assert good is not None

    with pytest.raises(ValueError, match=r".*"):
        Ledger(Audited(**{**good.model_dump(), "sketch": "x"}))


def test_a_comparison_of_nothing_differs_in_nothing() -> None:
    assert counted(opened({1: 3}), {}).differences == {}
