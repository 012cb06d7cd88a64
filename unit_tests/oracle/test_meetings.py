"""A seed fixes who meets where, and what a meeting leaves nobody else touches."""

from __future__ import annotations

from itertools import chain, islice

from oracle.meetings import DEVICE, UNSETTLED, duels, settlings
from oracle.tables import HYPERTABLES, KEYED, PARTS
from oracle.workload import Author, Step


def steps(seed: int, count: int = 60) -> list[Step]:
    met = islice(duels(seed), count)
    settled = islice(settlings(seed), count)
    return [
        *chain.from_iterable((one.first, one.second, one.last) for one in met),
        *chain.from_iterable((one.birth, one.first, one.last) for one in settled),
    ]


def test_a_seed_gives_the_same_meetings_each_time_and_another_seed_others() -> None:
    assert steps(3) == steps(3)
    assert steps(3) != steps(4)


def test_all_kinds_of_tables_are_met_at() -> None:
    text = "\n".join(step.statement.as_string(None) for step in steps(1))

    assert [table.name for table in (*KEYED, PARTS) if f'DELETE FROM "{table.name}"' not in text] == []
    assert {one.table for one in islice(settlings(1), 60)} == set(HYPERTABLES)


def test_values_are_never_written_into_a_statement() -> None:
    for step in steps(2):
        assert step.statement.as_string(None).count("%s") == len(step.parameters)


def test_all_of_a_duel_is_about_one_key() -> None:
    for one in islice(duels(5), 60):
        assert one.first.parameters[:-1] == one.second.parameters[:-1] == one.last.parameters


def test_all_of_a_settling_is_in_one_chunk_that_was_not_there_before() -> None:
    days = [
        {(step.parameters[0] - UNSETTLED).days for step in (one.birth, one.first, one.last)}
        for one in islice(settlings(5), 60)
    ]

    assert days == [{day} for day in range(1, 61)]


def test_nobody_else_writes_of_their_device() -> None:
    author = Author(1, 0)
    written = chain.from_iterable(author.transaction().steps for _ in range(300))
    texts = [(step.statement.as_string(None), step.parameters) for step in written]

    inserted = {device for text, values in texts if "unnest" in text for device in values[1]}
    moved = {values[0] for text, values in texts if "SET device" in text}

    assert inserted == moved == set(range(DEVICE))
