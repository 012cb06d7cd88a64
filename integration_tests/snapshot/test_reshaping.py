"""Chunks that are reshaped while a read is going on, step by step: behind the read, under it, and ahead of it.

The read is held to one slice at a time, so that the place of each act is the same in every run. Chunk 0 has been read by
then, chunk 1 is half read, chunks 2 and 3 are not read yet.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from integration_tests.inprocess import Acts, InProcess
from integration_tests.slices import shrink_slices
from source_timescaledb.hypertables.model import ChunkStatus
from testkit.database import Database

pytestmark = pytest.mark.community

CHUNKS = 4
BEHIND, UNDER, AHEAD = range(3)
ROWS = 600
"""In each chunk."""
HALFWAY = ROWS + ROWS // 2
Act = tuple[str, ...]

COMPRESS = "SELECT compress_chunk('{chunk}')"
SEGMENT_WISE = "SET timescaledb.enable_segmentwise_recompression = on"
IN_FULL = "SET timescaledb.enable_segmentwise_recompression = off"
FREEZE = "SELECT _timescaledb_functions.freeze_chunk('{chunk}')"
LOOSEN = "UPDATE {chunk} SET note = note WHERE number % 50 = 0"
"""Moves rows out of their batches, and changes nothing."""


@pytest.fixture(autouse=True)
def _step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small slices, and none is read before the one before was written."""
    monkeypatch.setattr("source_timescaledb.snapshot.crew.QUEUE_BYTES", 1)
    shrink_slices(monkeypatch, 8 * 1024)


