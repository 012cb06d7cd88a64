"""GROUP BY columns out of a view's parse tree."""

from __future__ import annotations

from source_timescaledb.hypertables.grouping import group_by_columns

TARGET = (
    "{{TARGETENTRY :expr {{VAR :varno 1}} :resno {resno} :resname {name} :ressortgroupref {reference} "
    ":resorigtbl 0 :resorigcol 0 :resjunk {junk}}}"
)


def tree(groups: list[int], *targets: tuple[str, int, str]) -> str:
    entries = " ".join(
        TARGET.format(resno=number, name=name, reference=reference, junk=junk)
        for number, (name, reference, junk) in enumerate(targets, start=1)
    )
    clauses = " ".join(f"{{SORTGROUPCLAUSE :tleSortGroupRef {group} :eqop 96}}" for group in groups)
    return f"({{QUERY :targetList ({entries}) :groupClause ({clauses}) :groupDistinct false}})"


def test_group_by_columns_come_in_group_by_order() -> None:
    parse_tree = tree([2, 1], ("device", 1, "false"), ("bucket", 2, "false"), ("mean", 0, "false"))

    assert group_by_columns(parse_tree) == ("bucket", "device")


def test_a_group_by_column_that_is_not_output_leaves_no_key() -> None:
    parse_tree = tree([1, 2], ("bucket", 1, "false"), ("device", 2, "true"))

    assert group_by_columns(parse_tree) == ()


def test_an_escaped_name_is_read_back() -> None:
    parse_tree = tree([1], (r"my\ bucket", 1, "false"))

    assert group_by_columns(parse_tree) == ("my bucket",)


def test_no_parse_tree_is_no_key() -> None:
    assert group_by_columns("") == ()
