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

from source_timescaledb.types.definition import WHERE_NULL, Definition, Schema, Template


def array_of(item: Definition) -> Definition:
    """The definition of an array of such items."""
    return Definition(array_schema(item.schema), item.array_sql or item_by_item(item.sql))


def array_schema(item: Schema) -> Schema:
    """The schema of a nullable array, of any dimension, of nullable items."""
    nested: dict[str, Any] = {**item, "type": [*dict.fromkeys([*item["type"], "array"])]}
    return {"type": ["null", "array"], "items": nested}


BRACKET = "CASE WHEN shape.sizes IS NOT NULL THEN (SELECT repeat('{bracket}', count(*)::int) FROM unnest(shape.sizes) AS inside(size) WHERE {number} % inside.size = 0) END"
