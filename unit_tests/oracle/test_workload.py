"""A seed fixes what is written, and what is written meets everything that the oracle promises."""

from __future__ import annotations

from itertools import islice

from psycopg import sql

from oracle.workload import Author, Ending, Policy, Transaction, disturbances


def transactions(seed: int, writer: int, count: int = 300) -> list[Transaction]:
    return list(islice(Author(seed, writer).transactions(), count))


def statements(written: list[Transaction]) -> str:
    return "\n".join(step.statement.as_string(None) for one in written for step in one.steps)


def disturbing(policy: Policy) -> str:
    return statements(list(disturbances(3, policy)))


def test_a_seed_gives_the_same_transactions_each_time() -> None:
    assert transactions(7, 1) == transactions(7, 1)
    assert Author(7, 1).first_rows() == Author(7, 1).first_rows()
    assert disturbances(7, Policy.DROPS) == disturbances(7, Policy.DROPS)


def test_another_seed_or_another_writer_gives_others() -> None:
    assert transactions(7, 1) != transactions(8, 1)
    assert transactions(7, 1) != transactions(7, 2)


def test_writers_do_everything_that_is_promised() -> None:
    written = transactions(1, 0)
    text = statements(written)

    for word in (
        'INSERT INTO "readings"',
        'INSERT INTO "indexed"',
        'INSERT INTO "whole"',
        'INSERT INTO "events"',
        "ON CONFLICT DO NOTHING",
        "ON CONFLICT (device, time) DO UPDATE",
        'UPDATE "readings" SET value',
        'UPDATE "whole" SET device',
        'UPDATE "indexed" SET time',
        'DELETE FROM "readings"',
        'DELETE FROM "parts"',
        'UPDATE "parts" SET id',
        "SAVEPOINT here",
        "ROLLBACK TO here",
        "RELEASE here",
        "synchronous_commit = off",
    ):
        assert word in text
    assert {one.ending for one in written} == set(Ending)
    assert any(step.pause for one in written for step in one.steps)


def test_events_are_only_ever_added() -> None:
    text = statements(transactions(1, 0))

    assert 'UPDATE "events"' not in text
    assert 'DELETE FROM "events"' not in text


def test_no_statement_names_a_key_twice() -> None:
    inserts = [
        step
        for one in transactions(2, 0)
        for step in one.steps
        if "unnest" in (text := step.statement.as_string(None)) and "events" not in text
    ]

    assert inserts
    for step in inserts:
        keys = list(zip(*step.parameters[:2], strict=True))
        assert len(keys) == len(set(keys))


def test_chunks_are_dropped_and_tables_truncated_only_where_the_policy_says_so() -> None:
    assert "drop_chunks" in disturbing(Policy.DROPS)
    assert "TRUNCATE" in disturbing(Policy.TRUNCATES)
    assert "drop_chunks" not in disturbing(Policy.EVERYTHING) + disturbing(Policy.TRUNCATES)
    assert "TRUNCATE" not in disturbing(Policy.EVERYTHING) + disturbing(Policy.DROPS)
    assert all("ADD COLUMN" in disturbing(policy) for policy in Policy)


def test_a_large_transaction_changes_some_of_its_rows_and_takes_other_changes_back() -> None:
    text = "\n".join(statements(list(disturbances(seed, Policy.LARGE))) for seed in range(8))

    for word in (
        'INSERT INTO "events"',
        'INSERT INTO "readings"',
        "generate_series",
        "ROLLBACK TO here",
        "DELETE FROM",
    ):
        assert word in text


def test_parameters_are_never_written_into_a_statement() -> None:
    for one in transactions(4, 2):
        for step in one.steps:
            text = step.statement.as_string(None)
            assert isinstance(step.statement, sql.Composable)
            assert text.count("%s") == len(step.parameters)
