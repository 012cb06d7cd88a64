"""Dates, times and timestamps in Airbyte's formats.

A timestamp always has six decimals and a `T`; with time zone it is in UTC and ends in `Z`. Years before Christ carry
the suffix ` BC`, years past 9999 more digits, and infinity cannot be expressed. A time keeps the decimals it has.
`24:00:00`, which no ISO reader accepts, becomes the last nanosecond of the day; a time with time zone is moved to UTC,
where only a midnight that is one in UTC already can still say 24:00:00.

Texts have a space instead of the `T` and only the decimals they need. Those with a year of four digits are told by their
length, the first hyphen and their end, and cut into pieces; a regular expression reads the others (measured: 520 ns
with the call against 1,180). An offset that is not zero is refused: a session that is not in UTC must not go unnoticed.

to_char is the fastest form with all six decimals (measured: 360 ns; date and time apart, with the zeros counted, 365;
to_json, without them and with `+00:00`, 180). For years before Christ it writes the year without its sign. The
comparisons that choose the form cost 15 ns each.
"""

from __future__ import annotations

import re
from typing import Final

from source_timescaledb.types.definition import (
    QUOTED,
    SQL_MARKER,
    WHOLE_ARRAY,
    Definition,
    Template,
    Verbatim,
    string,
    whole_array_marking,
)
from source_timescaledb.types.texts import MARK, malformed, quoted

INFINITIES: Final = frozenset((b"infinity", b"-infinity"))
LAST_NANOSECOND: Final = b"23:59:59.999999999"
HYPHEN: Final = ord("-")

MOMENT: Final = re.compile(rb"(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(\+00)?( BC)?")
ENDING: Final = {
    19: b'.000000"',
    **{20 + decimals: b"0" * (6 - decimals) + b'"' for decimals in range(1, 7)},
}
"""What completes the text of a timestamp with a year of four digits, by its length."""

ENDING_IN_UTC: Final = {length + 3: ending[:-1] + b'Z"' for length, ending in ENDING.items()}
"""The same with the time zone `+00`, which is cut off."""

ZONED_TIME: Final = re.compile(rb"(\d\d):(\d\d):(\d\d)(\.\d{1,6})?([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?")
DAY_SECONDS: Final = 86_400


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


def timestamp_text(text: bytes) -> bytes:
    """A timestamp's JSON."""
    ending = ENDING.get(len(text))
    if ending and text[4] == HYPHEN and text[-1:] != b"C":
        return b'"' + text[:10] + b"T" + text[11:] + ending
    return any_timestamp(text, b"")


def timestamptz_text(text: bytes) -> bytes:
    """The JSON of a timestamp with time zone."""
    ending = ENDING_IN_UTC.get(len(text))
    if ending and text[4] == HYPHEN and text[-3:] == b"+00":
        return b'"' + text[:10] + b"T" + text[11:-3] + ending
    return any_timestamp(text, b"Z")


def any_timestamp(text: bytes, zone: bytes) -> bytes:
    """The JSON of a timestamp in any year."""
    if text in INFINITIES:
        return text + MARK
    match = MOMENT.fullmatch(text)
    if match is None or (match[4] is None) != (zone == b""):
        raise malformed("timestamp")
    day, time, decimals, _, era = match.groups(b"")
    return b'"%bT%b.%b%b%b"' % (day, time, decimals.ljust(6, b"0"), zone, era)


def date_text(text: bytes) -> bytes:
    """A date's JSON."""
    return text + MARK if text in INFINITIES else quoted(text)


def time_text(text: bytes) -> bytes:
    """A time's JSON."""
    return quoted(LAST_NANOSECOND if text == b"24:00:00" else text)


def timetz_text(text: bytes) -> bytes:
    """The JSON of a time with time zone, moved to UTC."""
    if text == b"24:00:00+00":
        return quoted(LAST_NANOSECOND + b"Z")
    match = ZONED_TIME.fullmatch(text)
    if match is None:
        raise malformed("time")
    offset = in_seconds(match[6], match[7], match[8])
    east = offset if match[5] == b"+" else -offset
    minute, second = divmod((in_seconds(match[1], match[2], match[3]) - east) % DAY_SECONDS, 60)
    return b'"%02d:%02d:%02d%bZ"' % (*divmod(minute, 60), second, match[4] or b"")


def in_seconds(hours: bytes, minutes: bytes | None, seconds: bytes | None) -> int:
    """A time's whole seconds."""
    return int(hours) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)


TIMESTAMP = Definition(
    string(format="date-time", airbyte_type="timestamp_without_timezone"),
    timestamp("0001-01-01 00:00:00", ""),
    timestamp_text,
)
TIMESTAMPTZ = Definition(
    string(format="date-time", airbyte_type="timestamp_with_timezone"),
    timestamp("0001-01-01 00:00:00+00", "Z"),
    timestamptz_text,
)
DATE = Definition(
    string(format="date"),
    (
        f"""CASE
 WHEN isfinite(VALUE) THEN '"' || VALUE::text || '"'
 WHEN VALUE IS NULL THEN 'null'
 ELSE VALUE::text || {SQL_MARKER} END""",
    ),
    date_text,
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
    time_text,
)
TIMETZ = Definition(
    string(format="time", airbyte_type="time_with_timezone"),
    (
        """CASE
 WHEN VALUE = '24:00:00+00' THEN '"23:59:59.999999999Z"'
 WHEN VALUE IS NULL THEN 'null'
 ELSE '"' || (VALUE AT TIME ZONE INTERVAL '0')::time::text || 'Z"' END""",
    ),
    timetz_text,
)
INTERVAL = Definition(string(), QUOTED, Verbatim.QUOTED, WHOLE_ARRAY)
