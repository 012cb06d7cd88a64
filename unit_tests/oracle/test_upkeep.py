"""A seed fixes what is done to chunks, and nothing of it changes a row that a destination would miss."""

from __future__ import annotations

from itertools import islice

from oracle.tables import EVENTS, HOURLY, HYPERTABLES, KEYED
from oracle.upkeep import Chore, Deed, Order, chores, hidden_deletes
from oracle.workload import HIDDEN_DEVICE


def done(seed: int, session: int = 0) -> list[Chore | Order]:
    return list(islice(chores(seed, session), 500))


def test_a_seed_gives_the_same_chores_each_time_and_another_session_others() -> None:
    assert done(3) == done(3)
    assert done(3) != done(4)
    assert done(3, 0) != done(3, 1)


def test_every_deed_is_done_to_every_table_that_it_is_meant_for() -> None:
    found = {(chore.deed, chore.table) for seed in (1, 2) for chore in done(seed) if isinstance(chore, Chore)}

    forms = {Deed.COMPRESS, Deed.DECOMPRESS, Deed.REWRITE}
    assert found == {(deed, table.name) for deed in forms for table in (*HYPERTABLES, HOURLY)} | {
        (deed, table.name) for deed in (Deed.MERGE, Deed.SPLIT) for table in KEYED
    }
    assert {chore.segmentwise for chore in done(1) if isinstance(chore, Chore)} == {True, False}
    assert len({chore.truncation for chore in done(1) if isinstance(chore, Chore)}) == 3


def test_no_table_is_both_merged_and_split_in_one_play() -> None:
    reshaped = {(chore.table, chore.deed) for chore in done(1) if isinstance(chore, Chore)} & {
        (table.name, deed) for table in KEYED for deed in (Deed.MERGE, Deed.SPLIT)
    }

    assert len(reshaped) == len(KEYED)


def test_the_aggregate_is_refreshed_in_whole_and_in_part() -> None:
    refreshes = [chore for chore in done(1) if isinstance(chore, Order)]

    assert {len(refresh.parameters) for refresh in refreshes} == {0, 2}


def test_statements_have_a_place_for_each_of_their_chunks() -> None:
    assert all(deed.statement.count("%s") == deed.chunks for deed in Deed)


def test_what_is_deleted_unseen_is_of_one_device_and_of_tables_with_a_key() -> None:
    orders = list(islice(hidden_deletes(1), 100))

    assert all(f"device = {HIDDEN_DEVICE} " in order.statement for order in orders)
    assert not any(EVENTS.name in order.statement for order in orders)
