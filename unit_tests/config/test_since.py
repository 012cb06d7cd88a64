from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from source_timescaledb.config.since import Period, Since

NOW = datetime(2024, 3, 31, 12, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("30 days", datetime(2024, 3, 1, 12, 0, tzinfo=timezone.utc)),
        ("30d", datetime(2024, 3, 1, 12, 0, tzinfo=timezone.utc)),
        ("PT12H", datetime(2024, 3, 31, 0, 0, tzinfo=timezone.utc)),
        ("1 hour 30 mins", datetime(2024, 3, 31, 10, 30, tzinfo=timezone.utc)),
        ("6 months", datetime(2023, 9, 30, 12, 0, tzinfo=timezone.utc)),
        ("1 mon", datetime(2024, 2, 29, 12, 0, tzinfo=timezone.utc)),
        ("13 MONTHS", datetime(2023, 2, 28, 12, 0, tzinfo=timezone.utc)),
        ("1 year, 2 weeks", datetime(2023, 3, 17, 12, 0, tzinfo=timezone.utc)),
        ("P1Y2M3DT4H5M6S", datetime(2023, 1, 28, 7, 54, 54, tzinfo=timezone.utc)),
        ("P2W", datetime(2024, 3, 17, 12, 0, tzinfo=timezone.utc)),
        ("0 days", NOW),
        ("2024-01-02", datetime(2024, 1, 2, tzinfo=timezone.utc)),
        ("2024-01-02 03:04", datetime(2024, 1, 2, 3, 4, tzinfo=timezone.utc)),
        ("2024-01-02T03:04:05Z", datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        ("2024-01-02T03:04:05+02:00", datetime(2024, 1, 2, 1, 4, 5, tzinfo=timezone.utc)),
        (" 1000000 ", 1_000_000),
        ("-5", -5),
    ],
)
def test_a_start_is_read_as_it_is_meant(text: str, start: datetime | int) -> None:
    assert Since.parse(text).resolve(NOW) == start


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "30 lightyears", "5 ms", "P", "PT", "P1D2", "2024-13-01", "2024-01-01T25:00",
        "days", "1.5 days", "- 3 days", "1001 years", "999999999999 months", "99999999999999999999", "now()",
    ],
)  # fmt: skip
def test_what_is_no_start_is_refused(text: str) -> None:
    with pytest.raises((ValueError, OverflowError)):
        Since.parse(text)


def test_a_time_without_an_offset_is_utc() -> None:
    moment = Since.parse("2024-01-02T03:04:05").start

    assert isinstance(moment, datetime)
    assert moment.utcoffset() == timedelta(0)


@settings(deadline=None)
@given(
    st.builds(
        Period, months=st.integers(0, 6000), days=st.integers(0, 30_000), seconds=st.integers(0, 10**9)
    ),
    st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, tz=timezone.utc)),
)
def test_a_period_never_leads_into_the_future(period: Period, moment: datetime) -> None:
    assert period.before(moment) <= moment


@settings(deadline=None)
@given(st.text())
def test_any_text_is_either_a_start_or_a_value_error(text: str) -> None:
    try:
        start = Since.parse(text).resolve(NOW)
    except ValueError:
        return
    assert isinstance(start, datetime | int)
