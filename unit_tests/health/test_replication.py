"""What stands in the way of following changes is told all at once, with the SQL that mends it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from source_timescaledb.cdc.aggregates import Unrefreshable
from source_timescaledb.cdc.compressing import MARKERS, Compressing
from source_timescaledb.config.replication import Cdc
from source_timescaledb.config.timescaledb import Timescaledb
from source_timescaledb.health.finding import Severity
from source_timescaledb.health.replication import ReplicationFacts, replication_findings
from source_timescaledb.hypertables.model import (
    ContinuousAggregate,
    Hypertable,
    Obstacle,
    QualifiedName,
    Relation,
    RelationKind,
    ServerFacts,
    ServerVersion,
)
from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.identity import Identity, ReplicaIdentity
from source_timescaledb.postgres.publication import (
    MissingChunk,
    Publication,
)
from source_timescaledb.postgres.slot import Slot

SERVER = ServerFacts(
    version_number=170_004,
    system_identifier="7",
    database="shop",
    database_oid=5,
    role="reader",
    superuser=False,
    bypasses_row_security=False,
    in_recovery=False,
    encoding="UTF8",
    extension=ServerVersion(2, 29, 2),
    license="timescale",
)
METRICS = QualifiedName("public", "Metrics")
TABLE = Relation(oid=1, name=METRICS, kind=RelationKind.HYPERTABLE, columns=())
SLOT = Slot(
    name="slot",
    plugin="pgoutput",
    database="shop",
    temporary=False,
    active_pid=None,
    restart_lsn=Lsn(10),
    confirmed_flush=Lsn(20),
    wal_status="reserved",
    invalidation_reason="",
    safe_wal_size=None,
    two_phase=False,
    failover=False,
    synced=False,
)
PUBLICATION = Publication(
    oid=9,
    name="changes",
    owner="reader",
    owned=True,
    all_tables=False,
    inserts=True,
    updates=True,
    deletes=True,
    truncates=True,
    via_root=False,
)
HEALTHY = ReplicationFacts(
    wal_level="logical",
    may_replicate=True,
    may_make_temporary=True,
    slots_used=1,
    slots_allowed=10,
    slot=SLOT,
    publication=PUBLICATION,
)
CHUNK = MissingChunk(oid=5, hypertable=1, name=QualifiedName("_timescaledb_internal", "_hyper_1_1_chunk"))


def findings(
    facts: ReplicationFacts = HEALTHY, server: ServerFacts = SERVER, table: Relation = TABLE, **settings: Any
) -> list[tuple[Severity, str]]:
    cdc = Cdc(method="CDC", replication_slot="slot", publication="changes")
    told = replication_findings(cdc, Timescaledb(**settings), server, [table], facts)
    return [(finding.severity, str(finding)) for finding in told]


def test_a_server_that_has_everything_has_no_findings() -> None:
    assert findings() == []


@pytest.mark.parametrize(
    ("facts", "severity", "words"),
    [
        ({"wal_level": "replica"}, Severity.BLOCKING, "SET wal_level = 'logical'"),
        ({"may_replicate": False}, Severity.BLOCKING, 'ALTER ROLE "reader" REPLICATION'),
        ({"may_make_temporary": False}, Severity.WARNING, 'GRANT TEMPORARY ON DATABASE "shop" TO "reader"'),
        ({"slot": None, "slots_used": 10}, Severity.BLOCKING, "max_replication_slots"),
        (
            {"publication": None},
            Severity.BLOCKING,
            'CREATE PUBLICATION "changes" FOR TABLE "public"."Metrics";',
        ),
        ({"unlisted": (METRICS,)}, Severity.BLOCKING, 'ADD TABLE "public"."Metrics";'),
        (
            {"publication": replace(PUBLICATION, owned=False), "missing": (CHUNK,)},
            Severity.BLOCKING,
            'ADD TABLE ONLY "_timescaledb_internal"."_hyper_1_1_chunk";',
        ),
        ({"publication": replace(PUBLICATION, deletes=False)}, Severity.WARNING, "does not publish deletes"),
        ({"publication": replace(PUBLICATION, inserts=False)}, Severity.BLOCKING, "does not publish inserts"),
        (
            {"publication": replace(PUBLICATION, narrowed=(METRICS,))},
            Severity.WARNING,
            "only some columns of public.Metrics",
        ),
        (
            {"publication": replace(PUBLICATION, filtered=(METRICS,))},
            Severity.WARNING,
            "only the rows of public.Metrics",
        ),
        (
            {"unsafe": (ReplicaIdentity(1, METRICS, Identity.DEFAULT, usable=False, candidate=None),)},
            Severity.WARNING,
            'ALTER TABLE "public"."Metrics" REPLICA IDENTITY FULL;',
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_remedy(facts: dict[str, Any], severity: Severity, words: str) -> None:
    told = findings(replace(HEALTHY, **facts))

    assert [(one, words in sentence) for one, sentence in told if words in sentence] == [(severity, True)]


def test_what_compression_does_to_the_log_is_told_with_the_rest() -> None:
    unmarked = Compressing(hypertables=(METRICS,), settings={MARKERS: "off"})

    ((severity, sentence),) = findings(replace(HEALTHY, compressing=unmarked))

    assert severity is Severity.BLOCKING
    assert f"ALTER SYSTEM SET {MARKERS} = on;" in sentence


def test_everything_wrong_is_told_at_once() -> None:
    broken = replace(HEALTHY, wal_level="replica", may_replicate=False, slot=None, publication=None)

    assert len(findings(broken)) == 4


def test_chunks_that_the_connector_may_add_are_no_finding() -> None:
    assert findings(replace(HEALTHY, missing=(CHUNK,))) == []


def test_chunks_are_missing_where_the_connector_may_change_nothing() -> None:
    ((severity, _),) = findings(replace(HEALTHY, missing=(CHUNK,)), manage_publication="off")

    assert severity is Severity.BLOCKING


def test_slot_and_publication_may_be_absent_where_the_connector_may_make_them() -> None:
    absent = replace(HEALTHY, slot=None, publication=None)

    assert findings(absent, manage_publication="full") == []


def test_a_table_left_out_of_a_publication_that_lists_others_is_a_warning() -> None:
    other = replace(TABLE, name=QualifiedName("public", "other"))
    cdc = Cdc(method="CDC", replication_slot="slot", publication="changes")
    facts = replace(HEALTHY, unlisted=(METRICS,))

    (finding,) = replication_findings(cdc, Timescaledb(), SERVER, [TABLE, other], facts)

    assert finding.severity is Severity.WARNING


def test_a_standby_and_a_guarded_table_are_told() -> None:
    told = findings(server=replace(SERVER, in_recovery=True), table=replace(TABLE, guarded=True))

    assert [severity for severity, _ in told] == [Severity.BLOCKING, Severity.WARNING]


def aggregate(obstacle: Obstacle | None) -> Relation:
    """A continuous aggregate `hourly` with what is in the way of following it."""
    view = QualifiedName("public", "hourly")
    facts = ContinuousAggregate(
        view, MATERIALIZATION, True, True, followed=obstacle is None, obstacle=obstacle
    )
    kind = RelationKind.CONTINUOUS_AGGREGATE
    return Relation(oid=3, name=view, kind=kind, columns=(), hypertable=MATERIALIZATION, aggregate=facts)


MATERIALIZATION = Hypertable(2, 4, QualifiedName("_timescaledb_internal", "_materialized_hypertable_2"), ())
LACKING = Obstacle("it has no identity.", "ALTER TABLE it REPLICA IDENTITY FULL;")


def test_an_aggregate_that_is_not_followed_is_told_with_what_it_lacks() -> None:
    ((severity, sentence),) = findings(table=aggregate(LACKING))

    assert severity is Severity.WARNING
    assert "public.hourly is read without its changes: it has no identity." in sentence
    assert sentence.endswith("ALTER TABLE it REPLICA IDENTITY FULL;")


def test_an_aggregate_whose_refresh_fails_is_told_once_and_how_to_mend_it() -> None:
    broken = Unrefreshable(QualifiedName("public", "hourly"), MATERIALIZATION.name)

    ((severity, sentence),) = findings(replace(HEALTHY, unrefreshable=(broken,)), table=aggregate(LACKING))

    assert severity is Severity.WARNING
    assert "makes the refresh of continuous aggregates fail" in sentence
    assert sentence.endswith(
        'ALTER TABLE "_timescaledb_internal"."_materialized_hypertable_2" REPLICA IDENTITY FULL;'
    )


def test_reading_in_one_query_cannot_be_combined_with_following() -> None:
    ((severity, sentence),) = findings(chunk_by_chunk=False)

    assert severity is Severity.BLOCKING
    assert "chunk_by_chunk" in sentence
