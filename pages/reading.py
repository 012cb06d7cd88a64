"""A page as its readers see it: blocks of code, links, headings and their anchors. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FENCED: Final = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
LINKED: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: its language and its text, without the indentation of the list that it stands in."""

    language: str
    text: str


def all_pages() -> list[Path]:
    """The pages of the repository that speak to its users."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: str, language: str = "") -> list[Block]:
    """The blocks of code of a page, in their order; all of them, or those of one language."""
    found = [
        Block(block[2], re.sub(rf"^{block[1]}", "", block[3], flags=re.MULTILINE))
        for block in FENCED.finditer(page)
    ]
    return [block for block in found if not language or block.language == language]


def block(page: str, language: str, containing: str = "") -> str:
    """The text of the first block of a language that has something in it."""
    return next(one.text for one in blocks(page, language) if containing in one.text)


def statements(sql: str) -> list[str]:
    """The statements in SQL, without comments; no quoted text on our pages holds a semicolon or two hyphens."""
    bare = re.sub(r"--[^\n]*", "", sql)
    return [one.strip() for one in bare.split(";") if one.strip()]


def section(page: str, heading: str) -> str:
    """What stands under a heading, up to the next one that is no deeper."""
    (start,) = (one for one in HEADING.finditer(prose(page)) if one[2] == heading)
    rest = page[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", prose(rest), re.MULTILINE)
    return rest[: end.start()] if end else rest


def prose(page: str) -> str:
    """A page with its blocks of code blanked out, each letter in its place: what is a link or a heading, is one."""
    return FENCED.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), page)


def links(page: str) -> Iterator[str]:
    """The targets of all links of a page."""
    yield from LINK.findall(re.sub(r"`[^`\n]*`", "", prose(page)))


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    found: set[str] = set()
    for _, heading in HEADING.findall(prose(page)):
        plain = LINKED.sub(r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (anchor := f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(anchor)
    return found


def broken_links(path: Path) -> list[str]:
    """The links of a page that lead to no file, or to no heading of one; those that lead out are not followed."""
    broken = []
    for target in links(path.read_text()):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            broken.append(target)
    return broken


def cells(row: str) -> list[str]:
    """The cells of a row of a table."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip())[1:-1]]


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the table that has this line as its heading, without the two lines at its top."""
    _, _, rest = page.partition(f"{heading}\n")
    return [cells(row) for row in rest.partition("\n\n")[0].splitlines()[1:]]
