"""The document in an hstore: what the extension's cast to json makes of it.

Its text is `"a"=>"1", "b"=>NULL`: names and values always in quotation marks, in which a backslash stands before a
quotation mark or a backslash and nothing else is escaped (hstore_io.c, hstore_out). JSON escapes these two alike, so
only the control characters are left to do (hstore_to_json: `{"a": "1", "b": null}`, in the same order).
"""

from __future__ import annotations

import re
from typing import Final

import orjson

from source_timescaledb.types.texts import malformed

STRING: Final = rb'"[^"\\]*(?:\\["\\][^"\\]*)*"'
PAIR: Final = re.compile(rb"(%b)=>(?:NULL|(%b))" % (STRING, STRING))
CONTROL: Final = re.compile(rb"[\x00-\x1f]")


def document_of_hstore(text: bytes) -> bytes:
    """The text of the JSON object with an hstore's pairs.

    Raises:
        DefectError: the text is not an hstore's.
    """
    pairs = [*PAIR.finditer(text)]
    if b", ".join(pair[0] for pair in pairs) != text:
        raise malformed("hstore")
    document = b", ".join(b"%b: %b" % (pair[1], pair[2] or b"null") for pair in pairs)
    return b"{" + CONTROL.sub(control_escaped, document) + b"}"


def control_escaped(character: re.Match[bytes]) -> bytes:
    """A control character as it stands inside a JSON string."""
    return orjson.dumps(character[0].decode())[1:-1]
