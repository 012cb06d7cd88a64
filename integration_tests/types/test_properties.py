"""Values that hypothesis thinks of, compared with what Python makes of them."""

from __future__ import annotations

import base64
import json
import math
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integration_tests.types.conftest import Probe

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = st.text(CHARACTERS)
MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999))  # noqa: DTZ001 - `timestamp`
ZONES = st.timedeltas(timedelta(hours=-15), timedelta(hours=15)).map(
    lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
)
SHORT_NUMBERS = st.decimals(allow_nan=False, allow_infinity=False)
LONG_NUMBERS = st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places),
    st.integers(-(10**300), 10**300),
    st.integers(0, 200),
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=10,
)

searching = settings(deadline=None, max_examples=100)


@searching
@given(value=st.integers(-(2**63), 2**63 - 1))
def test_a_bigint_is_its_digits(probe: Probe, value: int) -> None:
    assert probe.resolved("bigint", str(value)) == str(value)


@searching
@given(value=st.floats())
def test_a_float_reads_back_as_the_same_value_or_is_null(probe: Probe, value: float) -> None:
    emitted = probe.value("float8", repr(value))

    if math.isfinite(value):
        assert float(emitted) == value
        assert math.copysign(1, float(emitted)) == math.copysign(1, value) or emitted == 0
    else:
        assert emitted is None


@searching
@given(value=st.floats(width=32))
def test_a_real_reads_back_as_the_same_value_or_is_null(probe: Probe, value: float) -> None:
    emitted = probe.value("float4", repr(value))

    if math.isfinite(value):
        assert probe.value("float8", f"{emitted!r}") == emitted
        assert math.isclose(float(emitted), value, rel_tol=2**-23, abs_tol=1e-45)
    else:
        assert emitted is None


@searching
@given(value=SHORT_NUMBERS | LONG_NUMBERS)
def test_a_numeric_keeps_every_digit(probe: Probe, value: Decimal) -> None:
    digits = f"{value:f}"

    assert json.loads(probe.resolved("numeric", digits), parse_int=Decimal, parse_float=Decimal) == value


@searching
@given(value=TEXTS)
def test_a_text_reads_back_as_the_same_characters(probe: Probe, value: str) -> None:
    assert probe.value("text", value) == value


@searching
@given(value=TEXTS)
def test_a_value_of_a_users_type_reads_back_as_the_same_characters(probe: Probe, value: str) -> None:
    assert probe.value("extensions.citext", value) == value


@searching
@given(value=JSON_VALUES)
def test_a_document_is_its_text(probe: Probe, value: Any) -> None:
    document = json.dumps(value, ensure_ascii=False)

    assert probe.value("json", document) == document


