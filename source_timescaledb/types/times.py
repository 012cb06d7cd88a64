"""Dates, times and timestamps in Airbyte's formats.

A timestamp always has six decimals and a `T`; with time zone it is in UTC and ends in `Z`. Years before Christ carry
the suffix ` BC`, years past 9999 more digits, and infinity cannot be expressed. A time keeps the decimals it has.
`24:00:00`, which no ISO reader accepts, becomes the last nanosecond of the day; a time with time zone is moved to UTC,
where only a midnight that is one in UTC already can still say 24:00:00.

to_char is the fastest form with all six decimals (measured: 360 ns; date and time apart, with the zeros counted, 365;
to_json, without them and with `+00:00`, 180). For years before Christ it writes the year without its sign. The
comparisons that choose the form cost 15 ns each.
"""

from __future__ import annotations

from source_timescaledb.types.definition import (
    QUOTED,
    SQL_MARKER,
    WHOLE_ARRAY,
    Definition,
    Template,
    string,
    whole_array_marking,
)


def timestamp(year_one: str, zone: str) -> Template:
    """A timestamp that ends in `zone`, in one form since `year_one`, in another before it."""
    form = rf'"\""YYYY-MM-DD"T"HH24:MI:SS.US"{zone}'
    return (
        rf"""CASE
 WHEN VALUE >= '{year_one}' AND VALUE < 'infinity' THEN to_char(VALUE, '{form}\""')
 WHEN VALUE IS NULL THEN 'null'
 WHEN isfinite(VALUE) THEN to_char(VALUE, '{form} BC\""')
 ELSE VALUE::text || {SQL_MARKER} END""",
    )


TIMESTAMP = Definition(
    string(format="date-time", airbyte_type="timestamp_without_timezone"),
    timestamp("0001-01-01 00:00:00", ""),
)
TIMESTAMPTZ = Definition(
    string(format="date-time", airbyte_type="timestamp_with_timezone"),
    timestamp("0001-01-01 00:00:00+00", "Z"),
)
DATE = Definition(
    string(format="date"),
    (
        f"""CASE
 WHEN isfinite(VALUE) THEN '"' || VALUE::text || '"'
 WHEN VALUE IS NULL THEN 'null'
 ELSE VALUE::text || {SQL_MARKER} END""",
    ),
    whole_array_marking("infinity", "-infinity"),
)
TIME = Definition(
    string(format="time", airbyte_type="time_without_timezone"),
    (
        """CASE
 WHEN VALUE < '24:00:00' THEN '"' || VALUE::text || '"'
 WHEN VALUE IS NULL THEN 'null'
 ELSE '"23:59:59.999999999"' END""",
    ),
)
TIMETZ = Definition(
    string(format="time", airbyte_type="time_with_timezone"),
    (
        """CASE
 WHEN VALUE = '24:00:00+00' THEN '"23:59:59.999999999Z"'
 WHEN VALUE IS NULL THEN 'null'
 ELSE '"' || (VALUE AT TIME ZONE INTERVAL '0')::time::text || 'Z"' END""",
    ),
)
INTERVAL = Definition(string(), QUOTED, WHOLE_ARRAY)
