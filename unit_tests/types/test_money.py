from __future__ import annotations

import pytest

from source_timescaledb.errors import DefectError
from source_timescaledb.types.model import Kind, PgType
from source_timescaledb.types.money import DOLLARS, MoneyRow, money_format_from_row
from source_timescaledb.types.rendering import text_rendering
from source_timescaledb.types.texts import function

MONEY = PgType(790, "pg_catalog", "money", Kind.BASE)


@pytest.mark.parametrize(
    ("row", "text", "number"),
    [
        ((2, "-$1.00"), "-$1,234.56", "-1234.56"),
        ((2, "-$1.00"), "$0.05", "0.05"),
        ((2, "-$1.00"), "-$92,233,720,368,547,758.08", "-92233720368547758.08"),
        ((2, "($1.00)"), "($1,234.56)", "-1234.56"),
        ((2, "($1.00)"), "$1,234.56", "1234.56"),
        ((2, "-1,00 €"), "1.234,56 €", "1234.56"),
        ((2, "-1,00 €"), "-0,56 €", "-0.56"),
        ((2, "1,00- €"), "1.234,56- €", "-1234.56"),
        ((2, "CHF-1.00"), "CHF-1'234.56", "-1234.56"),
        ((2, "\N{MINUS SIGN}1,00 kr"), "\N{MINUS SIGN}1\N{NO-BREAK SPACE}234,56 kr", "-1234.56"),
        ((2, "CHF- 1.00"), "CHF- 1'234.56", "-1234.56"),
        ((3, "£ 1.000-"), "£ 1,234.567-", "-1234.567"),
        ((3, "£ 1.000-"), "£ 1,234.567", "1234.567"),
        ((2, "-1,00 zł"), "1.234,56 zł", "1234.56"),
        ((2, "Rs. -1.00"), "Rs. -1,234.56", "-1234.56"),
        ((0, "-¥1"), "-¥1,234,567", "-1234567"),
        ((0, "-¥1"), "¥0", "0"),
        ((3, "-TND1,000"), "TND1.234,567", "1234.567"),
    ],
)
def test_money_is_a_number_in_every_currency(row: MoneyRow, text: str, number: str) -> None:
    rendering = function(text_rendering(MONEY, -1, money_format_from_row(row)))

    assert rendering(text.encode()).decode() == number


def test_a_server_without_a_locale_writes_dollars() -> None:
    assert money_format_from_row((2, "-$1.00")) == DOLLARS


@pytest.mark.parametrize("text", ["", "1.00", "-$2.00", "-$1.00$1.00", "(money)"])
def test_what_is_not_minus_one_tells_of_no_currency(text: str) -> None:
    with pytest.raises(DefectError):
        money_format_from_row((2, text))
