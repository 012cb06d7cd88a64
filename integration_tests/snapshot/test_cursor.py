"""Syncs by a cursor, one after the other: each brings what has grown past the one before, and none forgets a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest

from integration_tests.inprocess import Acts, Ended, InProcess
from testkit.database import Database
from testkit.protocol import Json

CURSORS: dict[str, tuple[str, ...]] = {
    "int2": ("-3", "-1", "0", "7"),
    "int8": ("-9223372036854775808", "-1", "9", "10"),
    "numeric": ("-1e20", "0.10", "0.2", "10"),
    "float8": ("-1e300", "1e-300", "0.30000000000000004", "5"),
    "float4": ("-1", "0.1", "0.2", "5"),
    "money": ("-1.5", "2", "10", "1000"),
    "oid": ("1", "9", "10", "4294967295"),
    "text": ("", "'", "\\", "日本"),
    'text COLLATE "und-x-icu"': ("a", "B", "c", "z"),
    "varchar(9)": ('"', "%s", "{", "é"),
    "char(4)": ("a", "ab", "abc", "b"),
    "name": ("A", "a", "b.c", "c"),
    "uuid": tuple(f"{digit * 8}-0000-0000-0000-000000000000" for digit in "07af"),
    "pg_lsn": ("0/1", "0/A0", "1/0", "A/0"),
    "date": ("4713-01-01 BC", "1999-12-31", "2024-02-29", "5874897-01-01"),
    "timestamp": ("0044-03-15 BC", "2024-01-01 00:00:00", "2024-01-01 00:00:00.000001", "294276-01-01"),
    "timestamptz": ("0044-03-15 BC", "2024-01-01 00:00:00+02", "2024-01-01 00:00:00+01", "294276-01-01"),
    "time": ("00:00", "00:00:00.000001", "12:00", "24:00"),
    "timetz": ("00:00+14", "12:00+01", "12:00+00", "24:00-12"),
    "small": ("-1", "0", "1", "99"),
}
"""Types that a cursor may have, each with values in their order."""


class Syncs:
    """Syncs of one connection: each goes on from the state of the one before."""

    def __init__(self, database: Database, **cursors: str) -> None:
        self._sync = InProcess(database.config(), retry_seconds=3)
        self._catalog = self._sync.catalog("incremental", streams=cursors, **cursors)
        self.state: list[Json] | None = None

    def next(self, acts: Acts | None = None) -> Ended:
        ended = self._sync.read(self._catalog, self.state, acts)
        assert ended.errors == []
        self.state = ended.state()
        return ended

    def numbers(self, stream: str = "metrics") -> list[Any]:
        """The next sync's rows by their numbers, in order."""
        return sorted(row["number"] for row in self.next().rows(stream))


def create(database: Database, kind: str) -> None:
    key = " PRIMARY KEY" if kind == "table with a key" else ""
    database.execute(
        f"CREATE TABLE metrics (time timestamptz, number int{key}, version int DEFAULT 1)".encode()
    )
    if kind == "hypertable":
        database.execute(
            "SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')"
        )
    database.grant_select("metrics")


def add(database: Database, numbers: Iterable[int]) -> None:
    """Rows of one hour each, so that a day has 24."""
    database.execute(
        "INSERT INTO metrics SELECT '2024-01-01'::timestamptz + n * interval '1 hour', n FROM unnest(%s::int[]) n",
        [list(numbers)],
    )


