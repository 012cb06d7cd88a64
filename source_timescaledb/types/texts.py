r"""What the renderings of texts have in common: strings, markers, and what to say of a text that cannot be.

A text comes from a server that validated it when it wrote it, so a rendering looks at no more of it than it needs to
tell the forms apart; a text that fits none of them is a defect of ours, whose message must not hold the value.

The server escapes a string (json.c, escape_json) as orjson does: quotation mark and backslash, \b \f \n \r \t, and
the other characters below the space as \u00xx in lower case, and nothing else. orjson is the fastest way to get there,
although it wants the text decoded (measured: 170 ns for five bytes, 670 for a thousand; a search by a regular expression
alone takes 280 and 5,500). A document full of quotation marks costs no more.
"""

from __future__ import annotations

import orjson

from source_timescaledb.errors import DefectError
from source_timescaledb.types.definition import MARKER, Rendering, TextFunction, Verbatim

MARK = MARKER.encode()


def escaped(text: bytes) -> bytes:
    """The text as a JSON string."""
    try:
        return orjson.dumps(text.decode())
    except UnicodeDecodeError:
        pass  # the exception holds the value: ours must not come from it
    raise malformed("text")


def quoted(text: bytes) -> bytes:
    """The text as a JSON string if nothing in it needs escaping."""
    return b'"' + text + b'"'


def bare(text: bytes) -> bytes:
    """The text."""
    return text


def function(rendering: Rendering) -> TextFunction:
    """The rendering as a function, whatever it is."""
    match rendering:
        case Verbatim.BARE:
            return bare
        case Verbatim.QUOTED:
            return quoted
        case _:
            return rendering


def truth(yes: bytes, no: bytes) -> TextFunction:
    """What makes a JSON boolean of two texts."""

    def boolean(text: bytes) -> bytes:
        if text == yes:
            return b"true"
        if text == no:
            return b"false"
        raise malformed("truth value")

    return boolean


def malformed(kind: str) -> DefectError:
    """What to raise for a text that is not what a server writes for a value of this kind."""
    return DefectError(f"The server sent a {kind} in a form that its output function does not write.")
