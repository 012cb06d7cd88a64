"""Numbers and booleans: the text of their output functions is JSON already, except where it is NaN or an infinity.

Every digit is kept: a numeric of a thousand digits is a JSON number of a thousand digits, with the zeros its scale
asks for. `extra_float_digits` at its default makes floats the shortest text that reads back as the same value.

A numeric with a typmod can be NaN but not infinite (numeric.c, apply_typmod_special), which saves it a comparison;
NaN is greater than all else, for floats and numerics alike. In a text, the last byte tells the words from the numbers.
"""

from __future__ import annotations

from typing import Final

from source_timescaledb.types.definition import (
    BARE,
    SQL_MARKER,
    WHOLE_ARRAY,
    Definition,
    Template,
    Verbatim,
    whole_array_marking,
)
from source_timescaledb.types.texts import MARK, malformed, truth

INTEGER_SCHEMA: Final = {"type": ["null", "number"], "airbyte_type": "integer"}
NUMBER_SCHEMA: Final = {"type": ["null", "number"]}


def marked_unless(finite: str) -> Template:
    """A number's text, followed by the marker unless the condition holds."""
    return ("VALUE", f"CASE WHEN {finite} THEN NULL WHEN VALUE IS NULL THEN 'null' ELSE {SQL_MARKER} END")


INEXPRESSIBLE: Final = frozenset((b"NaN", b"Infinity", b"-Infinity"))


def number(text: bytes) -> bytes:
    """A number's text, followed by the marker if it is none of JSON's."""
    if b"0" <= text[-1:] <= b"9":
        return text
    if text in INEXPRESSIBLE:
        return text + MARK
    raise malformed("number")


MARKED_ARRAY = whole_array_marking("NaN", "Infinity", "-Infinity")

INTEGER = Definition(INTEGER_SCHEMA, BARE, Verbatim.BARE, WHOLE_ARRAY)
# The peer's quirk: an oid is an integer, the items of an oid[] are numbers. array_to_json would quote them.
OID = Definition(INTEGER_SCHEMA, BARE, Verbatim.BARE)
OID_ITEM = Definition(NUMBER_SCHEMA, BARE, Verbatim.BARE)

# Infinity minus itself is NaN: one operation finds all three.
FLOAT = Definition(NUMBER_SCHEMA, marked_unless("VALUE - VALUE = 0"), number, MARKED_ARRAY)

NUMERIC = Definition(
    NUMBER_SCHEMA, marked_unless("VALUE < 'Infinity' AND VALUE > '-Infinity'"), number, MARKED_ARRAY
)
BOUND_NUMERIC = Definition(NUMBER_SCHEMA, marked_unless("VALUE < 'Infinity'"), number, MARKED_ARRAY)
WHOLE_NUMERIC = Definition(INTEGER_SCHEMA, BOUND_NUMERIC.sql, number)

BOOLEAN = Definition(
    {"type": ["null", "boolean"]},
    ("CASE WHEN VALUE THEN 'true' WHEN VALUE IS NULL THEN 'null' ELSE 'false' END",),
    truth(b"t", b"f"),
    WHOLE_ARRAY,
)


def numeric(typmod: int) -> Definition:
    """The definition of numeric by its typmod: an integer where it is bound to a scale that is not positive."""
    if typmod < 0:
        return NUMERIC
    return BOUND_NUMERIC if scale(typmod) > 0 else WHOLE_NUMERIC


def scale(typmod: int) -> int:
    """The scale in a numeric's typmod: eleven bits with a sign (numeric.c, numeric_typmod_scale)."""
    return ((typmod - 4) & 0x7FF ^ 0x400) - 0x400
