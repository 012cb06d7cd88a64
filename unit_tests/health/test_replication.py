"""What stands in the way of following changes is told all at once, with the SQL that mends it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from source_timescaledb.cdc.aggregates import Unrefreshable
from source_timescaledb.cdc.compressing import MARKERS, Compressing
from source_timescaledb.config.replication import Cdc
from source_timescaledb.config.timescaledb import Timescaledb
from source_timescaledb.health.facts import Aim, ReplicationFacts, Silent
from source_timescaledb.health.finding import Finding, Severity
from source_timescaledb.health.replication import LONG_SECONDS, replication_findings
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
from source_timescaledb.postgres.barrier import OpenWriter
from source_timescaledb.postgres.identity import Identity, ReplicaIdentity, identification
from source_timescaledb.postgres.publication import MissingChunk, Publication, Restricted
from source_timescaledb.postgres.slot import Slot
from source_timescaledb.remedy import Statement

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


NO_IDENTITY = ReplicaIdentity(1, METRICS, Identity.DEFAULT, usable=False, candidate=None)
CDC = Cdc(method="CDC", replication_slot="slot", publication="changes")


def found(
    facts: ReplicationFacts = HEALTHY,
    server: ServerFacts = SERVER,
    table: Relation = TABLE,
    *,
    chosen: bool = False,
    **settings: Any,
) -> list[Finding]:
    aim = Aim(CDC, Timescaledb(**settings), server, [table], chosen=chosen)
    return list(replication_findings(aim, facts))


def findings(
    facts: ReplicationFacts = HEALTHY, server: ServerFacts = SERVER, table: Relation = TABLE, **settings: Any
) -> list[tuple[Severity, str]]:
    return [(finding.severity, str(finding)) for finding in found(facts, server, table, **settings)]


def test_a_server_that_has_everything_has_no_findings() -> None:
    assert findings() == []


@pytest.mark.parametrize(
    ("facts", "severity", "words"),
    [
        ({"wal_level": "replica"}, Severity.BLOCKING, "SET wal_level = 'logical'"),
        ({"may_replicate": False}, Severity.BLOCKING, 'ALTER ROLE "reader" REPLICATION'),
        ({"may_make_temporary": False}, Severity.WARNING, 'GRANT TEMPORARY ON DATABASE "shop" TO "reader"'),
        ({"slot": None, "slots_used": 10}, Severity.BLOCKING, "ALTER SYSTEM SET max_replication_slots = 20;"),
        ({"senders_used": 10}, Severity.BLOCKING, "ALTER SYSTEM SET max_wal_senders = 20;"),
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
            {"publication": replace(PUBLICATION, narrowed=(Restricted(METRICS, 1),))},
            Severity.WARNING,
            "only some columns of public.Metrics",
        ),
        (
            {"publication": replace(PUBLICATION, filtered=(Restricted(METRICS, 1),))},
            Severity.WARNING,
            "only the rows of public.Metrics",
        ),
        (
            {"unsafe": (NO_IDENTITY,)},
            Severity.WARNING,
            'ALTER TABLE "public"."Metrics" REPLICA IDENTITY FULL;',
        ),
        (
            {"publication": None, "endangered": (NO_IDENTITY,)},
            Severity.WARNING,
            'ALTER TABLE "public"."Metrics" REPLICA IDENTITY FULL;',
        ),
        (
            {"silent": (Silent(METRICS, identification(METRICS)),)},
            Severity.WARNING,
            'ALTER TABLE "public"."Metrics" REPLICA IDENTITY FULL;',
        ),
        ({"unsent": {METRICS: ("computed",)}}, Severity.WARNING, "computed"),
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


def test_an_identity_that_leaves_out_the_key_blocks_a_stream_that_is_chosen() -> None:
    parts = (Silent(METRICS, Statement("one;")), Silent(METRICS, Statement("two;")))

    (finding,) = found(replace(HEALTHY, silent=parts), chosen=True)

    assert finding.severity is Severity.BLOCKING
    assert "The replica identity of public.Metrics leaves out" in finding.sentence
    assert [one.text for one in finding.statements] == ["one;", "two;"]


def test_everything_wrong_is_told_at_once() -> None:
    broken = replace(HEALTHY, wal_level="replica", may_replicate=False, publication=None)

    assert len(findings(broken)) == 3


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
    facts = replace(HEALTHY, unlisted=(METRICS,))

    (finding,) = replication_findings(Aim(CDC, Timescaledb(), SERVER, [TABLE, other]), facts)

    assert finding.severity is Severity.WARNING
    assert finding.choice

    (finding,) = replication_findings(Aim(CDC, Timescaledb(), SERVER, [TABLE, other], chosen=True), facts)

    assert finding.severity is Severity.BLOCKING
    assert not finding.choice


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
LACKING = Obstacle("it has no identity.", (Statement("ALTER TABLE it REPLICA IDENTITY FULL;"),))


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


def test_what_the_connector_is_to_make_and_may_not_is_told() -> None:
    facts = replace(HEALTHY, publication=None, slot=None, may_create=False, unowned=(METRICS,))

    said = found(facts, manage_publication="full")

    assert [one.severity for one in said] == [Severity.BLOCKING, Severity.BLOCKING]
    assert [str(statement) for one in said for statement in one.statements] == [
        'GRANT CREATE ON DATABASE "shop" TO "reader";',
        'CREATE PUBLICATION "changes" FOR TABLE "public"."Metrics";',
    ]


def test_nothing_is_published_under_which_the_application_could_not_update() -> None:
    facts = replace(HEALTHY, publication=None, endangered=(NO_IDENTITY,))

    (finding,) = found(facts, manage_publication="full")

    assert finding.severity is Severity.BLOCKING
    assert finding.statements == (NO_IDENTITY.remedy,)


def test_a_server_that_can_add_chunks_by_itself_is_told_to() -> None:
    facts = replace(HEALTHY, missing=(replace(CHUNK, owned=False),))

    (finding,) = found(facts)
    (older,) = found(facts, server=replace(SERVER, extension=ServerVersion(2, 24)))

    assert finding.severity is Severity.BLOCKING
    assert finding.statements[0].text == (
        'ALTER DATABASE "shop" SET timescaledb.enable_chunk_auto_publication = on;'
    )
    assert "enable_chunk_auto_publication" not in str(older)


def test_however_many_chunks_are_missing_a_sentence_stays_short_and_the_statements_have_all_of_them() -> None:
    chunks = tuple(
        replace(CHUNK, oid=number, name=QualifiedName("_timescaledb_internal", f"_hyper_1_{number}_chunk"))
        for number in range(5000)
    )

    (finding,) = found(replace(HEALTHY, missing=chunks), manage_publication="off")

    assert "and 4990 more" in finding.sentence
    assert "(and 250 more statements; `doctor` has them all)" in str(finding)
    assert len(str(finding)) < 3000
    assert sum(statement.text.count('_chunk"') for statement in finding.statements) == 5000


def test_a_generated_column_that_is_not_selected_is_no_matter() -> None:
    facts = replace(HEALTHY, unsent={METRICS: ("computed",)})
    selected = Aim(CDC, Timescaledb(), SERVER, [TABLE], chosen=True)

    (finding,) = replication_findings(selected, facts)

    assert finding.severity is Severity.BLOCKING
    deselected = replace(selected, unselected={METRICS: frozenset({"computed"})})
    assert list(replication_findings(deselected, facts)) == []


def test_stored_columns_are_sent_by_a_server_that_can() -> None:
    facts = replace(HEALTHY, unsent={METRICS: ("computed",)})

    (finding,) = found(facts, server=replace(SERVER, version_number=180_000))

    (statement,) = finding.statements
    assert statement.text == 'ALTER PUBLICATION "changes" SET (publish_generated_columns = stored);'


def test_a_restricted_table_is_told_by_the_name_of_its_hypertable_and_mended_with_its_chunks() -> None:
    chunk = QualifiedName("_timescaledb_internal", "_hyper_1_1_chunk")
    of_others = Restricted(QualifiedName("public", "other"), 99)
    narrowed = replace(PUBLICATION, narrowed=(Restricted(chunk, 1), of_others, Restricted(METRICS, 1)))

    (finding,) = found(replace(HEALTHY, publication=narrowed), chosen=True)

    assert finding.severity is Severity.BLOCKING
    assert "only some columns of public.Metrics:" in finding.sentence
    both = 'TABLE ONLY "_timescaledb_internal"."_hyper_1_1_chunk", ONLY "public"."Metrics";'
    assert [statement.text for statement in finding.statements] == [
        f'ALTER PUBLICATION "changes" DROP {both}',
        f'ALTER PUBLICATION "changes" ADD {both}',
    ]


def test_a_guarded_table_is_mended_by_the_right_that_lacks() -> None:
    by_rows, by_columns = replace(TABLE, guarded=True), replace(TABLE, guarded=True, selectable=False)

    said = [
        statement.text for table in (by_rows, by_columns) for statement in found(table=table)[0].statements
    ]

    assert said == ['ALTER ROLE "reader" BYPASSRLS;', 'GRANT SELECT ON "public"."Metrics" TO "reader";']


def test_writers_that_are_open_for_long_are_named_and_others_are_not() -> None:
    def writer(pid: int, seconds: float | None) -> OpenWriter:
        return OpenWriter(pid, gid="", database="shop", role="app", seconds=seconds)

    facts = replace(HEALTHY, writers=(writer(7, LONG_SECONDS), writer(8, 1.0), writer(9, None)))

    ((severity, sentence),) = findings(facts)

    assert severity is Severity.WARNING
    assert "process 7 (role app in database shop, open for 60 s)" in sentence
    assert "process 8" not in sentence
    assert "process 9" not in sentence


def test_a_hypertable_with_a_chunk_in_tiered_storage_is_published_alone() -> None:
    tiered = replace(TABLE, hypertable=Hypertable(1, 1, METRICS, (), tiered=True))

    (absent,) = found(replace(HEALTHY, publication=None), table=tiered)
    (unlisted,) = found(replace(HEALTHY, unlisted=(METRICS,)), table=tiered)

    assert absent.statements[0].text == 'CREATE PUBLICATION "changes" FOR TABLE ONLY "public"."Metrics";'
    assert unlisted.statements[0].text == 'ALTER PUBLICATION "changes" ADD TABLE ONLY "public"."Metrics";'
