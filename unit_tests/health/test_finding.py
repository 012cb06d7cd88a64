"""Findings are told in the order in which they block, and a sync fails by the first that does."""

from __future__ import annotations

import pytest

from source_timescaledb.errors import ConfigurationError
from source_timescaledb.health.finding import Finding, Severity, Topic, ordered, raise_first
from source_timescaledb.postgres.slot import SlotActiveError
from source_timescaledb.remedy import Statement

WARNING = Finding(Severity.WARNING, Topic.SERVER, "w")
NOTE = Finding(Severity.NOTE, Topic.CONFIGURATION, "n")
SLOT = Finding(Severity.BLOCKING, Topic.SLOT, "s", kind=SlotActiveError)
RIGHTS = Finding(
    Severity.BLOCKING, Topic.RIGHTS, "r", "or so", (Statement("GRANT 1;"), Statement("GRANT 2;"))
)


def test_what_blocks_comes_first_and_of_that_what_a_sync_would_meet_first() -> None:
    assert ordered([NOTE, WARNING, SLOT, RIGHTS]) == [RIGHTS, SLOT, WARNING, NOTE]


def test_findings_of_one_kind_keep_their_order() -> None:
    same = [Finding(Severity.WARNING, Topic.SERVER, str(number)) for number in range(9)]

    assert ordered(same) == same


def test_a_sync_raises_the_first_that_blocks_with_all_that_it_says() -> None:
    with pytest.raises(ConfigurationError) as caught:
        raise_first([WARNING, SLOT, RIGHTS])

    assert caught.value.sentence == str(RIGHTS) == "r GRANT 1; GRANT 2; or so"
    assert Finding.of(caught.value, Topic.RIGHTS) == RIGHTS


def test_a_sync_raises_what_tells_whether_to_try_again() -> None:
    with pytest.raises(SlotActiveError):
        raise_first([SLOT])


def test_where_nothing_blocks_the_warnings_are_told_and_no_notes() -> None:
    told: list[str] = []

    raise_first([NOTE, WARNING], told.append)

    assert told == ["w"]
