"""Money: a number whose text is in the database's own currency format.

The server stores whole cents, or whatever the currency has instead, and writes them as `lc_monetary` asks for:
`-$1,234.56`, `($1,234.56)`, `1.234,56 €`, `¥1,235`. Its cast to numeric gives the digits, scaled as that locale scales
them (cash.c, cash_numeric). The text alone does not tell how many decimals it has: whether 1,234 is a thousand depends on
the locale. So a session is asked once what it writes for minus one (`MONEY_QUERY`); what stands around the digits there
stands around the digits of every negative amount and of no other (cash.c, cash_out; true of the 51 formats that 74 of
glibc's locales have on PostgreSQL 17).

The session that is asked must be the one that sends the texts, or one with the same `lc_monetary`. No currency's symbol
has a digit in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from source_timescaledb.types.definition import WHERE_NULL, Definition, TextFunction
from source_timescaledb.types.numbers import NUMBER_SCHEMA
from source_timescaledb.types.texts import malformed

NO_DIGITS: Final = bytes(sorted({*range(256)} - {*b"0123456789"}))
MINUS_ONE: Final = re.compile(r"([^0-9]*)1(?:[^0-9]0+)?([^0-9]*)")

MONEY_QUERY = "SELECT scale(0::money::numeric), concat((-1)::money)"
"""Returns the one row that `money_format_from_row` reads."""

MoneyRow = tuple[int, str]
"""The row of `MONEY_QUERY`: decimals, minus one."""


@dataclass(frozen=True, slots=True)
class MoneyFormat:
    """How a session writes money: its decimals, and what stands before and after the digits of a negative amount."""

    decimals: int
    before: bytes
    after: bytes


DOLLARS = MoneyFormat(2, b"-$", b"")
"""What a server writes that has no locale (C): `-$1,234.56`."""


def money_format_from_row(row: MoneyRow) -> MoneyFormat:
    """The format that `MONEY_QUERY`'s row tells of.

    Raises:
        DefectError: the row's text is not minus one in any currency.
    """
    decimals, text = row
    match = MINUS_ONE.fullmatch(text)
    if match is None or not any(match.groups()):
        raise malformed("minus one in money")
    return MoneyFormat(decimals, match[1].encode(), match[2].encode())


def money(format_: MoneyFormat) -> Definition:
    """The definition of money, of which only the text depends on the format."""
    return Definition(NUMBER_SCHEMA, ("VALUE::numeric", WHERE_NULL), amount(format_))


def amount(format_: MoneyFormat) -> TextFunction:
    """What makes a number of an amount's text."""
    decimals, before, after = format_.decimals, format_.before, format_.after

    def number(text: bytes) -> bytes:
        digits = text.translate(None, NO_DIGITS)
        if len(digits) <= decimals:
            raise malformed("amount of money")
        if decimals:
            digits = digits[:-decimals] + b"." + digits[-decimals:]
        return b"-" + digits if text.startswith(before) and text.endswith(after) else digits

    return number
