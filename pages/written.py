"""The parts of a page that are made of the code: what stands between two marks, which readers do not see. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


class UnmarkedError(Exception):
    """A page does not have the marks of a part exactly once."""


def replaced(page: str, part: str, text: str) -> str:
    """The page with the text of a part replaced."""
    opening, closing = f"<!-- {part}: written by make docs -->", f"<!-- end of {part} -->"
    between = re.compile(rf"(?<={re.escape(opening)}\n).*?(?={re.escape(closing)})", re.DOTALL)
    found, count = between.subn(lambda _: f"\n{text.strip()}\n\n", page)
    if count != 1:
        raise UnmarkedError(f"{count} parts between {opening} and {closing}")
    return found


def drawn(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
