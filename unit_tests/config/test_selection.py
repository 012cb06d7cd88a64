from __future__ import annotations

import pytest

from source_timescaledb.config.selection import HypertableSelection


@pytest.mark.parametrize(
    ("pattern", "schema", "name", "selected"),
    [
        ("metrics", "public", "metrics", True),
        ("metrics", "public", "Metrics", False),
        ("metrics*", "public", "metrics_cpu", True),
        ("metrics*", "metrics_old", "cpu", False),
        ("public.*", "public", "metrics", True),
        ("public.*", "publicity", "metrics", False),
        ("*.cpu_?", "any", "cpu_1", True),
        ("cpu_[ab]", "public", "cpu_b", True),
        ("cpu_[ab]", "public", "cpu_c", False),
        ("a.b", "public", "a.b", True),
    ],
)
def test_a_pattern_includes_what_it_describes(pattern: str, schema: str, name: str, selected: bool) -> None:
    assert HypertableSelection(include=(pattern,)).selects(schema, name) is selected


def test_without_patterns_everything_takes_part() -> None:
    assert HypertableSelection().selects("any", "thing")


def test_an_exclude_pattern_always_wins() -> None:
    selection = HypertableSelection(include=("metrics*",), exclude=("public.metrics_old",))

    assert selection.selects("other", "metrics_old")
    assert not selection.selects("public", "metrics_old")
