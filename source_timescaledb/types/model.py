"""A column's type as PostgreSQL knows it: the `pg_type` entry and what it is built from.

`TYPE_QUERY` fetches the entries of the given types together with everything that they are built from: the element
type of an array, the base type of a domain, to any depth. Ranges and composites need no more than their own entry,
because their values travel as the text of their output function. A value's type is a `PgType` and a typmod
(`atttypmod`: the (p,s) of numeric, the n of char and bit; -1 where there is none).

Which types are arrays is asked of the output function: `typelem` is also set for `point`, `name` and `int2vector`,
whose values are not written with braces (pg_type documents `typelem` as "subscriptable", not as "array").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from source_timescaledb.errors import DefectError

TYPE_QUERY = """
WITH RECURSIVE closure AS (
  SELECT oid, typname, typnamespace, typtype, typelem, typbasetype, typtypmod, typoutput, typdelim
    FROM pg_catalog.pg_type WHERE oid = ANY (%(oids)s::pg_catalog.oid[])
  UNION
  SELECT part.oid, part.typname, part.typnamespace, part.typtype, part.typelem, part.typbasetype, part.typtypmod,
         part.typoutput, part.typdelim
    FROM closure AS whole
    JOIN pg_catalog.pg_type AS part
      ON part.oid = CASE whole.typtype WHEN 'd' THEN whole.typbasetype WHEN 'b' THEN whole.typelem END
)
SELECT closure.oid::int8, nspname::text, typname::text,
       CASE WHEN typtype = 'b' AND typoutput = 'pg_catalog.array_out'::regproc THEN 'a' ELSE typtype::text END,
       typelem::int8, typbasetype::int8, typtypmod, typdelim::text
  FROM closure JOIN pg_catalog.pg_namespace ON pg_namespace.oid = typnamespace
"""
"""Takes `oids`, an int[] of type OIDs; returns the rows that `types_from_rows` reads."""


class Kind(str, Enum):
    """What a type is; the letters of `pg_type.typtype`, with arrays told apart from the other base types."""

    BASE = "b"
    ARRAY = "a"
    ENUM = "e"
    DOMAIN = "d"
    COMPOSITE = "c"
    RANGE = "r"
    MULTIRANGE = "m"
    PSEUDO = "p"


TypeRow = tuple[int, str, str, str, int, int, int, str]
"""A row of `TYPE_QUERY`: oid, schema, name, kind, element's oid, base's oid, base's typmod, delimiter."""


@dataclass(frozen=True, slots=True)
class PgType:
    """One entry of `pg_type`.

    `element` is set for arrays, `base` for domains; `base_typmod` is the typmod that a domain binds its base to.
    `delimiter` stands between the items of an array of this type, in its text: `;` for a box, a comma for all others.
    """

    oid: int
    schema: str
    name: str
    kind: Kind
    element: PgType | None = None
    base: PgType | None = None
    base_typmod: int = -1
    delimiter: str = ","

    def resolved(self, typmod: int) -> tuple[PgType, int]:
        """The type below all domains and its typmod; a domain's column has none of its own."""
        type_ = self
        while type_.base is not None:
            type_, typmod = type_.base, type_.base_typmod
        return type_, typmod


def types_from_rows(rows: Iterable[TypeRow]) -> dict[int, PgType]:
    """The types of `TYPE_QUERY`'s rows by their OID.

    Raises:
        DefectError: a type refers to another that is not among the rows.
    """
    row_of = {row[0]: row for row in rows}
    types: dict[int, PgType] = {}

    def built(oid: int) -> PgType:
        if oid in types:
            return types[oid]
        if oid not in row_of:
            raise DefectError(f"The type with OID {oid} is missing from what the catalog returned.")
        _, schema, name, letter, element, base, base_typmod, delimiter = row_of[oid]
        kind = Kind(letter)
        types[oid] = PgType(
            oid,
            schema,
            name,
            kind,
            element=built(element) if kind is Kind.ARRAY else None,
            base=built(base) if kind is Kind.DOMAIN else None,
            base_typmod=base_typmod if kind is Kind.DOMAIN else -1,
            delimiter=delimiter,
        )
        return types[oid]

    return {oid: built(oid) for oid in row_of}
