"""Plain text for a terminal: one column for what is done, one for what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

WIDTH = 12
GAP = "  "


def title(text: str) -> None:
    """A line on its own."""
    print(f"\n{text}\n", flush=True)


def gap() -> None:
    """An empty line between two parts."""
    print(flush=True)


def fact(name: str, text: str) -> None:
    """A name and what is to be said of it; more lines are put below each other."""
    first, *rest = text.splitlines()
    print(f"{GAP}{name:<{WIDTH}}{first}", flush=True)
    for line in rest:
        print(f"{GAP}{'':<{WIDTH}}{line}", flush=True)


def command(words: Sequence[str], outcome: str) -> None:
    """A command as a user would type it, and its outcome below."""
    print(f"{GAP}$ {' '.join(words)}", flush=True)
    print(f"{GAP}  {outcome}", flush=True)
    gap()


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table: the first column to the left, the others to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]
    for line in lines:
        cells = [
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print(f"{GAP}{(GAP + GAP).join(cells).rstrip()}", flush=True)
    gap()
