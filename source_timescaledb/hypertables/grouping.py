"""The GROUP BY columns of a continuous aggregate, which are its key.

TimescaleDB stores no list of them, and the materialization hypertable has no unique index. But the direct view's
parse tree holds them exactly: PostgreSQL writes the query of a view into `pg_rewrite.ev_action` as a node string
(src/backend/nodes/outfuncs.c), in which every output column is a TARGETENTRY with its `ressortgroupref` and GROUP BY
is a list of SORTGROUPCLAUSE nodes that refer to them. The column names are those of the direct view, which
TimescaleDB keeps equal to the user view's, also when a column is renamed (tsl/src/continuous_aggs/create.c@2.29.2).
"""

from __future__ import annotations

import re
from typing import Final

_GROUP_CLAUSE: Final = re.compile(r":groupClause \((.*?)\) :groupDistinct", re.DOTALL)
_GROUP_REFERENCE: Final = re.compile(r":tleSortGroupRef (\d+)")
_TARGET: Final = re.compile(
    r":resno \d+ :resname (?P<name>(?:\\.|[^\\ ])+) :ressortgroupref (?P<reference>\d+) "
    r":resorigtbl \d+ :resorigcol \d+ :resjunk (?P<junk>true|false)"
)


def group_by_columns(parse_tree: str) -> tuple[str, ...]:
    """The output columns a view groups by, in GROUP BY order; empty if there are none or one of them is not output."""
    clause = _GROUP_CLAUSE.search(parse_tree)
    if clause is None:
        return ()
    references = _GROUP_REFERENCE.findall(clause.group(1))
    outputs = {
        target["reference"]: re.sub(r"\\(.)", r"\1", target["name"])
        for target in _TARGET.finditer(parse_tree)
        if target["reference"] != "0" and target["junk"] == "false"
    }
    if not all(reference in outputs for reference in references):
        return ()
    return tuple(outputs[reference] for reference in references)
