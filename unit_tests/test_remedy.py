"""Statements are data that a sentence, a table and a script are made of."""

from __future__ import annotations

from psycopg import sql

from source_timescaledb.remedy import Statement, brief, grant


def test_a_statement_that_may_be_run_again_is_written_as_it_is() -> None:
    assert (
        grant("SELECT ON", ("Odd", 'b"c'), "read er").repeatable
        == 'GRANT SELECT ON "Odd"."b""c" TO "read er";'
    )


def test_a_command_that_would_fail_a_second_time_looks_first_and_its_names_end_no_quotes() -> None:
    name = "it's $$ $do$"
    command = Statement.of(
        sql.SQL("CREATE PUBLICATION {}").format(sql.Identifier(name)),
        unless=sql.SQL("EXISTS (SELECT FROM pg_publication WHERE pubname = {})").format(name),
    )

    assert command.repeatable == (
        "DO 'BEGIN IF NOT (EXISTS (SELECT FROM pg_publication WHERE pubname = ''it''''s $$ $do$''))"
        " THEN CREATE PUBLICATION \"it''s $$ $do$\"; END IF; END';"
    )


def test_a_function_that_would_fail_a_second_time_is_called_only_where_it_has_not_been() -> None:
    call = Statement("SELECT f('x');", unless="EXISTS (SELECT FROM t)")

    assert call.repeatable == "SELECT f('x') WHERE NOT (EXISTS (SELECT FROM t));"


def test_a_sentence_has_as_many_statements_as_it_bears_and_at_least_one() -> None:
    assert brief([]) == ""
    assert brief([Statement("a;"), Statement("b;")]) == "a; b;"
    assert brief([Statement("x" * 5000), Statement("b;")]) == (
        "x" * 5000 + " (and 1 more statements; `doctor` has them all)"
    )
