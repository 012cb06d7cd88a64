"""What compression does to the log is told by the settings in force, with the SQL for whoever has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from source_timescaledb.cdc.compressing import (
    DIRECT_COMPRESS,
    DIRECT_DELETE,
    DIRECT_REFRESH,
    EARLY_MARKERS,
    MARKERS,
    Compressing,
    Override,
    is_on,
)
from source_timescaledb.health.compression import compression_findings
from source_timescaledb.health.finding import Severity
from source_timescaledb.hypertables.model import QualifiedName, ServerVersion
from unit_tests.health.test_replication import METRICS, SERVER

EVENTS = QualifiedName("public", "events")
MARKED = {MARKERS: "on"}
USED = Compressing(hypertables=(METRICS, EVENTS), keyless=(EVENTS,), settings=MARKED)


def findings(version: str = "2.29.2", **facts: Any) -> list[tuple[Severity, str]]:
    server = replace(SERVER, extension=ServerVersion.parse(version))
    return [(one.severity, str(one)) for one in compression_findings(server, replace(USED, **facts))]


def test_a_server_that_marks_and_hides_nothing_has_no_findings() -> None:
    assert findings() == []
    assert list(compression_findings(replace(SERVER, license="apache"), Compressing())) == []


@pytest.mark.parametrize(
    ("version", "settings", "words"),
    [
        ("2.29.2", {MARKERS: "off"}, f"ALTER SYSTEM SET {MARKERS} = on; SELECT pg_reload_conf();"),
        ("2.11.2", {}, "2.11.2 marks nothing in the log"),
        ("2.14.0", {EARLY_MARKERS: "off"}, "Upgrade TimescaleDB to 2.16 or newer"),
        ("2.14.0", {EARLY_MARKERS: "on"}, "marks only what an UPDATE or DELETE decompresses"),
    ],
)
def test_moves_of_rows_that_are_not_marked_block_where_compression_is_in_use(
    version: str, settings: dict[str, str], words: str
) -> None:
    ((severity, sentence),) = findings(version, settings=settings)

    assert severity is Severity.BLOCKING
    assert words in sentence

    ((severity, sentence),) = findings(version, settings=settings, hypertables=(), keyless=())

    assert severity is Severity.WARNING
    assert words in sentence
    assert "No followed hypertable has compression yet." in sentence


def test_deletes_of_whole_batches_are_told_with_what_makes_them_visible() -> None:
    ((severity, sentence),) = findings(settings={**MARKED, DIRECT_DELETE: "on"})

    assert severity is Severity.WARNING
    assert "public.Metrics, public.events" in sentence
    assert sentence.endswith(f'ALTER DATABASE "shop" SET {DIRECT_DELETE} = off;')


def test_roles_that_have_a_setting_of_their_own_are_named() -> None:
    overrides = (
        Override("app", here=True, setting=DIRECT_DELETE, value="on"),
        Override("Job", here=False, setting=DIRECT_DELETE, value="true"),
        Override("quiet", here=True, setting=DIRECT_DELETE, value="no"),
    )
    ((_, sentence),) = findings(settings={**MARKED, DIRECT_DELETE: "off"}, overrides=overrides)

    assert sentence.endswith(
        f'ALTER ROLE "app" IN DATABASE "shop" SET {DIRECT_DELETE} = off; ALTER ROLE "Job" SET {DIRECT_DELETE} = off;'
    )


def test_rows_written_compressed_matter_to_tables_without_a_key_alone() -> None:
    copy, insert = DIRECT_COMPRESS
    hidden = {**MARKED, copy: "on", insert: "off"}

    ((severity, sentence),) = findings(settings=hidden)

    assert severity is Severity.WARNING
    assert f"({copy}): of public.events an" in sentence
    assert sentence.endswith(f'ALTER DATABASE "shop" SET {copy} = off;')
    assert findings(settings=hidden, keyless=()) == []


@pytest.mark.parametrize("setting", [DIRECT_DELETE, *DIRECT_COMPRESS, DIRECT_REFRESH])
def test_what_a_refresh_hides_concerns_the_aggregates_that_are_compressed(setting: str) -> None:
    hidden = {**MARKED, setting: "on"}
    hourly = QualifiedName("public", "hourly")

    ((severity, sentence),) = findings(settings=hidden, hypertables=(), keyless=(), aggregates=(hourly,))

    assert severity is Severity.WARNING
    assert "refresh of a compressed continuous aggregate" in sentence
    assert "public.hourly" in sentence
    assert sentence.endswith(f'ALTER DATABASE "shop" SET {setting} = off;')
    assert findings(settings=hidden, hypertables=(), keyless=()) == []


def test_moves_of_rows_that_are_not_marked_block_compressed_aggregates() -> None:
    hourly = QualifiedName("public", "hourly")

    ((severity, _),) = findings(settings={MARKERS: "off"}, hypertables=(), keyless=(), aggregates=(hourly,))

    assert severity is Severity.BLOCKING


def test_the_tables_own_option_is_told() -> None:
    ((_, sentence),) = findings(directly=(EVENTS,))

    assert sentence.endswith('ALTER TABLE "public"."events" SET (timescaledb.direct_compress = false);')


@pytest.mark.parametrize(
    ("text", "on"), [("on", True), ("TRUE", True), ("1", True), ("Off", False), ("f", False)]
)
def test_a_boolean_setting_is_understood_as_the_server_writes_or_takes_it(text: str, on: bool) -> None:
    assert is_on(text) is on
