"""Where a first load begins: a moment, a time before now, or a value of an integer time dimension.

The three notations cannot be confused: digits alone are an integer, a leading P or a unit word makes a
period, and what remains must be an ISO 8601 date or time. A period is kept in months, days and seconds, as
PostgreSQL keeps an interval, because a month has no fixed length: "1 month" before 31 March is 28 or 29
February. Without an offset a time is UTC, as everything is in our sessions.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from typing_extensions import Self

LONGEST_YEARS: Final = 1000
"""A longer period would leave the calendar that Python and PostgreSQL share."""

UNIT_WORDS: Final = {
    "s": "seconds", "sec": "seconds", "second": "seconds",
    "m": "minutes", "min": "minutes", "minute": "minutes",
    "h": "hours", "hour": "hours",
    "d": "days", "day": "days",
    "w": "weeks", "week": "weeks",
    "mon": "months", "month": "months",
    "y": "years", "year": "years",
}  # fmt: skip
PART: Final = re.compile(r"\s*(\d{1,12})\s*([a-z]+)\s*,?")
ISO_PERIOD: Final = re.compile(
    r"p(?:(?P<years>\d{1,12})y)?(?:(?P<months>\d{1,12})m)?(?:(?P<weeks>\d{1,12})w)?(?:(?P<days>\d{1,12})d)?"
    r"(?:t(?=\d)(?:(?P<hours>\d{1,12})h)?(?:(?P<minutes>\d{1,12})m)?(?:(?P<seconds>\d{1,12})s)?)?"
)


@dataclass(frozen=True, slots=True)
class Period:
    """A length of time in calendar months, days and seconds."""

    months: int = 0
    days: int = 0
    seconds: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `30 days`, `1 year 6 months`, `PT12H` or `P1Y2M3DT4H`; ValueError on anything else."""
        amounts = _iso_amounts(text.strip().lower()) or _worded_amounts(text.strip().lower())
        period = cls(
            months=12 * amounts.get("years", 0) + amounts.get("months", 0),
            days=7 * amounts.get("weeks", 0) + amounts.get("days", 0),
            seconds=3600 * amounts.get("hours", 0)
            + 60 * amounts.get("minutes", 0)
            + amounts.get("seconds", 0),
        )
        if period.months / 12 + period.days / 365 + period.seconds / 31_536_000 > LONGEST_YEARS:
            raise ValueError(f"a period may be at most {LONGEST_YEARS} years long")
        return period

    def before(self, moment: datetime) -> datetime:
        """Return the moment this much earlier; a day that the month lacks becomes its last."""
        months = 12 * moment.year + moment.month - 1 - self.months
        year, month = divmod(months, 12)
        day = min(moment.day, calendar.monthrange(year, month + 1)[1])
        moved = moment.replace(year=year, month=month + 1, day=day)
        return moved - timedelta(days=self.days, seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class Since:
    """The start of a first load: an aware time, a period before now, or an integer of the dimension."""

    start: datetime | Period | int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the setting `snapshot_since`; ValueError where it is none of the three."""
        text = text.strip()
        if re.fullmatch(r"[+-]?\d{1,19}", text):
            return cls(int(text))
        if re.match(r"\d{4}-", text):
            return cls(_moment(text))
        return cls(Period.parse(text))

    def resolve(self, now: datetime) -> datetime | int:
        """Return the aware time or the integer with which the load begins; `now` is aware."""
        match self.start:
            case Period() as period:
                return period.before(now)
            case moment_or_integer:
                return moment_or_integer


def _moment(text: str) -> datetime:
    # Python before 3.11 does not read the Z of ISO 8601.
    moment = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _iso_amounts(text: str) -> dict[str, int]:
    match = ISO_PERIOD.fullmatch(text)
    return {unit: int(amount) for unit, amount in match.groupdict().items() if amount} if match else {}


def _worded_amounts(text: str) -> dict[str, int]:
    amounts: dict[str, int] = {}
    position = 0
    while position < len(text):
        part = PART.match(text, position)
        if not part:
            raise ValueError("neither a period nor a time")
        # An s makes a plural only of a word: "ms" must not become minutes.
        word = part[2].removesuffix("s") if len(part[2]) > 2 else part[2]
        unit = UNIT_WORDS.get(word)
        if not unit:
            raise ValueError("not a unit of time")
        amounts[unit] = amounts.get(unit, 0) + int(part[1])
        position = part.end()
    if not amounts:
        raise ValueError("empty")
    return amounts
