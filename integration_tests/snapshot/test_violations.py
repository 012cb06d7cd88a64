"""Snapshots that a server of today breaks: each row of the table in the facts page, by name.

Each test first shows that the trap is there: a reader that takes its snapshot, and then reads the chunk after somebody
has changed it, sees what was not there then, or misses what was. Then it shows our reader in the same place. Either the
act has to wait for it, because it locks the chunk before its snapshot; or its second fingerprint throws away what it
read, which is all there is for a role that may lock nothing. Where an act does no harm, the read may be thrown away all
the same: such rows are in the table too.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from integration_tests.cdc.scenes import until
from integration_tests.inprocess import InProcess
from integration_tests.snapshot.interleaving import (
    BY_COLUMN,
    ROWS,
    Outcome,
    Play,
    Violation,
    closed_gate,
    make_gate,
    values,
    waiting_at_the_gate,
)
from source_timescaledb.hypertables import catalog
from source_timescaledb.hypertables.model import Chunk, ServerVersion
from testkit.database import Database

ORIGINAL = values()
NOTHING = values(0, 0)
COMPRESS = "SELECT compress_chunk('{chunk}')"
DECOMPRESS = "SELECT decompress_chunk('{chunk}')"
WRITE = (
    "INSERT INTO {table} VALUES ('2024-01-01 23:59', 1, 1000, 'new')",
    "UPDATE {table} SET value = 1007 WHERE value = 7",
    "DELETE FROM {table} WHERE value = 8",
)
WRITTEN = values() + values(1000, 1001) + values(1007, 1008) - values(7, 9)
LOOSEN = (
    "INSERT INTO {table} SELECT '2024-01-01'::timestamptz + i * interval '50 minutes', i % 5, 500 + i, 'loose'"
    " FROM generate_series(0, 23) i"
)
LOOSE = values(500, 524)
PARTIAL = (COMPRESS, LOOSEN)
HARMLESS = [ORIGINAL, ORIGINAL + LOOSE]


def version(database: Database) -> ServerVersion:
    query = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
    return ServerVersion.parse(str(database.value(query)))


def waited(outcome: Outcome) -> bool:
    """Whether the act had to wait until a right read was over."""
    return outcome.waited and outcome.values is not None


def thrown_away(outcome: Outcome) -> bool:
    return outcome.values is None


@pytest.mark.community
def test_compress_of_a_chunk_without_changes(community_database: Database) -> None:
    violation = Violation(community_database, [COMPRESS])

    assert violation.naively() == ORIGINAL, "harmless"

    locking, guarded = violation.told()
    assert waited(locking)
    assert thrown_away(guarded)


@pytest.mark.community
def test_changes_and_then_compress(community_database: Database) -> None:
    violation = Violation(community_database, [*WRITE, COMPRESS])

    assert violation.naively() == WRITTEN, "what was written after the snapshot"

    locking, guarded = violation.told()
    assert waited(locking)
    assert thrown_away(guarded)


@pytest.mark.community
def test_decompress_chunk_of_a_compressed_chunk(community_database: Database) -> None:
    violation = Violation(community_database, [DECOMPRESS], given=[COMPRESS])

    assert violation.naively() == NOTHING

    locking, guarded = violation.told()
    assert waited(locking)
    assert thrown_away(guarded)


@pytest.mark.community
def test_decompress_of_a_partial_chunk(community_database: Database) -> None:
    violation = Violation(community_database, [DECOMPRESS], given=PARTIAL)

    assert violation.naively() == LOOSE, "only the loose rows"

    locking, guarded = violation.told()
    assert waited(locking)
    assert thrown_away(guarded)


@pytest.mark.community
def test_compress_chunk_with_recompress_true(community_database: Database) -> None:
    """In memory since 2.24; before, a chunk that has its settings already is left as it is."""
    violation = Violation(
        community_database, ["SELECT compress_chunk('{chunk}', recompress => true)"], given=[COMPRESS]
    )
    rewrites = version(community_database) >= ServerVersion(2, 24)

    assert violation.naively() == (NOTHING if rewrites else ORIGINAL)

    locking, guarded = violation.told()
    assert waited(locking) if rewrites else locking.values == ORIGINAL
    assert thrown_away(guarded) is rewrites


@pytest.mark.community
def test_full_recompress(community_database: Database) -> None:
    in_full = ["SET timescaledb.enable_segmentwise_recompression = off", *WRITE, COMPRESS]
    violation = Violation(community_database, in_full, given=[COMPRESS])

    assert violation.naively() == WRITTEN, "what was written after the snapshot"

    assert all(map(thrown_away, violation.told()))


@pytest.mark.community
def test_segment_wise_recompress_of_a_partial_chunk(community_database: Database) -> None:
    """It rewrites no file and waits for no reader: the chunk's status alone shows it."""
    violation = Violation(community_database, [COMPRESS], given=PARTIAL)

    assert violation.naively() == ORIGINAL, "without the loose rows"

    locking, guarded = violation.told()
    assert not locking.waited
    assert thrown_away(locking)
    assert thrown_away(guarded)


