"""What somebody has to run, as data: a sentence for `check`, a table, JSON and a script are all made of it.

A statement is composed by `psycopg.sql` and by nothing else. A script is to survive being run twice. Most statements do
by themselves; one that does not says by which condition it is known to have been run, and is written so that the server
looks first. The body of a DO block is quoted as a literal: between dollar signs a table could be named so as to end it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql
from typing_extensions import LiteralString, Self

LETTERS_SHOWN: Final = 1000


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement, with the semicolon."""

    text: str
    unless: str = ""
    """An SQL condition that is true once it has been run and would fail; empty where it may be run again."""
    restart: bool = False
    """Whether it takes effect with the next start of the server."""

    @classmethod
    def of(
        cls, composed: sql.Composable, *, unless: sql.Composable | None = None, restart: bool = False
    ) -> Self:
        """Make one of what `psycopg.sql` has composed."""
        return cls(f"{composed.as_string(None)};", unless.as_string(None) if unless else "", restart)

    def __str__(self) -> str:
        return self.text

    @property
    def repeatable(self) -> str:
        """The statement in a form that may be run again."""
        if not self.unless:
            return self.text
        if self.text.startswith("SELECT "):
            return f"{self.text.removesuffix(';')} WHERE NOT ({self.unless});"
        body = f"BEGIN IF NOT ({self.unless}) THEN {self.text} END IF; END"
        return f"DO {sql.Literal(body).as_string(None).strip()};"


def brief(statements: Sequence[Statement]) -> str:
    """The statements in a row, as many of them as a sentence bears, and at least one."""
    shown: list[str] = []
    for statement in statements:
        if shown and sum(map(len, shown)) + len(statement.text) > LETTERS_SHOWN:
            return f"{' '.join(shown)} (and {len(statements) - len(shown)} more statements; `doctor` has them all)"
        shown.append(statement.text)
    return " ".join(shown)


def grant(what: LiteralString, name: Iterable[str], role: str) -> Statement:
    """GRANT something (`USAGE ON SCHEMA`) on a thing to a role."""
    names = {"what": sql.SQL(what), "name": sql.Identifier(*name), "role": sql.Identifier(role)}
    return Statement.of(sql.SQL("GRANT {what} {name} TO {role}").format(**names))
