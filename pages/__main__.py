"""`python -m pages`, which `make docs` runs: write anew what the pages take from the code."""

from __future__ import annotations

from pages.writing import PARTS, anew

for path in PARTS:
    path.write_text(anew(path))