@pytest.mark.community
@pytest.mark.parametrize("behaviour", ["truncate_disabled", "truncate_or_delete"])
def test_changes_and_then_compress_without_truncate(community_database: Database, behaviour: str) -> None:
    """Batches are frozen, and so seen too early, up to 2.26; since then they are not, and so seen too late."""
    violation = Violation(
        community_database, [f"SET timescaledb.compress_truncate_behaviour = '{behaviour}'", *WRITE, COMPRESS]
    )
    frozen = version(community_database) < ServerVersion(2, 27)

    assert violation.naively() == (WRITTEN if frozen else NOTHING)

    assert all(map(thrown_away, violation.told()))


@pytest.mark.community
@pytest.mark.parametrize(
    ("act", "given"),
    [
        pytest.param(WRITE, [COMPRESS], id="changes of a compressed chunk"),
        pytest.param(["DELETE FROM {table} WHERE device = 3"], [COMPRESS], id="direct delete"),
        pytest.param(["VACUUM FULL {chunk}"], PARTIAL, id="vacuum full of a partial chunk"),
        pytest.param(["SELECT reorder_chunk('{chunk}', '{table}_time_idx')"], [], id="reorder"),
    ],
)
def test_changes_of_a_compressed_chunk_and_direct_delete_and_vacuum_full_and_reorder(
    community_database: Database, act: list[str], given: list[str]
) -> None:
    violation = Violation(community_database, act, given=given)

    assert violation.naively() in HARMLESS

    assert all(outcome.values is None or outcome.values in HARMLESS for outcome in violation.told())


@pytest.mark.community
def test_merge_chunks(community_database: Database) -> None:
    violation = Violation(community_database, ["CALL merge_chunks('{chunk}', '{next}')"], compresses=False)

    assert violation.naively() == values(0, 2 * ROWS), "the rows of both chunks"

    locking, guarded = violation.told()
    assert waited(locking)
    assert thrown_away(guarded)


@pytest.mark.community
def test_split_chunk(community_database: Database) -> None:
    violation = Violation(community_database, ["CALL split_chunk('{chunk}')"], compresses=False)

    assert violation.naively() == values(0, ROWS // 2), "half of the rows"

    locking, guarded = violation.told()
    assert waited(locking)
    assert thrown_away(guarded)


REWRITES = [
    pytest.param("ALTER TABLE {table} ALTER COLUMN note TYPE int USING length(note)", id="alter type"),
    pytest.param("TRUNCATE {chunk}", id="truncate of the chunk"),
]


@pytest.mark.parametrize("act", REWRITES)
def test_alter_type_rewrite_and_truncate(database: Database, act: str) -> None:
    violation = Violation(database, [act], compresses=False)

    assert violation.naively() == NOTHING

    locking, guarded = violation.told()
    assert waited(locking)
    assert not waited(guarded)


ENDS = [
    pytest.param("DROP TABLE {chunk}", id="drop"),
    pytest.param("TRUNCATE {table}", id="truncate of the hypertable"),
    pytest.param("SELECT drop_chunks('{table}', older_than => '2024-01-02'::timestamptz)", id="drop_chunks"),
    pytest.param("ALTER TABLE {chunk} RENAME TO {table}_renamed", id="rename"),
]


@pytest.mark.parametrize("act", ENDS)
def test_drop_and_rename_of_a_chunk(database: Database, act: str) -> None:
    violation = Violation(database, [act], compresses=False)

    assert violation.naively() is None, "42P01"

    locking, _ = violation.told()
    assert waited(locking)


def test_drop_of_a_chunk_that_is_read_through_its_hypertable(database: Database) -> None:
    """Nothing fails: there are fewer rows."""
    violation = Violation(database, ["DROP TABLE {chunk}"], compresses=False)

    assert violation.naively_by_hypertable() == values(ROWS, 2 * ROWS)

    _, guarded = violation.told()
    assert guarded.values in (None, ORIGINAL)


def test_a_chunk_that_goes_while_it_is_read_through_its_hypertable_ends_no_sync(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second fingerprint does not find it (42704): the catalog is asked, and the read goes on without it."""
    make_gate(database)
    play = Play.prepare(database, "metrics", [], BY_COLUMN, compresses=False)
    fingerprint = catalog.fingerprint

    def held(extension: ServerVersion, chunk: Chunk) -> tuple[str, str]:
        before, after = fingerprint(extension, chunk)
        return waiting_at_the_gate(before), after

    monkeypatch.setattr(catalog, "fingerprint", held)
    sync = InProcess(database.config(timescaledb={"parallel_chunks": 1}))

    with closed_gate(database) as open_, ThreadPoolExecutor() as threads:
        reading = threads.submit(sync.read)
        until(lambda: somebody_sleeps(database))
        dropping = threads.submit(play.perform, ["DROP TABLE {chunk}"])
        until(lambda: dropping.done() or somebody_waits(database))
        open_()
        ended = reading.result()
        dropping.result()

    assert ended.statuses[-1] == ("public", "metrics", "COMPLETE")
    read = Counter(row["value"] for row in ended.rows("metrics"))
    assert read in (values(ROWS, 2 * ROWS), values(0, 2 * ROWS))


def somebody_sleeps(database: Database) -> bool:
    return _waiting(database, "PgSleep")


def somebody_waits(database: Database) -> bool:
    return _waiting(database, "relation")


def _waiting(database: Database, event: str) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = %s"
    return database.as_superuser().execute(query, [event]).fetchone() != (0,)
