"""The writers of a day do all that is promised, and its page tells what came of it."""

from __future__ import annotations

from itertools import islice

from oracle.day.__main__ import page
from oracle.day.orders import DROPPED_AFTER_SECONDS, orders
from oracle.day.scene import Day
from oracle.judging import Deviation
from oracle.writers import Tally
from unit_tests.oracle.test_report import WHERE


def test_a_seed_gives_the_same_orders_each_time_and_another_writer_others() -> None:
    first, again, other = (list(islice(orders(1, writer), 50)) for writer in (0, 0, 1))

    assert first == again
    assert first != other


def test_rows_are_added_changed_and_deleted_and_none_is_so_late_that_its_chunk_is_dropped() -> None:
    written = list(islice(orders(1, 0), 300))

    words = {order.statement.split(" ", 1)[0] for order in written}
    assert words == {"INSERT", "UPDATE", "DELETE"}
    assert any("INSERT INTO events" in order.statement for order in written)
    for order in written:
        assert order.statement.count("%s") == len(order.parameters)
        times = [value for value in order.parameters if isinstance(value, float)]
        assert times
        assert max(times) <= DROPPED_AFTER_SECONDS / 2


def test_the_page_has_a_column_for_each_server() -> None:
    day = Day(
        1,
        600.0,
        Tally(1000, 0, 3),
        syncs=44,
        longest_sync=3.21,
        records=5000,
        jobs=70,
        born=90,
        left=8,
        rows=77,
    )

    text = page([WHERE, WHERE], [day, Day(2, 5.0)])

    assert "| Written for | 600 s | 5 s |" in text
    assert "| Outcome | equal | equal |" in text
    assert "## Failures\n\nNone.\n" in text
    assert WHERE.command in text


def test_a_day_that_does_not_end_well_is_a_failure() -> None:
    wrong = Day(1, 600.0, deviations=[Deviation("sums", "last to come wins", 2, 0, ("missing: (1,)",))])

    text = page([WHERE, WHERE], [wrong, Day(2, 5.0, error="The server went away.")])

    assert "| Outcome | not equal | not equal |" in text
    assert "- sums (last to come wins): 2 rows missing, 0 too many" in text
    assert "- a sync ended with: The server went away." in text
