"""Which part of which page is made of what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pages.reading import ROOT
from pages.sentences import sentence_table, verdict_table
from pages.settings import setting_table
from pages.types import type_table
from pages.versions import version_table
from pages.written import replaced

Parts = Mapping[str, Callable[[], str]]

PARTS: Final[Mapping[Path, Parts]] = {
    ROOT / "docs" / "source-timescaledb.md": {
        "settings": setting_table,
        "types": type_table,
        "versions": lambda: version_table((ROOT / "CHANGELOG.md").read_text()),
    },
    ROOT / "docs" / "messages.md": {"sentences": sentence_table, "codes": verdict_table},
}


def anew(path: Path) -> str:
    """The page as it has to be."""
    page = path.read_text()
    for part, make in PARTS[path].items():
        page = replaced(page, part, make())
    return page
