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
"""

from __future__ import annotations

from typing import Any

from source_timescaledb.types.definition import Definition, Schema, Template


def array_of(item: Definition) -> Definition:
    """The definition of an array of such items."""
    return Definition(array_schema(item.schema), item.array_sql or item_by_item(item.sql))


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
