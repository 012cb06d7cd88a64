"""What a change says: values, large values that are not sent, keys, and every replica identity."""

from __future__ import annotations

from collections import Counter

import pytest

from integration_tests.cdc.conftest import Followed, fill
from integration_tests.inprocess import Ended
from integration_tests.truth import Truth
from source_timescaledb.cdc.followed import CDC_COLUMNS, DELETED_AT, LSN
from testkit.protocol import Json

LARGE = "(SELECT string_agg(md5((i * {0})::text), '') FROM generate_series(1, 300) i)"


def ending_well(ended: Ended) -> Ended:
    assert ended.failure is None, (ended.errors, ended.logged)
    return ended


def refusal(ended: Ended) -> str:
    """What a sync said when it refused to go on."""
    assert ended.failure is not None
    return "\n".join(str(error) for error in ended.errors)


def changes(ended: Ended, table: str) -> list[Json]:
    """The rows told, without what tells of the change, and whether they are gone."""
    return [
        {**{k: v for k, v in row.items() if k not in CDC_COLUMNS}, "gone": row[DELETED_AT] is not None}
        for row in ended.rows(table)
    ]


def test_a_large_value_that_an_update_leaves_alone_is_looked_up(followed: Followed) -> None:
    database = followed.database
    database.execute(
        f"INSERT INTO metrics SELECT '2024-01-01', i, i, {LARGE.format('i')} FROM generate_series(1, 20) i"
    )
    database.execute(f"INSERT INTO parts SELECT i, {LARGE.format('i')} FROM generate_series(1, 20) i")
    followed.publish("metrics", "parts")
    ending_well(followed.sync("metrics", "parts"))
    database.execute("UPDATE metrics SET value = -value")
    database.execute("UPDATE parts SET id = id + 100")

    ended = ending_well(followed.sync("metrics", "parts"))

    assert all(len(row["note"]) == 9600 for row in ended.rows("metrics"))
    followed.mirrors("metrics", "parts")


def test_a_large_value_of_a_row_that_is_gone_by_then_is_null_and_said_to_be(followed: Followed) -> None:
    database = followed.database
    database.execute(f"INSERT INTO parts VALUES (1, {LARGE.format('1')})")
    database.execute("ALTER TABLE parts ADD COLUMN small int")
    followed.publish("parts")
    ending_well(followed.sync("parts"))
    database.execute("UPDATE parts SET small = 1")
    database.execute("DELETE FROM parts")

    ended = ending_well(followed.sync("parts"))

    update, _ = ended.rows("parts")
    assert (update["note"], update["small"]) == (None, 1)
    first, second = ended.of_type("RECORD")
    assert first["meta"]["changes"][0]["field"] == "note"
    assert not second.get("meta")
    followed.mirrors("parts")


def test_a_large_value_that_is_part_of_the_key_is_taken_from_the_old_key(followed: Followed) -> None:
    database = followed.database
    database.execute("CREATE TABLE names (name text PRIMARY KEY, n int)")
    database.execute("ALTER TABLE names ALTER name SET STORAGE EXTERNAL")
    database.execute(
        "INSERT INTO names SELECT (SELECT string_agg(md5((i * j)::text), '') FROM"
        " generate_series(1, 75) i), j FROM generate_series(1, 9) j"
    )
    followed.publish("names")
    ending_well(followed.sync("names"))
    database.execute("UPDATE names SET n = -n")
    database.execute("UPDATE names SET name = 'short ' || name WHERE n = -3")

    ending_well(followed.sync("names"))

    followed.mirrors("names")


