"""Arrays: nested JSON arrays of the items as their element's definition writes them, in every dimension.

Lower bounds (`[2:3]={1,2}`) are dropped; an empty array is `[]` whatever its type. A PostgreSQL array type says
nothing about dimensions: an int[] column holds {1,2} in one row and {{1},{2}} in the next, and a declared int[][] is
the same type. So the schema of the items admits a nested array beside the item itself: the only schema that no value
can break. Destinations that look at items at all read a union there; those that keep arrays as JSON are not affected.

Where array_to_json writes the items just as the element's definition does, it writes the array. Otherwise the items
are unnested, written one by one and joined; in more than one dimension an inner bracket opens before each item whose
number is a multiple of the size of that bracket's content, and closes after it likewise. Traps that shaped the SQL:
`unnest` in FROM would spread a composite over columns; a large array is detoasted by each function that sees it, so its
shape is asked once per array (OFFSET 0 keeps the planner from moving that to each item); a column of the table may
bear any name, so the value is read only where no other name is in sight, and ours are always qualified.

The text of an array is cut at its quoted items (arrayfuncs.c, array_out: whatever is empty, says NULL or holds a brace,
a delimiter, a quotation mark, a backslash or a space is quoted). What is left between them holds delimiters and
braces only where they mean structure, so it is split at those and put together again.
"""

from __future__ import annotations

import re
from typing import Any, Final

from source_timescaledb.types.definition import (
    Definition,
    Rendering,
    Schema,
    Template,
    TextFunction,
    Verbatim,
)
from source_timescaledb.types.texts import function, malformed

LOWER_BOUNDS: Final = re.compile(rb"(?:\[-?\d+:-?\d+\])+=")
QUOTED_ITEM: Final = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
ESCAPED_BYTE: Final = re.compile(rb"\\(.)", re.DOTALL)


def array_of(item: Definition, delimiter: str) -> Definition:
    """The definition of an array of such items, whose text has this delimiter between them."""
    return Definition(
        array_schema(item.schema),
        item.array_sql or item_by_item(item.sql),
        array_text(item.text, delimiter.encode()),
    )


def array_schema(item: Schema) -> Schema:
    """The schema of a nullable array, of any dimension, of nullable items."""
    nested: dict[str, Any] = {**item, "type": [*dict.fromkeys([*item["type"], "array"])]}
    return {"type": ["null", "array"], "items": nested}


def item_by_item(item: Template) -> Template:
    """An array whose items are written as `item` writes them."""
    written = ", ".join(argument.replace("VALUE", "item.value") for argument in item)
    opening, closing = inner("[", "item.n - 1"), inner("]", "item.n")
    return (
        f"""CASE WHEN VALUE IS NULL THEN 'null' ELSE (
SELECT concat('[', string_agg(concat({opening}, {written}, {closing}), ',' ORDER BY item.n), ']')
  FROM (SELECT source.whole, {INNER_SIZES} AS sizes FROM (SELECT VALUE AS whole) AS source OFFSET 0) AS shape,
       LATERAL (SELECT unnest(shape.whole) AS value, generate_series(1, cardinality(shape.whole)) AS n) AS item
) END""",  # noqa: S608 -- made of this package's own templates, which hold no names and no values
    )


def inner(bracket: str, number: str) -> str:
    """The inner brackets at an item: as many as there are sizes that divide `number`."""
    return f"""CASE WHEN shape.sizes IS NOT NULL THEN (
SELECT repeat('{bracket}', count(*)::int) FROM unnest(shape.sizes) AS inside(size) WHERE mod({number}, inside.size) = 0
) END"""  # noqa: S608 -- as above


INNER_SIZES = """CASE WHEN array_ndims(source.whole) > 1 THEN ARRAY(
 WITH RECURSIVE level AS (
  SELECT 2 AS depth, cardinality(source.whole) / array_length(source.whole, 1) AS size
  UNION ALL
  SELECT level.depth + 1, level.size / array_length(source.whole, level.depth)
    FROM level WHERE level.depth < array_ndims(source.whole)
 ) SELECT level.size FROM level) END"""
"""How many items each inner bracket holds, from the outermost to the innermost; NULL in one dimension."""


def array_text(item: Rendering, delimiter: bytes) -> TextFunction:
    """What makes JSON of an array's text: its quoted items, and what stands between them."""
    write, between = function(item), unquoted_text(item, delimiter)

    def written(text: bytes) -> bytes:
        if text[:1] == b"[":
            text = LOWER_BOUNDS.sub(b"", text, count=1)
        pieces = QUOTED_ITEM.split(text)
        check_structure(b"".join(pieces[::2]))
        pieces[0] = pieces[0][1:]
        pieces[-1] = pieces[-1][:-1]
        pieces[::2] = map(between, pieces[::2])
        pieces[1::2] = [write(unescaped(piece)) for piece in pieces[1::2]]
        return b"[" + b"".join(pieces) + b"]"

    return written


def check_structure(text: bytes) -> None:
    """Refuse what cannot be an array's text without its quoted items."""
    whole = text[:1] == b"{" and text[-1:] == b"}" and text.count(b"{") == text.count(b"}")
    if not whole or b'"' in text or b"\\" in text:
        raise malformed("array")


def unescaped(text: bytes) -> bytes:
    """A quoted item's text without the backslashes that keep others."""
    return ESCAPED_BYTE.sub(rb"\1", text) if b"\\" in text else text


def unquoted_text(item: Rendering, delimiter: bytes) -> TextFunction:
    """What makes JSON of a part of an array's text in which no item is quoted; the outermost braces are not in it."""
    write, structure = function(item), bytes.maketrans(b"{}" + delimiter, b"[],")

    def beside_braces(text: bytes) -> bytes:
        inside = text.strip(b"{}")
        before, _, after = text.partition(inside) if inside else (text, b"", b"")
        return before.translate(structure) + alone(inside) + after.translate(structure)

    def alone(text: bytes) -> bytes:
        return b"null" if text == b"NULL" else text and write(text)

    def written(part: bytes) -> bytes:
        if part == delimiter:
            return b","
        one = beside_braces if b"{" in part or b"}" in part else alone
        return b",".join([one(text) for text in part.split(delimiter)])

    if item is Verbatim.BARE:
        return lambda part: part.replace(b"NULL", b"null").translate(structure)
    return written