@pytest.fixture(params=["hypertable", "table with a key", "table without a key"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["time", "number"])
def cursor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_each_sync_brings_what_was_added_since_the_one_before(
    database: Database, kind: str, cursor: str
) -> None:
    create(database, kind)
    add(database, range(100))
    syncs = Syncs(database, metrics=cursor)

    first = syncs.numbers()
    add(database, range(100, 150))
    second = syncs.numbers()
    third = syncs.numbers()
    add(database, [150])
    fourth = syncs.numbers()

    assert (first, second, third, fourth) == ([*range(100)], [*range(100, 150)], [], [150])


def test_a_table_that_was_empty_at_first_is_followed_from_its_first_rows(
    database: Database, kind: str, cursor: str
) -> None:
    create(database, kind)
    syncs = Syncs(database, metrics=cursor)

    empty = syncs.numbers()
    add(database, range(10))
    first = syncs.numbers()
    second = syncs.numbers()

    assert (empty, first, second) == ([], [*range(10)], [])


def test_a_row_that_arrives_late_in_an_old_chunk_is_found_by_its_cursor(database: Database) -> None:
    create(database, "hypertable")
    add(database, range(100))
    syncs = Syncs(database, metrics="number")
    syncs.next()

    database.execute("INSERT INTO metrics VALUES ('2024-01-01 00:30+00', 500), ('2023-05-05 00:00+00', 501)")

    assert syncs.numbers() == [500, 501]


def test_a_row_that_ties_with_the_highest_cursor_and_comes_later_is_not_lost(
    database: Database, kind: str
) -> None:
    create(database, kind)
    add(database, range(100))
    syncs = Syncs(database, metrics="time")
    syncs.next()

    database.execute("INSERT INTO metrics SELECT time, 500 FROM metrics WHERE number = 99")
    with_the_tie = syncs.numbers()
    after_it = syncs.numbers()
    database.execute("INSERT INTO metrics SELECT time, 501 FROM metrics WHERE number = 99")
    add(database, [100])
    with_another = syncs.numbers()

    assert 500 in with_the_tie
    assert after_it == []
    assert {100, 501} <= {*with_another}
    assert {*with_the_tie, *with_another} <= {99, 100, 500, 501}


@pytest.mark.parametrize("space", [False, True])
def test_a_tie_is_counted_over_all_chunks(database: Database, space: bool) -> None:
    create(database, "table without a key")
    more = ", partitioning_column => 'number', number_partitions => 3" if space else ""
    database.execute(f"SELECT create_hypertable('metrics', 'time'{more})".encode())
    add(database, range(20))
    database.execute(
        "INSERT INTO metrics SELECT max(time), n FROM metrics, generate_series(100, 110) n GROUP BY n"
    )
    syncs = Syncs(database, metrics="time")

    first = syncs.numbers()
    nothing = syncs.numbers()
    database.execute("INSERT INTO metrics SELECT max(time), 200 FROM metrics")
    tied = syncs.numbers()

    assert first == [*range(20), *range(100, 111)]
    assert nothing == []
    assert 200 in tied


def test_rows_updated_behind_the_reader_belong_to_the_next_sync(database: Database, kind: str) -> None:
    create(database, kind)
    database.execute("ALTER TABLE metrics ADD COLUMN changed int DEFAULT 0")
    add(database, range(400))
    syncs = Syncs(database, metrics="changed")

    def update() -> None:
        database.execute("UPDATE metrics SET changed = 1, version = 2 WHERE number % 10 = 3")

    first = syncs.next({("RECORD", 1): update}).rows("metrics")
    second = syncs.next().rows("metrics")

    latest = {row["number"]: row["version"] for row in [*first, *second]}
    assert latest == {number: 2 if number % 10 == 3 else 1 for number in range(400)}
    assert {row["version"] for row in first} == {1}
    assert sorted(row["number"] for row in second) == [*range(3, 400, 10)]


def test_rows_added_behind_the_reader_come_exactly_once(database: Database, kind: str, cursor: str) -> None:
    create(database, kind)
    add(database, range(200))
    syncs = Syncs(database, metrics=cursor)
    acts = {("RECORD", 1 + 50 * turn): partial(add, database, [200 + turn]) for turn in range(4)}

    first = syncs.next(acts).rows("metrics")
    second = syncs.next().rows("metrics")

    assert Counter(row["number"] for row in [*first, *second]) == Counter(range(204))


def test_rows_without_a_cursor_value_come_with_the_first_sync(database: Database, kind: str) -> None:
    create(database, kind)
    database.execute("ALTER TABLE metrics ADD COLUMN changed int")
    add(database, range(50))
    database.execute("UPDATE metrics SET changed = number WHERE number % 2 = 0")
    syncs = Syncs(database, metrics="changed")

    first = syncs.numbers()
    second = syncs.numbers()
    database.execute("UPDATE metrics SET changed = 1000 WHERE number = 7")
    third = syncs.numbers()

    assert (first, second, third) == ([*range(50)], [], [7])


def test_rows_of_a_table_without_any_cursor_value_come_once_and_none_is_forgotten(
    database: Database, kind: str
) -> None:
    create(database, kind)
    database.execute("ALTER TABLE metrics ADD COLUMN changed int")
    add(database, range(50))
    syncs = Syncs(database, metrics="changed")

    first = syncs.numbers()
    second = syncs.numbers()
    add(database, [50])
    third = syncs.numbers()
    database.execute("UPDATE metrics SET changed = 1 WHERE number = 7")
    fourth = syncs.numbers()
    fifth = syncs.numbers()

    assert (first, second) == ([*range(50)], [])
    assert 50 in third
    assert (fourth, fifth) == ([7], [])


def test_a_value_in_a_chunk_that_was_read_when_none_had_one_is_not_passed_over(
    database: Database,
    small_slices: None,  # noqa: ARG001 - a STATE after each chunk
) -> None:
    create(database, "hypertable")
    database.execute("ALTER TABLE metrics ADD COLUMN changed int")
    add(database, range(48))
    sync = InProcess(database.config(timescaledb={"parallel_chunks": 1}))
    catalog = sync.catalog("incremental", metrics="changed")

    stopped = sync.read(catalog, None, {("STATE", 1): sync.stop})
    database.execute("UPDATE metrics SET changed = 1 WHERE number = 3")
    resumed = sync.read(catalog, stopped.state())

    assert 3 in {row["number"] for row in stopped.rows("metrics")}
    assert stopped.statuses[-1] == ("public", "metrics", "INCOMPLETE")
    assert [row["number"] for row in resumed.rows("metrics") if row["changed"] == 1] == [3]


@pytest.mark.parametrize(
    ("column", "endless"),
    [
        ("float8", ("Infinity", "NaN")),
        ("numeric", ("NaN", "Infinity")),
        ("timestamptz", ("infinity", "infinity")),
    ],
)
def test_rows_of_a_table_with_values_past_every_real_one_alone_come_once_and_none_is_forgotten(
    database: Database, column: str, endless: tuple[str, str]
) -> None:
    database.execute(f"CREATE TABLE metrics (number serial, changed {column})".encode())
    database.grant_select("metrics")
    syncs = Syncs(database, metrics="changed")

    def insert(value: str) -> None:
        database.execute(f"INSERT INTO metrics (changed) VALUES (%s::{column})".encode(), [value])

    insert(endless[0])
    first = syncs.numbers()
    second = syncs.numbers()
    insert(endless[1])
    third = syncs.numbers()
    fourth = syncs.numbers()

    assert (first, second, fourth) == ([1], [], [])
    assert 2 in third


@pytest.mark.parametrize(
    ("column", "finite", "later", "infinite"),
    [
        ("float8", ("1", "2"), "3", ("-Infinity", "Infinity", "NaN")),
        ("numeric", ("1", "2"), "3", ("-Infinity", "Infinity", "NaN")),
        ("timestamptz", ("2024-01-01", "2024-01-02"), "2024-01-03", ("-infinity", "infinity")),
        ("date", ("2024-01-01", "2024-01-02"), "2024-01-03", ("-infinity", "infinity")),
    ],
)
def test_values_past_every_real_one_neither_stop_a_cursor_nor_are_forgotten(
    database: Database, column: str, finite: tuple[str, ...], later: str, infinite: tuple[str, ...]
) -> None:
    database.execute(f"CREATE TABLE metrics (number serial, changed {column})".encode())
    database.grant_select("metrics")
    syncs = Syncs(database, metrics="changed")

    def insert(*values: str) -> list[int]:
        return [
            database.value(
                f"INSERT INTO metrics (changed) VALUES (%s::{column}) RETURNING number".encode(), [value]
            )
            for value in values
        ]

    old = insert(*infinite, *finite)
    first = syncs.numbers()
    nothing = syncs.numbers()
    higher = insert(later)
    second = syncs.numbers()
    endless = insert(infinite[1])
    third = syncs.numbers()

    assert first == old
    assert nothing == []
    assert second == higher
    assert {*endless} <= {*third}


def test_a_cursor_of_any_type_goes_on_where_it_stopped(database: Database) -> None:
    database.execute("CREATE DOMAIN small AS int CHECK (VALUE < 100)")
    tables = {f"followed_{number}": kind for number, kind in enumerate(CURSORS)}

    def insert(places: range) -> None:
        for table, kind in tables.items():
            for place in places:
                value = f"%s::{kind.partition(' COLLATE')[0]}"
                database.execute(
                    f"INSERT INTO {table} VALUES ({value}, %s)".encode(), [CURSORS[kind][place], place]
                )

    for table, kind in tables.items():
        database.execute(f"CREATE TABLE {table} (changed {kind}, number int)".encode())
        database.grant_select(table)
    syncs = Syncs(database, **dict.fromkeys(tables, "changed"))
    read: dict[str, list[list[int]]] = {kind: [] for kind in CURSORS}

    for places in (range(2), range(2, 3), range(0), range(3, 4)):
        insert(places)
        ended = syncs.next()
        for table, kind in tables.items():
            read[kind].append([row["number"] for row in ended.rows(table)])

    assert read == {kind: [[0, 1], [2], [], [3]] for kind in CURSORS}


def test_a_cursor_on_time_leaves_chunks_alone_that_end_before_it(database: Database) -> None:
    create(database, "hypertable")
    add(database, range(24 * 5))
    syncs = Syncs(database, metrics="time")
    syncs.next()
    add(database, range(24 * 5, 24 * 7))
    old = database.rows(
        "SELECT format('ONLY %%s', c) FROM show_chunks('metrics', older_than => '2024-01-05') c", []
    )

    with database.connect() as holder:
        holder.execute(f"LOCK TABLE {', '.join(chunk for (chunk,) in old)} IN ACCESS EXCLUSIVE MODE".encode())
        second = syncs.numbers()

    assert len(old) == 4
    assert second == [*range(24 * 5, 24 * 7)]


def test_chunks_dropped_between_two_syncs_are_no_loss(database: Database, cursor: str) -> None:
    create(database, "hypertable")
    add(database, range(24 * 5))
    syncs = Syncs(database, metrics=cursor)
    syncs.next()

    database.execute("SELECT drop_chunks('metrics', newer_than => timestamptz '2024-01-04')")
    after_the_drop = syncs.numbers()
    add(database, range(24 * 5, 24 * 6))

    assert after_the_drop == []
    assert syncs.numbers() == [*range(24 * 5, 24 * 6)]


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        ("int", "text", True),
        ("text", "int", True),
        ("int", "bigint", False),
        ("timestamp", "timestamptz", False),
    ],
)
def test_a_cursor_whose_values_are_ordered_otherwise_now_is_refused(
    database: Database, before: str, after: str, refused: bool
) -> None:
    first, second = ("2024-01-01", "2024-01-02") if before == "timestamp" else ("9", "10")
    database.execute(f"CREATE TABLE metrics (changed {before}, number int)".encode())
    database.execute(f"INSERT INTO metrics VALUES ('{first}', 1)".encode())
    database.grant_select("metrics")
    sync = InProcess(database.config())
    state = sync.read(sync.catalog("incremental", metrics="changed")).state()
    database.execute(f"ALTER TABLE metrics ALTER COLUMN changed TYPE {after} USING changed::{after}".encode())
    database.execute(f"INSERT INTO metrics VALUES ('{second}', 2)".encode())

    ended = sync.read(sync.catalog("incremental", metrics="changed"), state)

    if refused:
        (error,) = ended.errors
        assert error["failure_type"] == "config_error"
        assert "changed" in error["message"]
        assert "public.metrics" in error["message"]
        assert ended.rows("metrics") == []
    else:
        assert [row["number"] for row in ended.rows("metrics")] == [2]