class Metrics:
    """A hypertable of four chunks, and what is done to them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        database.execute(
            "CREATE TABLE metrics (time timestamptz NOT NULL, device int, number int, note text)"
        )
        database.execute(
            "SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')"
        )
        database.grant_select("metrics")
        self.allow_compression()
        database.execute(
            "INSERT INTO metrics SELECT '2024-01-01'::timestamptz + i * interval '144 seconds', i %% 5, i,"
            " repeat('n', 40) FROM generate_series(0, %s - 1) i",
            [CHUNKS * ROWS],
        )
        self.chunks = [name for (name,) in database.rows("SELECT show_chunks('metrics')::text ORDER BY 1")]

    def allow_compression(self) -> None:
        self.database.execute(
            "ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')"
        )

    def forbid_compression(self) -> None:
        """On 2.21 a hypertable that may be compressed cannot be split."""
        self.database.execute("ALTER TABLE metrics SET (timescaledb.compress = false)")

    def perform(self, act: Act, *places: int) -> None:
        """Run statements over chunks, each `{chunk}` with the one after it as `{next}`, as the owner."""
        for place in places:
            following = self.chunks[min(place + 1, CHUNKS - 1)]
            for statement in act:
                self.database.execute(statement.format(chunk=self.chunks[place], next=following).encode())

    def read_during(self, act: Act, *places: int) -> Counter[int]:
        """How often each row is read in a sync that finds itself amid chunk 1 when somebody acts."""
        sync = InProcess(self.database.config(timescaledb={"parallel_chunks": 1}))
        ended = sync.read(acts={("RECORD", HALFWAY): lambda: self.perform(act, *places)})
        assert ended.failure is None, (ended.errors, ended.logged)
        assert ended.statuses[-1] == ("public", "metrics", "COMPLETE")
        return Counter(row["number"] for row in ended.rows("metrics"))

    def statuses(self) -> set[ChunkStatus]:
        """Of all chunks."""
        query = "SELECT _timescaledb_functions.chunk_status(show_chunks) FROM show_chunks('metrics')"
        return {ChunkStatus(status) for (status,) in self.database.rows(query)}


@pytest.fixture
def metrics(community_database: Database) -> Metrics:
    return Metrics(community_database)


def once(*places: int) -> Counter[int]:
    """Each row of chunks once; of all chunks where none is named."""
    numbers: Counter[int] = Counter()
    for place in places or range(CHUNKS):
        numbers.update(range(place * ROWS, (place + 1) * ROWS))
    return numbers


RESHAPINGS = [
    pytest.param((), (COMPRESS,), id="compress"),
    pytest.param((COMPRESS,), ("SELECT decompress_chunk('{chunk}')",), id="decompress"),
    pytest.param(
        (COMPRESS, LOOSEN), ("SELECT decompress_chunk('{chunk}')",), id="decompress of a partial chunk"
    ),
    pytest.param((COMPRESS, LOOSEN), (SEGMENT_WISE, COMPRESS), id="segment-wise recompress"),
    pytest.param((COMPRESS, LOOSEN), (IN_FULL, COMPRESS, SEGMENT_WISE), id="full recompress"),
    pytest.param(
        (COMPRESS,), ("SELECT compress_chunk('{chunk}', recompress => true)",), id="recompress => true"
    ),
    pytest.param((), ("SELECT reorder_chunk('{chunk}', 'metrics_time_idx')",), id="reorder"),
    pytest.param((COMPRESS, LOOSEN), ("VACUUM FULL {chunk}",), id="vacuum full"),
    pytest.param((COMPRESS,), (FREEZE,), id="freeze"),
    pytest.param((COMPRESS, FREEZE), (FREEZE.replace("freeze", "unfreeze"),), id="unfreeze"),
]


@pytest.mark.parametrize(("given", "act"), RESHAPINGS)
def test_chunks_that_are_reshaped_during_the_read_give_each_row_once(
    metrics: Metrics, given: Act, act: Act
) -> None:
    metrics.perform(given, *range(CHUNKS))

    assert metrics.read_during(act, BEHIND, UNDER, AHEAD) == once()


def test_unordered_chunks_are_read_whole(metrics: Metrics) -> None:
    """Written compressed, in batches whose ranges of time overlap."""
    rows = ((f"2024-01-0{1 + n % CHUNKS} 12:00:{n % 60:02}", n % 5, CHUNKS * ROWS + n) for n in range(6000))
    with metrics.database.connect() as session:
        session.execute("SET timescaledb.enable_direct_compress_copy = on")
        with session.cursor().copy("COPY metrics (time, device, number) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    assert all(status & ChunkStatus.UNORDERED for status in metrics.statuses())

    assert metrics.read_during(()) == once() + Counter(range(CHUNKS * ROWS, CHUNKS * ROWS + 6000))


@pytest.mark.parametrize(
    "given", [(), (COMPRESS,), (COMPRESS, LOOSEN)], ids=["plain", "compressed", "partial"]
)
def test_frozen_chunks_are_read_whole(metrics: Metrics, given: Act) -> None:
    metrics.perform((*given, FREEZE), *range(CHUNKS))
    assert all(status & ChunkStatus.FROZEN for status in metrics.statuses())

    assert metrics.read_during(()) == once()


@pytest.mark.parametrize("place", [BEHIND, UNDER, AHEAD])
def test_chunks_that_are_merged_during_the_read_give_each_row_once(metrics: Metrics, place: int) -> None:
    assert metrics.read_during(("CALL merge_chunks('{chunk}', '{next}')",), place) == once()


def test_what_was_merged_is_left_to_the_next_sync_by_one_that_is_stopped_in_its_last_slice(
    metrics: Metrics,
) -> None:
    """The chunk after the one that is half read goes into that; the last row is of the chunk after it."""
    sync = InProcess(metrics.database.config(timescaledb={"parallel_chunks": 1}))
    merge = partial(metrics.perform, ("CALL merge_chunks('{chunk}', '{next}')",), UNDER)
    acts: Acts = {("RECORD", HALFWAY): merge, ("RECORD", (CHUNKS - 1) * ROWS): sync.stop}

    stopped = sync.read(acts=acts)
    resumed = sync.read(state=stopped.state())

    assert stopped.statuses[-1] == ("public", "metrics", "INCOMPLETE")
    assert len(stopped.rows("metrics")) == (CHUNKS - 1) * ROWS
    assert resumed.statuses[-1] == ("public", "metrics", "COMPLETE")
    told = [*stopped.rows("metrics"), *resumed.rows("metrics")]
    assert Counter(row["number"] for row in told) == once()


@pytest.mark.parametrize("place", [BEHIND, UNDER, AHEAD])
def test_a_chunk_that_is_split_during_the_read_gives_each_row(metrics: Metrics, place: int) -> None:
    metrics.forbid_compression()

    found = metrics.read_during(("CALL split_chunk('{chunk}')",), place)

    assert found.keys() == once().keys()
    assert {number // ROWS for number, times in found.items() if times > 1} <= {place}
    assert max(found.values()) <= 2


@pytest.mark.parametrize("place", [BEHIND, UNDER, AHEAD])
def test_a_chunk_that_is_detached_during_the_read_is_gone_and_no_other(metrics: Metrics, place: int) -> None:
    found = metrics.read_during(("CALL detach_chunk('{chunk}')",), place)

    others = once(*(other for other in range(CHUNKS) if other != place))
    assert Counter({number: times for number, times in found.items() if number in others}) == others
    assert found - once() == Counter()


def test_a_chunk_that_is_attached_during_the_read_joins_it(metrics: Metrics) -> None:
    bounds = '{{"time": ["2024-01-03", "2024-01-04"]}}'
    metrics.perform(("CALL detach_chunk('{chunk}')",), AHEAD)

    found = metrics.read_during((f"CALL attach_chunk('metrics', '{{chunk}}', '{bounds}')",), AHEAD)

    assert found == once()
