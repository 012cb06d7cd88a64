"""How relations are listed in a sentence: the first few by name, and of the others how many they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

NAMES_SHOWN: Final = 10


def listed(names: Sequence[object]) -> str:
    """The names, the first ten of them; "and 3 more" stands for those behind."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(map(str, names[:NAMES_SHOWN])) + more


def quoted(names: Iterable[str]) -> str:
    """Names that somebody has typed, between quotes: white space in them is a part of them, and is to be seen."""
    return ", ".join(f'"{name}"' for name in names)
