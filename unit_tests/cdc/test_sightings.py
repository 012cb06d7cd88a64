"""The log tells where chunks were born, and where their rows were last compressed or decompressed."""

from __future__ import annotations

from source_timescaledb.cdc.route import Owner
from source_timescaledb.cdc.sightings import Moment, Sightings
from source_timescaledb.hypertables.chunk_events import Fate
from source_timescaledb.hypertables.model import Chunk, ChunkStatus, QualifiedName
from source_timescaledb.lsn import Lsn
from source_timescaledb.pgoutput.messages import Insert, LogicalMessage
from unit_tests.cdc.feed import TABLE_OID, Feed, MemoryCatalog, described, stream_of

CHUNK = 42
NAME = QualifiedName("internal", "chunk")
START, END = "::timescaledb-decompression-start", "::timescaledb-decompression-end"


def chunk_feed() -> tuple[Feed, Sightings]:
    stream = stream_of(chunked=True)
    feed = Feed(stream, catalog=MemoryCatalog({TABLE_OID: Owner(stream, CHUNK)}))
    return feed, feed.changes.sightings


def row(number: int) -> Insert:
    return Insert(TABLE_OID, (b"%d" % number, b"note"))


def marker(prefix: str) -> LogicalMessage:
    return LogicalMessage(True, Lsn(1), prefix, b"")


def test_a_chunk_is_born_where_no_row_of_it_is_below_and_no_earlier_one_above() -> None:
    feed, sightings = chunk_feed()
    earlier = stream_of("other")
    feed.catalog.owners[900] = Owner(earlier, None)
    feed.transaction(described(900, "other"), Insert(900, (b"1", b"before")))
    feed.transaction(described(), row(1), row(2))

    records = feed.records()

    born = sightings.of(CHUNK, Fate.BORN)
    assert born is not None
    before, *rows = [record["data"]["_ab_cdc_lsn"] for record in records]
    assert before <= born.lsn < min(rows)
    assert born.at == records[1]["data"]["_ab_cdc_updated_at"]


def test_a_chunk_that_was_listed_was_born_before_its_rows_were_read_unless_the_log_told_sooner() -> None:
    sightings = Sightings()
    first, second = (
        Chunk(number, 1000 + number, NAME, ChunkStatus.PLAIN, (), None, False, 1, 1) for number in (1, 2)
    )
    sightings.listed([first])
    sightings.date_listed(Moment(70, "then"))
    sightings.listed([first, second])
    sightings.date_listed(Moment(90, "later"))

    assert sightings.of(1, Fate.BORN) == Moment(70, "then")
    assert sightings.of(2, Fate.BORN) == Moment(90, "later")
    assert sightings.of(3, Fate.BORN) is None


def test_a_decompression_is_dated_by_the_transaction_in_which_its_rows_are_marked() -> None:
    feed, sightings = chunk_feed()
    feed.transaction(described(), row(1))
    feed.records()
    assert sightings.of(CHUNK, Fate.DECOMPRESSED) is None

    feed.transaction(marker(START), row(2), marker(END), row(3))
    (record,) = feed.records()

    told = sightings.of(CHUNK, Fate.DECOMPRESSED)
    assert told is not None
    assert told.lsn > record["data"]["_ab_cdc_lsn"] - 10
    assert told.at == record["data"]["_ab_cdc_updated_at"]
    assert sightings.of(CHUNK, Fate.COMPRESSED) is None
    assert sightings.of(CHUNK, Fate.DROPPED) is None
