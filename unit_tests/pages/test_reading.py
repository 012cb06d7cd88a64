from __future__ import annotations

import pytest

from pages.reading import anchors, block, blocks, cells, links, section, statements, table
from pages.versions import version_table
from pages.written import UnmarkedError, drawn, replaced

PAGE = """\
# A page

See [there](other.md#part), and `[not](this)`.

## The *first* part: `code`

1. A list

   ```sql
   SELECT 1; -- [no](link)
   ```

### Deeper

| a | b |
| --- | --- |
| 1 | x \\| y |

## Deeper

```sh
# no heading
run
```
"""


def test_blocks_of_code_stand_without_the_indentation_of_their_list() -> None:
    assert [one.text for one in blocks(PAGE)] == ["SELECT 1; -- [no](link)\n", "# no heading\nrun\n"]
    assert block(PAGE, "sh") == "# no heading\nrun\n"


def test_links_and_headings_are_not_looked_for_in_code() -> None:
    assert list(links(PAGE)) == ["other.md#part"]
    assert anchors(PAGE) == {"a-page", "the-first-part-code", "deeper", "deeper-1"}


def test_a_section_ends_where_the_next_of_its_depth_begins() -> None:
    assert "### Deeper" in section(PAGE, "The *first* part: `code`")
    assert "```sh" not in section(PAGE, "The *first* part: `code`")


def test_a_table_is_read_row_by_row() -> None:
    assert table(PAGE, "| a | b |") == [["1", "x \\| y"]]
    assert cells("| 1 | 2 |") == ["1", "2"]
    assert drawn(("a",), [("x | y",)]) == "| a |\n| --- |\n| x \\| y |"


def test_statements_stand_without_comments() -> None:
    assert statements("SELECT 1; -- one\n\nSELECT\n 2;") == ["SELECT 1", "SELECT\n 2"]


def test_what_stands_between_two_marks_is_replaced_and_nothing_else() -> None:
    page = "before\n<!-- p: written by make docs -->\nold\n<!-- end of p -->\nafter\n"

    new = replaced(page, "p", "\\1 new")

    assert new == "before\n<!-- p: written by make docs -->\n\n\\1 new\n\n<!-- end of p -->\nafter\n"
    assert replaced(new, "p", "\\1 new") == new
    with pytest.raises(UnmarkedError):
        replaced(page, "q", "new")


def test_the_versions_are_those_of_the_changelog_with_their_dates() -> None:
    changelog = "# Changelog\n\n## 0.2.0 - 2026-12-01\n\nMore\nof it.\n\n- Line.\n\n## 0.1.0\n\nThe first.\n\n- Line.\n"

    assert version_table(changelog).splitlines()[2:] == [
        "| 0.2.0 | 2026-12-01 |  | More of it. |",
        "| 0.1.0 | not out yet |  | The first. |",
    ]
