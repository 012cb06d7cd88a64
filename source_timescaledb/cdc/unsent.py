"""Large values that an UPDATE leaves alone and that are therefore not sent: where they come from instead.

The old row has them, where it is sent whole or they are part of the key; else they are looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from source_timescaledb.cdc.route import Route
from source_timescaledb.pgoutput.messages import UNCHANGED, OldKind, TupleData, Update


@dataclass(frozen=True, slots=True)
class Wanted:
    """A row of which values are to be looked up."""

    route: Route
    xid: int
    row: TupleData
    """The new row; its `key` is known."""

    @property
    def positions(self) -> list[int]:
        """Which of its columns: those that are shown."""
        shown = {field.position for field in self.route.fields}
        return [at for at, value in enumerate(self.row) if value is UNCHANGED and at in shown]


class Lookup(Protocol):
    """Finds values that an UPDATE left alone."""

    def __call__(self, wanted: Sequence[Wanted]) -> Sequence[Mapping[int, bytes | None] | None]:
        """For each row its unchanged values by position, as the server writes them; None for a row that is gone."""


def completed(update: Update, route: Route) -> TupleData:
    """The new row, with the values that it left alone from the old one as far as that is known.

    An old row that is only a key has it all when a large value is part of the key (heapam.c, ExtractReplicaIdentity).
    """
    if update.old is None or UNCHANGED not in update.new:
        return update.new
    whole = update.old_kind is OldKind.FULL
    columns = route.relation.columns
    return tuple(
        old if new is UNCHANGED and (whole or column.is_key) else new
        for old, new, column in zip(update.old, update.new, columns, strict=True)
    )


def filled(wanted: Wanted, values: Mapping[int, bytes | None] | None) -> tuple[TupleData, list[str]]:
    """The row with the values that were found, and the names of the columns whose values are not to be had."""
    found = values or {}
    columns = wanted.route.relation.columns
    row = tuple(
        found.get(position) if value is UNCHANGED else value for position, value in enumerate(wanted.row)
    )
    return row, [columns[position].name for position in wanted.positions if position not in found]