def test_a_large_value_of_a_column_that_is_not_selected_is_not_asked_for(followed: Followed) -> None:
    database = followed.database
    database.execute(f"INSERT INTO parts VALUES (1, {LARGE.format('1')}), (2, {LARGE.format('2')})")
    database.execute("ALTER TABLE parts ADD COLUMN big text, ADD COLUMN small int")
    database.execute("UPDATE parts SET big = note")
    followed.publish("parts")
    source = followed.source()
    catalog = source.catalog("incremental", ["parts"])
    del catalog["streams"][0]["stream"]["json_schema"]["properties"]["note"]
    first = ending_well(source.read(catalog))
    database.execute("UPDATE parts SET small = 7")
    database.execute("ALTER TABLE parts DROP COLUMN note")

    second = ending_well(source.read(catalog, first.state()))

    assert [set(row) - set(CDC_COLUMNS) for row in second.rows("parts")] == [{"id", "big", "small"}] * 2
    assert all(len(row["big"]) == 9600 for row in second.rows("parts"))
    assert not any(record.get("meta") for record in second.of_type("RECORD"))


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL", "USING INDEX metrics_pkey"])
def test_every_identity_with_the_key_in_it_tells_updates_deletes_and_moved_keys(
    followed: Followed, identity: str
) -> None:
    fill(followed.database)
    followed.database.execute(f"ALTER TABLE metrics REPLICA IDENTITY {identity}".encode())
    followed.publish("metrics")
    ending_well(followed.sync("metrics"))
    followed.database.execute("UPDATE metrics SET note = 'changed' WHERE device = 1")
    followed.database.execute("UPDATE metrics SET device = device + 100 WHERE device = 2")
    followed.database.execute("UPDATE metrics SET time = time + interval '1 ms' WHERE device = 4")
    followed.database.execute("DELETE FROM metrics WHERE device = 3")

    ending_well(followed.sync("metrics"))

    followed.mirrors("metrics")


def test_a_stream_whose_updates_are_not_published_goes_on_with_its_inserts(followed: Followed) -> None:
    database = followed.database
    fill(database)
    database.execute("ALTER TABLE metrics REPLICA IDENTITY NOTHING")
    database.execute("CREATE PUBLICATION changes FOR TABLE metrics WITH (publish = 'insert')")
    database.as_superuser().execute(
        "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [followed.slot]
    )
    ending_well(followed.sync("metrics"))
    database.execute("INSERT INTO metrics VALUES ('2024-01-01 00:00:01', 50, 1, 'new')")

    ended = ending_well(followed.sync("metrics"))

    assert len(ended.rows("metrics")) == 1
    followed.mirrors("metrics")


@pytest.mark.parametrize(
    "change", ["UPDATE parts SET code = 'x'", "UPDATE parts SET id = 9", "DELETE FROM parts"]
)
def test_a_change_under_an_identity_without_the_key_stops_the_sync_and_says_what_to_do(
    followed: Followed, change: str
) -> None:
    database = followed.database
    database.execute("ALTER TABLE parts ADD COLUMN code text NOT NULL")
    database.execute("CREATE UNIQUE INDEX by_code ON parts (code)")
    database.execute("INSERT INTO parts VALUES (1, 'note', 'code')")
    followed.publish("parts")
    ending_well(followed.sync("parts"))
    database.execute("ALTER TABLE parts REPLICA IDENTITY USING INDEX by_code")
    database.execute(change)

    assert "leaves out columns of the key, so the log does not tell" in refusal(followed.sync("parts"))
    database.execute("ALTER TABLE parts REPLICA IDENTITY DEFAULT")
    assert "leaves out columns of its key (id), so the server does not tell" in refusal(
        followed.sync("parts")
    )

    followed.state[0]["global"]["stream_states"] = []
    followed.destinations.clear()
    ending_well(followed.sync("parts"))
    followed.mirrors("parts")


