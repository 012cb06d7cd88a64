"""How a row becomes a JSON object: which columns, under which keys, each rendered how.

The object is left open, without its closing brace, because the caller's own fields follow the row's. The order is that
of the fields. Chunks of one hypertable order their columns differently and may lack the newest ones; the fields are
what makes their rows alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from source_timescaledb.errors import DefectError
from source_timescaledb.pgoutput.messages import UNCHANGED, TupleData, Unchanged
from source_timescaledb.types.definition import Rendering, Verbatim


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the JSON object."""

    position: int | None
    """Which of the relation's columns it shows, from 0; None for one that the relation lacks, shown as null."""
    key: bytes
    """The JSON string that names it, quotes included."""
    render: Rendering
    """How its values are written."""

    def value(self, text: bytes | Unchanged | None) -> bytes:
        """The JSON of a value of its column.

        Raises:
            DefectError: the value is UNCHANGED.
        """
        if text is None:
            return b"null"
        if text is UNCHANGED:
            raise DefectError("A value that the server did not send was to be written.")
        if self.render is Verbatim.BARE:
            return text
        if self.render is Verbatim.QUOTED:
            return b'"%b"' % text
        return self.render(text)


def check_width(row: TupleData, columns: int) -> None:
    """Refuse a row that has not one value for each of its relation's columns.

    Raises:
        DefectError: it has more or fewer; the sentence tells no value.
    """
    if len(row) != columns:
        raise DefectError(f"The server sent a row of {len(row)} values for a relation of {columns} columns.")


def write_row(fields: Sequence[Field], row: TupleData) -> bytes:
    """A row as a JSON object without its closing brace; without fields it is the opening brace alone.

    The row has as many values as the relation for which the fields were made. What a renderer raises passes through.

    Raises:
        DefectError: a value is UNCHANGED; the caller fills those in before.
    """
    return b"{" + b",".join(
        field.key + b":" + (b"null" if field.position is None else field.value(row[field.position]))
        for field in fields
    )
