"""The table of versions in the form of Airbyte's pages, by CHANGELOG.md.

A section of it is `## 0.1.0` or, once the version is out, `## 0.1.0 - 2026-12-01`; its first paragraph is the subject.
"""

from __future__ import annotations

import re
from typing import Final

from pages.written import drawn

HEADING: Final = ("Version", "Date", "Pull Request", "Subject")
SECTION: Final = re.compile(
    r"^## (\d+\.\d+\.\d+)(?: - (\d{4}-\d\d-\d\d))?\n\n(.+?)\n\n", re.MULTILINE | re.DOTALL
)


def version_table(changelog: str) -> str:
    """The table, the newest version first as in the changelog."""
    rows = [
        (version, date or "not out yet", "", " ".join(subject.split()))
        for version, date, subject in SECTION.findall(changelog)
    ]
    return drawn(HEADING, rows)