@searching
@given(value=st.dictionaries(TEXTS, st.none() | TEXTS))
def test_an_hstore_is_the_text_of_a_json_object(probe: Probe, value: dict[str, str | None]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    literal = ",".join(
        f"{quoted(key)}=>{'NULL' if item is None else quoted(item)}" for key, item in value.items()
    )

    assert json.loads(probe.value("extensions.hstore", literal)) == value


@searching
@given(value=st.binary())
def test_bytes_are_hexadecimal_alone_and_base64_in_arrays(probe: Probe, value: bytes) -> None:
    literal = f"\\x{value.hex()}"

    assert probe.value("bytea", literal) == literal
    assert probe.value("bytea[]", f'{{"\\{literal}"}}') == [base64.b64encode(value).decode()]


@searching
@given(value=st.uuids())
def test_a_uuid_is_its_usual_text(probe: Probe, value: uuid.UUID) -> None:
    assert probe.value("uuid", value.hex) == str(value)


@searching
@given(value=MOMENTS)
def test_a_timestamp_has_six_decimals(probe: Probe, value: datetime) -> None:
    assert probe.value("timestamp", value.isoformat()) == value.isoformat(timespec="microseconds")


@searching
@given(value=MOMENTS, zone=ZONES)
def test_a_timestamp_with_time_zone_is_in_utc(probe: Probe, value: datetime, zone: timezone) -> None:
    utc = value.replace(tzinfo=timezone.utc)
    if not datetime(2, 1, 1, tzinfo=timezone.utc) < utc < datetime(9998, 1, 1, tzinfo=timezone.utc):
        zone = timezone.utc

    emitted = probe.value("timestamptz", utc.astimezone(zone).isoformat())

    assert emitted == value.isoformat(timespec="microseconds") + "Z"


@searching
@given(value=st.dates())
def test_a_date_is_iso(probe: Probe, value: date) -> None:
    assert probe.value("date", value.isoformat()) == value.isoformat()


@searching
@given(value=st.times())
def test_a_time_has_the_decimals_it_needs(probe: Probe, value: time) -> None:
    expected = value.isoformat().rstrip("0") if value.microsecond else value.isoformat()

    assert probe.value("time", value.isoformat()) == expected


@searching
@given(value=st.times(), zone=ZONES)
def test_a_time_with_time_zone_is_in_utc(probe: Probe, value: time, zone: timezone) -> None:
    local = datetime.combine(date(2000, 1, 15), value, tzinfo=zone)
    utc = local.astimezone(timezone.utc).time()
    expected = utc.isoformat().rstrip("0") if utc.microsecond else utc.isoformat()

    assert probe.value("timetz", local.timetz().isoformat()) == f"{expected}Z"


def nested(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Arrays of one to three dimensions, each nested list of the same length as its neighbours."""
    sizes = st.lists(st.integers(1, 3), min_size=1, max_size=3)

    def of_shape(shape: list[int]) -> st.SearchStrategy[Any]:
        inner = of_shape(shape[1:]) if len(shape) > 1 else items
        return st.lists(inner, min_size=shape[0], max_size=shape[0])

    return sizes.flatmap(of_shape)


def array_literal(value: Any, written: Callable[[Any], str], delimiter: str = ",") -> str:
    if isinstance(value, list):
        return "{" + delimiter.join(array_literal(item, written, delimiter) for item in value) + "}"
    if value is None:
        return "NULL"
    return '"' + written(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


@searching
@given(value=nested(st.none() | st.integers(-(2**31), 2**31 - 1)))
def test_an_int_array_reads_back_in_its_shape(probe: Probe, value: Any) -> None:
    assert probe.value("int[]", array_literal(value, str)) == value


@searching
@given(value=nested(st.none() | TEXTS))
def test_a_text_array_reads_back_in_its_shape(probe: Probe, value: Any) -> None:
    assert probe.value("text[]", array_literal(value, str)) == value
    assert probe.value("extensions.citext[]", array_literal(value, str)) == value


@searching
@given(value=nested(st.none() | st.floats()))
def test_a_float_array_has_null_for_what_is_not_finite(probe: Probe, value: Any) -> None:
    def finite(item: Any) -> Any:
        if isinstance(item, list):
            return [finite(one) for one in item]
        return item if item is not None and math.isfinite(item) else None

    assert probe.value("float8[]", array_literal(value, repr)) == finite(value)


@searching
@given(value=nested(st.none() | MOMENTS))
def test_a_timestamp_array_reads_back_in_its_shape(probe: Probe, value: Any) -> None:
    def expected(item: Any) -> Any:
        if isinstance(item, list):
            return [expected(one) for one in item]
        return item and item.isoformat(timespec="microseconds")

    assert probe.value("timestamp[]", array_literal(value, datetime.isoformat)) == expected(value)


@pytest.mark.parametrize("year", [-4712, -1, 0, 10_000, 294_275])
def test_years_that_python_does_not_know_keep_their_number(probe: Probe, year: int) -> None:
    shown, era = (year, "") if year > 0 else (1 - year, " BC")

    emitted = probe.value("timestamptz", f"{shown:04}-12-31 23:59:59.5+00{era}")

    assert emitted == f"{shown:04}-12-31T23:59:59.500000Z{era}"
