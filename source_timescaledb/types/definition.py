"""What a definition of a type is, and the few ways in which a value becomes JSON.

A definition holds all that depends on the type: the JSON schema of its values and its two renderings. In `sql` the
server writes a value as JSON, for snapshots; `text` makes the same bytes from what logical replication sends. They stand
side by side, so that no two renderings of a type can live apart.

Both are functions of one thing: the text that the type's output function writes under `OUTPUT_SETTINGS`. That text is
what logical replication sends (PostgreSQL, proto.c, logicalrep_write_tuple), which is why the two can be equal byte for
byte.
Casts to text are no such function: they strip the padding of char(n), give a bare inet its mask and keep an XML
declaration. `concat` and `to_json` of a built-in scalar do call the output function; `to_json` of anything else may
find a user's cast to json instead, and goes through `concat` first.

Templates are arguments of concat(), in which VALUE stands for the value, as it does in a domain's CHECK. Their joined
text is the JSON value; SQL NULL adds nothing to it. Two arguments are faster than one expression that decides between
them: concat appends a value's output where a cast to text would copy it twice (measured: 40 ns against 59 ns for an
int, 64 against 99 for a float). A template with a single argument is an expression of type text. ESCAPE stands for the
server's best function to write a value's output as a JSON string (`escaper`).

JSON cannot say NaN or infinity. Such a value is written as its own bare word and the marker byte 0x01, which cannot
occur in JSON, so that whoever passes the bytes on finds it with one search over a whole batch
(`row.resolve_inexpressible`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from psycopg import sql

Schema = Mapping[str, Any]
"""A JSON schema with Airbyte's `airbyte_type`."""

Template = tuple[str, ...]
"""Arguments of concat() whose joined text is the JSON value of VALUE; a single argument is of type text."""


class Verbatim(Enum):
    """How a text becomes JSON as it stands, which whoever renders many values can do in line."""

    BARE = "the text is JSON already"
    QUOTED = "the text is JSON between double quotes: nothing in it needs escaping"


TextFunction = Callable[[bytes], bytes]
"""From the text of a value, in UTF-8, to its JSON; raises DefectError for a text that no server writes."""

Rendering = Verbatim | TextFunction
"""How the text of a value that is not NULL becomes JSON."""

OUTPUT_SETTINGS: Final[Mapping[str, str]] = {
    "client_encoding": "UTF8",
    "search_path": "",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
"""What a session must be set to, so that output functions write what the renderings expect and names mean ours.

`lc_monetary` stays as the database has it: money is stored without its scale, which is that of the locale.
"""

MARKER: Final = "\x01"
"""Follows the bare output of a value that JSON cannot express: `NaN`, `Infinity`, `-infinity`."""

SQL_MARKER: Final = r"E'\x01'"


@dataclass(frozen=True, slots=True)
class Definition:
    """A type: the JSON schema of its values, the SQL that writes one and what makes the same of its text.

    `array_sql` writes a whole array, of any shape, in one go; without it an array is written item by item, which is
    three to five times slower.
    """

    schema: Schema
    sql: Template
    text: Rendering
    array_sql: Template | None = None


def escaper(server_version: int) -> str:
    """What ESCAPE stands for on a server of this version (170004 is 17.4).

    to_json looks its argument's type up in every call; json_scalar, which came with PostgreSQL 17, once per query
    (measured: 195 ns against 92 for a short text, a fifth of the server's time for a row of ten columns).
    """
    return "json_scalar" if server_version >= 170_000 else "to_json"


def filled(template: Template, value: sql.Composable, server_version: int) -> tuple[sql.Composable, ...]:
    """A template's arguments for a value."""
    escape = escaper(server_version)
    texts = (argument.replace("ESCAPE", escape).split("VALUE") for argument in template)
    return tuple(sql.Composed([*alternated([sql.SQL(text) for text in parts], value)]) for parts in texts)


def alternated(texts: Sequence[sql.SQL], value: sql.Composable) -> Iterator[sql.Composable]:
    """The texts with the value between each two."""
    yield texts[0]
    for text in texts[1:]:
        yield value
        yield text


def string(**more: str) -> Schema:
    """The schema of a nullable string."""
    return {"type": ["null", "string"], **more}


WHERE_NULL = "CASE WHEN VALUE IS NULL THEN 'null' END"

BARE = ("VALUE", WHERE_NULL)
"""Output that is JSON as it stands."""

QUOTED = (
    "CASE WHEN VALUE IS NULL THEN 'null' ELSE '\"' END",
    "VALUE",
    "CASE WHEN VALUE IS NOT NULL THEN '\"' END",
)
"""Output in which nothing needs escaping."""

ESCAPED = ("ESCAPE(VALUE)", WHERE_NULL)
"""Output of a built-in scalar that holds anything."""

# A composite of nulls IS NULL without being null; IS NOT DISTINCT FROM NULL asks for the value itself.
OUTPUT = ("CASE WHEN VALUE IS NOT DISTINCT FROM NULL THEN 'null' ELSE ESCAPE(concat(VALUE))::text END",)
"""Output of any type whatsoever."""

WHOLE_ARRAY = ("array_to_json(VALUE)", WHERE_NULL)
"""An array whose items array_to_json writes just as `BARE`, `QUOTED` or `ESCAPED` do."""


def whole_array_marking(*words: str) -> Template:
    """An array as `WHOLE_ARRAY` writes it, with the items that are one of `words` marked as inexpressible."""
    present = " OR ".join(f"'{word}' = ANY (VALUE)" for word in words)
    return (
        rf"""CASE
 WHEN {present} THEN regexp_replace(array_to_json(VALUE)::text, '"({"|".join(words)})"', E'\\1\x01', 'g')
 WHEN VALUE IS NULL THEN 'null'
 ELSE array_to_json(VALUE)::text END""",
    )