def test_a_stream_without_a_key_tells_each_row_more_and_each_row_less(followed: Followed) -> None:
    database = followed.database
    database.execute(
        "INSERT INTO events VALUES ('2024-01-01', 'a'), ('2024-01-01', 'a'), ('2024-01-02', 'b')"
    )
    database.execute("CREATE TABLE notes (note text)")
    database.execute("ALTER TABLE notes REPLICA IDENTITY FULL")
    database.execute("INSERT INTO notes VALUES ('a'), ('a'), (NULL)")
    followed.publish("events", "notes")
    ended = ending_well(followed.sync("events", "notes"))
    told = {table: counting(ended, table) for table in ("events", "notes")}
    database.execute("UPDATE events SET what = 'c' WHERE what = 'b'")
    database.execute("UPDATE events SET what = what")
    database.execute(
        "DELETE FROM events WHERE ctid = (SELECT min(ctid) FROM events WHERE what = 'a') AND what = 'a'"
    )
    database.execute("UPDATE notes SET note = 'd' WHERE note IS NULL")
    database.execute("DELETE FROM notes WHERE note = 'a'")

    ended = ending_well(Unapplied(followed).sync("events", "notes"))

    for table in ("events", "notes"):
        told[table].update(counting(ended, table))
        truth = Truth.of(database, table)
        left = Counter({row: count for row, count in told[table].items() if count})
        assert left == Counter(repr(sorted(row)) for row in rendered(truth)), table


class Unapplied:
    """A sync whose records are not applied to a destination with a key."""

    def __init__(self, followed: Followed) -> None:
        self._followed = followed

    def sync(self, *streams: str) -> Ended:
        source = self._followed.source()
        ended = source.read(source.catalog("incremental", list(streams)), self._followed.state)
        self._followed.state = ended.state() or self._followed.state
        return ended


def counting(ended: Ended, table: str) -> Counter[str]:
    """Rows more and rows less."""
    counter: Counter[str] = Counter()
    for row in changes(ended, table):
        gone = row.pop("gone")
        values = [str(value)[:10] for value in row.values()]
        counter[repr(sorted(values))] += -1 if gone else 1
    return counter


def rendered(truth: Truth) -> list[list[str]]:
    return [[str(value)[:10] for value in row] for row in truth.rows.elements()]


def test_records_of_one_key_are_ordered_by_their_commits(followed: Followed) -> None:
    database = followed.database
    followed.publish("parts")
    ending_well(followed.sync("parts"))
    database.execute("INSERT INTO parts VALUES (1, 'first')")
    database.execute("UPDATE parts SET note = 'second'")
    database.execute("DELETE FROM parts")
    database.execute("INSERT INTO parts VALUES (1, 'third')")

    rows = ending_well(followed.sync("parts")).rows("parts")

    assert [(row["note"], row[DELETED_AT] is None) for row in rows] == [
        ("first", True),
        ("second", True),
        (None, False),
        ("third", True),
    ]
    assert [row[LSN] for row in rows] == sorted({row[LSN] for row in rows})


def test_a_generated_column_that_the_server_does_not_send_is_refused_before_anything_is_read(
    followed: Followed,
) -> None:
    database = followed.database
    database.execute("ALTER TABLE parts ADD COLUMN twice int GENERATED ALWAYS AS (id * 2) STORED")
    database.execute("INSERT INTO parts (id) VALUES (1)")
    followed.publish("parts")

    ended = followed.sync("parts")

    assert "twice" in refusal(ended)
    assert ended.records == {}


def test_a_generated_column_that_is_not_selected_is_no_obstacle(followed: Followed) -> None:
    database = followed.database
    database.execute("ALTER TABLE parts ADD COLUMN twice int GENERATED ALWAYS AS (id * 2) STORED")
    followed.publish("parts")
    source = followed.source()
    catalog = source.catalog("incremental", ["parts"])
    del catalog["streams"][0]["stream"]["json_schema"]["properties"]["twice"]
    first = ending_well(source.read(catalog))
    database.execute("INSERT INTO parts (id, note) VALUES (1, 'one')")

    ended = ending_well(source.read(catalog, first.state()))

    assert changes(ended, "parts") == [{"id": 1, "note": "one", "gone": False}]
