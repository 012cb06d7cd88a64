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

    assert group_by_columns(parse_tree, ["device", "bucket", "mean"]) == ("bucket", "device")


def test_a_renamed_column_has_its_new_name() -> None:
    parse_tree = tree([1], ("device", 1, "false"))

    assert group_by_columns(parse_tree, ["machine"]) == ("machine",)


def test_a_group_by_column_that_is_not_output_leaves_no_key() -> None:
    parse_tree = tree([1, 2], ("bucket", 1, "false"), ("device", 2, "true"))

    assert group_by_columns(parse_tree, ["bucket"]) == ()


def test_an_escaped_name_does_not_hide_its_column() -> None:
    parse_tree = tree([1], (r"my\ bucket", 1, "false"))

    assert group_by_columns(parse_tree, ["my bucket"]) == ("my bucket",)


def test_the_arguments_of_an_aggregate_are_no_output() -> None:
    parse_tree = tree([1, 2], ("day", 1, "false"), ("parity", 2, "false"), ("count", 0, "false"))
    argument = TARGET.format(resno=2, name="<>", reference=1, junk="false")
    with_distinct = parse_tree.replace(") :groupClause", f" {argument}) :groupClause")

    assert group_by_columns(with_distinct, ["day", "parity", "count"]) == ("day", "parity")


def test_a_query_inside_the_query_leaves_no_key() -> None:
    inner = tree([1], ("bucket", 1, "false"))
    outer = tree([1], ("device", 1, "false")).replace("{QUERY ", f"{{QUERY :rtable {inner} ")

    assert group_by_columns(outer, ["device"]) == ()


def test_no_parse_tree_is_no_key() -> None:
    assert group_by_columns("", []) == ()
