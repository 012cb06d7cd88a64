from __future__ import annotations

import pytest

from source_timescaledb.errors import DefectError
from source_timescaledb.types.model import Kind, PgType, TypeRow, types_from_rows

NUMERIC: TypeRow = (1700, "pg_catalog", "numeric", "b", 0, 0, -1, ",")
NUMERICS: TypeRow = (1231, "pg_catalog", "_numeric", "a", 1700, 0, -1, ",")
POINT: TypeRow = (600, "pg_catalog", "point", "b", 701, 0, -1, ",")
PRICE: TypeRow = (20001, "shop", "price", "d", 0, 1700, 655366, ",")
FAIR_PRICE: TypeRow = (20002, "shop", "fair_price", "d", 0, 20001, -1, ",")
PRICES: TypeRow = (20003, "shop", "prices", "d", 0, 1231, 655366, ",")
BOX: TypeRow = (603, "pg_catalog", "box", "b", 600, 0, -1, ";")

SCALE_TWO = 655366


def test_an_array_has_its_element() -> None:
    types = types_from_rows([NUMERICS, NUMERIC])

    assert types[1231] == PgType(1231, "pg_catalog", "_numeric", Kind.ARRAY, element=types[1700])


def test_a_point_is_no_array_although_it_has_subscripts() -> None:
    types = types_from_rows([POINT])

    assert types[600] == PgType(600, "pg_catalog", "point", Kind.BASE)


def test_a_box_has_a_delimiter_of_its_own() -> None:
    types = types_from_rows([BOX, POINT])

    assert (types[603].delimiter, types[600].delimiter) == (";", ",")


def test_a_domain_over_a_domain_is_bound_by_the_inner_one() -> None:
    types = types_from_rows([FAIR_PRICE, PRICE, NUMERIC])

    assert types[20002].resolved(-1) == (types[1700], SCALE_TWO)


def test_a_domain_over_an_array_binds_the_items() -> None:
    types = types_from_rows([PRICES, NUMERICS, NUMERIC])

    assert types[20003].resolved(-1) == (types[1231], SCALE_TWO)


def test_a_type_that_is_no_domain_keeps_its_columns_typmod() -> None:
    types = types_from_rows([NUMERIC])

    assert types[1700].resolved(SCALE_TWO) == (types[1700], SCALE_TWO)


def test_a_missing_part_is_a_defect() -> None:
    with pytest.raises(DefectError, match="1700"):
        types_from_rows([NUMERICS])
