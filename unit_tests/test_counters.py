"""What a sync counts of itself."""

from __future__ import annotations

from source_timescaledb.counters import BreakerState, StreamCounters, SyncCounters


def test_a_stream_has_the_same_counters_whoever_asks() -> None:
    counters = SyncCounters()
    counters.stream("public.metrics").rows += 5

    assert counters.stream("public.metrics").rows == 5
    assert list(counters.streams) == ["public.metrics"]


def test_a_stream_that_has_not_begun_has_taken_no_time() -> None:
    assert StreamCounters("public.metrics").seconds(1000.0) == 0.0


def test_a_stream_that_has_ended_takes_no_more_time() -> None:
    stream = StreamCounters("public.metrics", began=10.0)

    assert stream.seconds(12.5) == 2.5
    stream.ended = 13.0
    assert stream.seconds(99.0) == 3.0


def test_a_sync_is_timed_by_its_clock() -> None:
    now = [100.0]
    counters = SyncCounters(clock=lambda: now[0])
    now[0] = 107.5

    assert counters.seconds == 7.5


def test_the_breaker_is_closed_until_somebody_opens_it() -> None:
    assert SyncCounters().breakers == {"primary": BreakerState.CLOSED}


def test_the_summary_is_one_line_with_rows_bytes_chunks_slices_and_seconds() -> None:
    stream = StreamCounters(
        "public.metrics",
        began=0.0,
        rows=1000,
        size=378_000,
        chunks=7,
        slices=9,
        longest_seconds=0.25,
        retried=2,
    )

    assert stream.summary(2.0) == (
        "public.metrics: 1000 rows, 378000 bytes in 2.0 s (500 rows/s); 7 chunks in 9 slices, longest transaction "
        "0.250 s, 0 cut, 0 read again, 2 retried, 0 chunks gone."
    )


def test_the_summary_of_a_followed_stream_tells_of_its_changes() -> None:
    stream = StreamCounters("public.metrics", began=0.0, rows=10, changes=10, filtered=3, marked=400)

    assert stream.summary(1.0).endswith("; 10 changes, 3 more that slices hold, 400 of TimescaleDB's own.")
