r"""Names and constants as SQL that holds no percent sign.

psycopg reads every percent sign in a statement as a placeholder, quoted or not, but only when the statement is
executed with parameters; doubling the sign is then right, and wrong otherwise. SQL without the character means the
same both ways: a constant spells it `\x25` in an escape string, a name `\0025` in a Unicode identifier (PostgreSQL
manual, 4.1.2.2 and 4.1.1; the latter needs `standard_conforming_strings`, which is on by default since 9.1).
"""

from __future__ import annotations

from psycopg import sql


def constant(text: str) -> sql.SQL:
    """A text constant."""
    escaped = text.replace("\\", "\\\\").replace("'", "''").replace("%", "\\x25")
    return sql.SQL(f"E'{escaped}'" if "\\" in escaped else f"'{escaped}'")


def identifier(name: str) -> sql.Composable:
    """The name of a column, table or schema."""
    quoted = sql.Identifier(name)
    if "%" not in name:
        return quoted
    return sql.SQL("U&" + quoted.as_string(None).replace("\\", "\\\\").replace("%", "\\0025"))
