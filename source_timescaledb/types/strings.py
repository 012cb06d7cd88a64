"""Everything that is a JSON string: text, documents, bits and bytes, addresses, shapes, and all types unknown to us.

What we do not know is passed on as its output function writes it, so an extension's type (PostGIS geometry, ltree,
citext) or tomorrow's built-in one needs no entry here. The peer's quirks are kept where they lose nothing: documents
are text, not objects; a shape's coordinates are written as floats (`(15.0,18.0)`); the items of a bytea[] are base64,
those of a bit(1)[] booleans. It also makes booleans of longer bit strings, and false of all of them; ours stay
strings.
"""

from __future__ import annotations

import re
from binascii import Error as NotHexadecimal
from binascii import b2a_base64, unhexlify
from typing import Final

from source_timescaledb.types.definition import (
    ESCAPED,
    OUTPUT,
    QUOTED,
    WHERE_NULL,
    WHOLE_ARRAY,
    Definition,
    Verbatim,
    string,
)
from source_timescaledb.types.hstore import document_of_hstore
from source_timescaledb.types.texts import escaped, malformed, quoted, truth

ANYTHING = Definition(string(), OUTPUT, escaped)
TEXT = Definition(string(), ESCAPED, escaped, WHOLE_ARRAY)
PLAIN = Definition(string(), QUOTED, Verbatim.QUOTED, WHOLE_ARRAY)

DOCUMENT = Definition(string(), ("ESCAPE(VALUE::text)", WHERE_NULL), escaped)
# The extension's own cast, found by its types wherever the extension lives: names would need its schema.
HSTORE = Definition(
    string(),
    ("ESCAPE(VALUE::json::text)", WHERE_NULL),
    lambda text: escaped(document_of_hstore(text)),
)


def hexadecimal(text: bytes) -> bytes:
    r"""`\x` and the digits; the output starts with a backslash, and so its JSON with two."""
    if text.startswith(rb"\x"):
        return b'"\\' + text + b'"'
    raise malformed("bytea")


def base64(text: bytes) -> bytes:
    """The bytes of which the text has the hexadecimal digits, in one line."""
    try:
        if text.startswith(rb"\x"):
            return quoted(b2a_base64(unhexlify(text[2:]), newline=False))
    except NotHexadecimal:
        pass
    raise malformed("bytea")


BYTEA = Definition(
    string(),
    (
        """CASE WHEN VALUE IS NULL THEN 'null' ELSE '"\\' END""",
        "VALUE",
        """CASE WHEN VALUE IS NOT NULL THEN '"' END""",
    ),
    hexadecimal,
)
# encode breaks its lines after 76 characters.
BYTEA_ITEM = Definition(
    string(),
    ("""coalesce('"' || translate(encode(VALUE, 'base64'), E'\\n', '') || '"', 'null')""",),
    base64,
)

BIT_ITEM = Definition(
    {"type": ["null", "boolean"]},
    ("CASE WHEN VALUE = B'1' THEN 'true' WHEN VALUE IS NULL THEN 'null' ELSE 'false' END",),
    truth(b"1", b"0"),
)

# A number that is all digits stands between an opening bracket or comma and a closing one or comma.
WHOLE_COORDINATE: Final = re.compile(rb"([\[({<,]-?\d+)(?=[\])}>,])")

SHAPE = Definition(
    string(),
    (
        r"""CASE WHEN VALUE IS NULL THEN 'null'
 ELSE '"' || regexp_replace(concat(VALUE), '([[({<,]-?\d+)(?=[])}>,])', '\1.0', 'g') || '"' END""",
    ),
    lambda text: quoted(WHOLE_COORDINATE.sub(rb"\1.0", text)),
)
