"""The GROUP BY columns of a continuous aggregate, which are its key.

TimescaleDB stores no list of them, and the materialization hypertable has no unique index. But the direct view's
parse tree holds them exactly: PostgreSQL writes the query of a view into `pg_rewrite.ev_action` as a node string
(src/backend/nodes/outfuncs.c), in which every output column is a TARGETENTRY with its `ressortgroupref` and GROUP BY
is a list of SORTGROUPCLAUSE nodes that refer to them. The direct view has the user view's columns in the user view's
order, so a TARGETENTRY's number is a column's position. Its name is not asked: where a column was renamed, some versions
keep the old name there (2.21; 2.29 writes the new one).

The arguments of an aggregate are TARGETENTRYs too, with numbers of their own, as in count(DISTINCT device); they have no
name (`<>`). A query inside the query would have a list and a GROUP BY of its own. A wrong key loses rows at the
destination and a missing one only repeats them, so then there is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_GROUP_CLAUSE: Final = re.compile(r":groupClause \((.*?)\) :groupDistinct", re.DOTALL)
_GROUP_REFERENCE: Final = re.compile(r":tleSortGroupRef (\d+)")
_TARGET: Final = re.compile(
    r":resno (?P<position>\d+) :resname (?!<> )(?:\\.|[^\\ ])+ :ressortgroupref (?P<reference>\d+) "
    r":resorigtbl \d+ :resorigcol \d+ :resjunk (?P<junk>true|false)"
)


def group_by_columns(parse_tree: str, columns: Sequence[str]) -> tuple[str, ...]:
    """Those of a view's `columns` that it groups by, in GROUP BY order; empty if there are none or one is not output."""
    clause = _GROUP_CLAUSE.search(parse_tree)
    if clause is None or parse_tree.count("{QUERY ") > 1:
        return ()
    references = _GROUP_REFERENCE.findall(clause.group(1))
    outputs = {
        target["reference"]: columns[int(target["position"]) - 1]
        for target in _TARGET.finditer(parse_tree)
        if target["reference"] != "0" and target["junk"] == "false"
    }
    if not all(reference in outputs for reference in references):
        return ()
    return tuple(outputs[reference] for reference in references)
