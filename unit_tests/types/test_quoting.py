from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.types.quoting import constant, identifier


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", "'plain'"),
        ("it's", "'it''s'"),
        ("back\\slash's", "E'back\\\\slash''s'"),
        ("100%'", "E'100\\x25'''"),
    ],
)
def test_a_constant_is_escaped_only_where_it_must(text: str, quoted: str) -> None:
    assert constant(text).as_string(None) == quoted


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("plain", '"plain"'),
        ('the "best" \\ of', '"the ""best"" \\ of"'),
        ('100% "\\"', 'U&"100\\0025 ""\\\\"""'),
    ],
)
def test_a_name_is_escaped_only_where_it_must(name: str, quoted: str) -> None:
    assert identifier(name).as_string(None) == quoted


@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_nothing_quoted_holds_a_percent_sign(text: str) -> None:
    assert "%" not in constant(text).as_string(None)
    assert "%" not in identifier(text).as_string(None)