def test_a_time_at_the_end_of_all_times_is_read_and_followed(database: Database) -> None:
    database.execute("CREATE TABLE metrics (time bigint NOT NULL, number int)")
    database.execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => 1000)")
    database.execute("CREATE TABLE endless (time timestamptz NOT NULL, number int)")
    database.execute("SELECT create_hypertable('endless', 'time')")
    database.execute("INSERT INTO metrics VALUES (-9223372036854775808, 1), (5, 2), (9223372036854775807, 3)")
    database.execute("INSERT INTO endless VALUES ('2024-01-01', 1), ('infinity', 2)")
    database.grant_select("metrics", "endless")
    syncs = Syncs(database, metrics="time", endless="time")

    first = syncs.next()
    nothing = syncs.next()
    database.execute("INSERT INTO metrics VALUES (9223372036854775807, 4)")
    database.execute("INSERT INTO endless VALUES ('2024-01-02', 3), ('infinity', 4)")
    second = syncs.next()

    assert sorted(row["number"] for row in first.rows("metrics")) == [1, 2, 3]
    assert sorted(row["number"] for row in first.rows("endless")) == [1, 2]
    assert nothing.records == {}
    assert {row["number"] for row in second.rows("metrics")} == {3, 4}
    assert {row["number"] for row in second.rows("endless")} == {2, 3, 4}
