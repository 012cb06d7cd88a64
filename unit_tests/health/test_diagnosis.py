"""From facts to findings: all at once, what blocks first, each with its remedy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from source_timescaledb.config.replication import Cdc
from source_timescaledb.config.selection import HypertableSelection
from source_timescaledb.config.timescaledb import TieredChunks, Timescaledb
from source_timescaledb.health.diagnosis import Probes, diagnose
from source_timescaledb.health.facts import Aim, ReplicationFacts
from source_timescaledb.health.finding import Severity
from source_timescaledb.hypertables.model import (
    Hypertable,
    QualifiedName,
    Registry,
    Relation,
    RelationKind,
    ServerFacts,
    ServerVersion,
)

SERVER = ServerFacts(
    version_number=170_004,
    system_identifier="7",
    database="shop",
    database_oid=5,
    role='read"er',
    superuser=False,
    bypasses_row_security=False,
    in_recovery=False,
    encoding="UTF8",
    extension=ServerVersion(2, 19, 3),
    license="timescale",
)
TABLE = Relation(oid=1, name=QualifiedName("public", "t"), kind=RelationKind.TABLE, columns=())
NO_PROBES = Probes()
HEALTHY = Registry(server=SERVER, relations={TABLE.name: TABLE})


def findings(
    registry: Registry = HEALTHY,
    probes: Probes = NO_PROBES,
    *,
    offers: bool = True,
    aim: Aim | None = None,
    **given: Any,
) -> list[tuple[Severity, str]]:
    offered = list(registry.relations.values()) if offers else []
    told = diagnose(registry, offered, probes, aim, **given)
    return [(finding.severity, str(finding)) for finding in told]


def on(**facts: Any) -> Registry:
    return replace(HEALTHY, server=replace(SERVER, **facts))


def test_a_healthy_database_has_no_findings() -> None:
    assert findings() == []


def test_rows_in_tiered_storage_are_left_out_unless_they_are_asked_for() -> None:
    tiered = Hypertable(1, 1, TABLE.name, (), tiered=True)
    registry = replace(HEALTHY, relations={TABLE.name: replace(TABLE, hypertable=tiered)})

    ((severity, sentence),) = findings(registry)

    assert severity is Severity.WARNING
    assert "public.t" in sentence
    assert "Set timescaledb.tiered_chunks to read" in sentence
    assert findings(registry, tiered_chunks=TieredChunks.READ) == []


def test_an_old_server_blocks() -> None:
    ((severity, sentence),) = findings(on(version_number=130_012))

    assert severity is Severity.BLOCKING
    assert "PostgreSQL 13" in sentence


def test_a_database_without_the_extension_is_worth_a_warning_only() -> None:
    ((severity, sentence),) = findings(on(extension=None))

    assert severity is Severity.WARNING
    assert "CREATE EXTENSION timescaledb" in sentence


def test_an_old_extension_blocks_and_says_how_to_update_it() -> None:
    ((severity, sentence),) = findings(on(extension=ServerVersion(2, 10, 3)))

    assert severity is Severity.BLOCKING
    assert "ALTER EXTENSION timescaledb UPDATE" in sentence


def test_an_encoding_that_checks_nothing_is_worth_a_warning() -> None:
    ((severity, _),) = findings(on(encoding="SQL_ASCII"))

    assert severity is Severity.WARNING


def test_what_change_data_capture_needs_is_asked_only_where_it_is_configured() -> None:
    cdc = Cdc(method="CDC", replication_slot="s", publication="p")
    unable = ReplicationFacts(
        wal_level="replica",
        may_replicate=True,
        may_make_temporary=True,
        slots_used=0,
        slots_allowed=1,
        slot=None,
        publication=None,
    )

    assert findings(probes=Probes(replication=unable)) == []
    assert len(findings(probes=Probes(replication=unable), aim=Aim(cdc, Timescaledb(), SERVER, [TABLE]))) == 3


def test_every_missing_grant_is_named_at_once_with_its_sql() -> None:
    registry = replace(
        HEALTHY,
        relations={},
        forbidden=(QualifiedName("public", "a"), QualifiedName("Odd", 'b"c')),
        missing_schemas=("nowhere",),
        unusable_schemas=("closed",),
    )

    said = findings(registry, Probes(closed_schemas=("_timescaledb_internal",)))

    text = " ".join(sentence for _, sentence in said)
    assert all(severity is Severity.BLOCKING for severity, _ in said)
    assert "nowhere" in text
    assert 'GRANT USAGE ON SCHEMA "closed" TO "read""er";' in text
    assert 'GRANT USAGE ON SCHEMA "_timescaledb_internal" TO "read""er";' in text
    assert 'GRANT SELECT ON "public"."a" TO "read""er";' in text
    assert 'GRANT SELECT ON "Odd"."b""c" TO "read""er";' in text


def test_white_space_around_the_name_of_a_schema_is_seen() -> None:
    ((_, absent), (_, closed)) = findings(
        replace(HEALTHY, missing_schemas=(" public", "x"), unusable_schemas=(" ",))
    )

    assert 'do not exist in the database: " public", "x".' in absent
    assert 'may not use these schemas: " ".' in closed


def test_a_table_that_may_not_be_read_beside_others_is_worth_a_warning() -> None:
    ((severity, _),) = findings(replace(HEALTHY, forbidden=(QualifiedName("public", "secret"),)))

    assert severity is Severity.WARNING


def test_a_long_list_of_forbidden_tables_is_cut() -> None:
    forbidden = tuple(QualifiedName("public", f"t{number}") for number in range(500))

    ((_, sentence),) = findings(replace(HEALTHY, forbidden=forbidden))

    assert "and 490 more" in sentence


def test_nothing_to_read_blocks() -> None:
    ((severity, sentence),) = findings(offers=False)

    assert severity is Severity.BLOCKING
    assert "nothing to read" in sentence


def hypertables(*names: str) -> dict[QualifiedName, Relation]:
    found = [
        replace(TABLE, name=QualifiedName("public", name), kind=RelationKind.HYPERTABLE) for name in names
    ]
    return {one.name: one for one in found}


def test_a_pattern_that_includes_no_hypertable_is_worth_a_warning() -> None:
    registry = replace(HEALTHY, relations={TABLE.name: TABLE, **hypertables("metrics", "secrets")})
    patterns = HypertableSelection(include=("metrix", "metrics", "other.*", "t"))

    ((severity, sentence),) = findings(registry, hypertables=patterns)

    assert severity is Severity.WARNING
    assert "timescaledb.include_hypertables: metrix, other.*, t." in sentence


def test_a_pattern_that_excludes_no_hypertable_is_worth_a_note() -> None:
    registry = replace(HEALTHY, relations=hypertables("metrics", "secrets"))
    patterns = HypertableSelection(include=("*",), exclude=("sekrets*", "public.secrets"))

    ((severity, sentence),) = findings(registry, hypertables=patterns)

    assert severity is Severity.NOTE
    assert "timescaledb.exclude_hypertables: sekrets*." in sentence


def test_a_pattern_that_fits_what_the_role_may_not_read_is_no_mistake() -> None:
    registry = replace(HEALTHY, forbidden=(QualifiedName("public", "metrics"),))
    patterns = HypertableSelection(include=("metrics",))

    ((_, sentence),) = findings(registry, hypertables=patterns)

    assert "may not read public.metrics" in sentence


def test_what_blocks_comes_first() -> None:
    said = findings(on(encoding="SQL_ASCII", version_number=130_000))

    assert [severity for severity, _ in said] == [Severity.BLOCKING, Severity.WARNING]


def test_where_streams_are_chosen_what_others_lack_is_no_matter() -> None:
    registry = replace(HEALTHY, forbidden=(QualifiedName("public", "secret"),))

    assert findings(registry, chosen=True) == []


def test_the_apache_edition_and_chunks_without_statistics_are_worth_a_note() -> None:
    said = findings(on(license="apache"), Probes(unmeasured=(TABLE.name,)))

    assert [severity for severity, _ in said] == [Severity.NOTE, Severity.NOTE]
    assert 'ANALYZE "public"."t";' in said[1][1]
