"""Whether a sync can go on from a state is judged by where the state, the slot, the publication and the server stand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from source_timescaledb.config.replication import Cdc, InvalidPositionBehaviour
from source_timescaledb.config.timescaledb import Timescaledb
from source_timescaledb.errors import TransientError
from source_timescaledb.health.facts import Aim, ReplicationFacts, Standing
from source_timescaledb.health.finding import Finding, Severity, Topic
from source_timescaledb.health.standing import MUCH_LOG, standing_findings
from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.publication import PublicationMarks
from source_timescaledb.postgres.slot import ChangesGoneError
from source_timescaledb.postgres.timeline import Fork, WalPoint
from source_timescaledb.state.codec import FollowedStates
from source_timescaledb.state.model import DatabaseIdentity, FollowedState, LogPosition
from unit_tests.health.test_replication import HEALTHY, METRICS, SERVER, SLOT, TABLE

MARKS = PublicationMarks(9, {1: 77})
STANDING = Standing(WalPoint("7", 1, Lsn(100)))
FACTS = replace(HEALTHY, standing=STANDING, marks=MARKS, slot=replace(SLOT, failover=True))
BEFORE = FollowedStates(
    LogPosition(
        database=DatabaseIdentity(system="7", oid=5, name="shop"),
        timeline=1,
        slot="slot",
        publication=9,
        lsn="0/32",
        clock=1,
    ),
    {METRICS: FollowedState(relation=1, entry=77)},
)


def found(
    facts: ReplicationFacts = FACTS,
    before: FollowedStates | None = BEFORE,
    *,
    resync: bool = False,
    **settings: Any,
) -> list[Finding]:
    behaviour = InvalidPositionBehaviour.RESYNC if resync else InvalidPositionBehaviour.FAIL
    cdc = Cdc(
        method="CDC",
        replication_slot="slot",
        publication="changes",
        invalid_cdc_cursor_position_behavior=behaviour,
    )
    return list(standing_findings(Aim(cdc, Timescaledb(**settings), SERVER, [TABLE]), facts, before))


def test_a_state_that_can_be_gone_on_from_has_no_findings() -> None:
    assert found() == []
    assert found(before=None) == []


@pytest.mark.parametrize(
    ("facts", "topic", "words"),
    [
        ({"standing": Standing(WalPoint("8", 1, Lsn(100)))}, Topic.STATE, "belongs to another server"),
        ({"standing": Standing(WalPoint("7", 1, Lsn(49)))}, Topic.STATE, "set back to the past"),
        (
            {"standing": Standing(WalPoint("7", 2, Lsn(100)), (Fork(1, Lsn(49)),))},
            Topic.STATE,
            "timeline from 1 to 2",
        ),
        ({"slot": None}, Topic.SLOT, "does not exist any more"),
        ({"slot": replace(SLOT, confirmed_flush=Lsn(51))}, Topic.SLOT, "begins at 0/33"),
        ({"slot": replace(SLOT, invalidation_reason="wal_removed")}, Topic.SLOT, "max_slot_wal_keep_size"),
        ({"slot": replace(SLOT, active_pid=42)}, Topic.SLOT, "read by process 42"),
        ({"marks": replace(MARKS, publication=10)}, Topic.STATE, "was made again since the last sync"),
        ({"marks": None}, Topic.STATE, "was dropped since the last sync"),
        ({"marks": replace(MARKS, entries={1: 78})}, Topic.STATE, "left the publication"),
        ({"standing": Standing(refusal=TransientError("no way in"))}, Topic.CONNECTION, "no way in"),
    ],
)
def test_a_state_that_cannot_be_is_told_with_its_reason(
    facts: dict[str, Any], topic: Topic, words: str
) -> None:
    blocking = [one for one in found(replace(FACTS, **facts)) if one.severity is Severity.BLOCKING]

    assert [(one.topic, words in str(one)) for one in blocking if words in str(one)] == [(topic, True)]


def test_a_slot_that_the_server_has_given_up_is_dropped_and_made_again() -> None:
    (finding,) = found(replace(FACTS, slot=replace(SLOT, invalidation_reason="wal_removed")))

    assert issubclass(finding.kind, ChangesGoneError)
    assert [statement.text for statement in finding.statements] == [
        "SELECT pg_drop_replication_slot('slot');",
        "SELECT pg_create_logical_replication_slot('slot', 'pgoutput', failover => true);",
    ]
    assert "clear the state" in finding.remedy


def test_where_everything_is_to_be_read_again_what_is_gone_is_a_warning_and_the_rest_counts_as_new() -> None:
    again, still = found(replace(FACTS, slot=None), resync=True)

    assert again.severity is Severity.WARNING
    assert "read again, as configured" in again.remedy
    assert still.severity is Severity.BLOCKING
    (only,) = found(replace(FACTS, slot=None), resync=True, manage_publication="full")
    assert only.severity is Severity.WARNING


def test_a_slot_that_was_given_up_is_replaced_by_a_sync_that_may_make_one_and_read_all_again() -> None:
    given_up = replace(FACTS, slot=replace(SLOT, invalidation_reason="wal_removed"))

    (warning,) = found(given_up, resync=True, manage_publication="full")
    _, blocking = found(given_up, resync=True)

    assert warning.severity is Severity.WARNING
    assert blocking.severity is Severity.BLOCKING


def test_a_slot_of_another_kind_stays_and_one_beside_it_is_to_be_made_and_named() -> None:
    (finding,) = found(replace(FACTS, slot=replace(SLOT, plugin="test_decoding", failover=True)), before=None)

    assert [str(one) for one in finding.statements] == [
        "SELECT pg_create_logical_replication_slot('slot_pgoutput', 'pgoutput', failover => true);"
    ]
    assert finding.settings == {"replication_method.replication_slot": "slot_pgoutput"}


def test_a_slot_that_standbys_do_not_take_over_is_worth_a_note_where_they_could() -> None:
    (note,) = found(replace(FACTS, slot=SLOT))

    assert note.severity is Severity.NOTE
    assert "ALTER_REPLICATION_SLOT slot (FAILOVER true);" in note.remedy


@pytest.mark.parametrize(
    ("retained", "slot", "severity", "words"),
    [
        (3 << 20, {}, Severity.NOTE, "keeps 3.0 MiB"),
        (500, {}, Severity.NOTE, "keeps 500 bytes"),
        (MUCH_LOG * 2, {}, Severity.WARNING, "keeps 32.0 GiB"),
        (3 << 20, {"wal_status": "unreserved"}, Severity.WARNING, "will give the slot up"),
        (3 << 20, {"safe_wal_size": -1}, Severity.WARNING, "raise max_slot_wal_keep_size"),
    ],
)
def test_what_the_server_keeps_for_the_slot_is_told(
    retained: int, slot: dict[str, Any], severity: Severity, words: str
) -> None:
    kept = replace(FACTS, retained=retained, slot=replace(SLOT, failover=True, **slot))

    (finding,) = found(kept)

    assert finding.severity is severity
    assert words in str(finding)


def test_a_table_that_another_stream_has_left_is_no_matter() -> None:
    other = {QualifiedName("public", "other"): FollowedState(relation=2, entry=5)}

    assert found(before=replace(BEFORE, streams={**BEFORE.streams, **other})) == []
