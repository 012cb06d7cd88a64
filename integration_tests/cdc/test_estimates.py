"""ESTIMATEs of followed streams: rows that are read, and changes as they come."""

from __future__ import annotations

import pytest

from integration_tests.cdc.conftest import Followed


@pytest.fixture(autouse=True)
def _an_estimate_after_each_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("source_timescaledb.airbyte.estimates.ESTIMATE_SECONDS", 0.0)


def load(followed: Followed) -> None:
    followed.database.execute(
        "INSERT INTO metrics SELECT '2024-01-01'::timestamptz + i * interval '1 hour', i, i"
        " FROM generate_series(1, 72) i"
    )
    followed.database.execute("ANALYZE metrics")
    followed.publish("metrics")


def test_the_changes_of_a_followed_stream_are_in_its_last_estimate(followed: Followed) -> None:
    load(followed)
    change = "UPDATE metrics SET value = 0"
    ended = followed.sync("metrics", acts={("RECORD", 72): lambda: followed.database.execute(change)})

    assert len(ended.rows("metrics")) == 144
    told = ended.estimates("metrics")
    assert told[0]["row_estimate"] == 72
    assert told[-1]["row_estimate"] == 144


def test_a_sync_that_has_only_changes_to_tell_estimates_them_when_it_knows_them(followed: Followed) -> None:
    load(followed)
    followed.sync("metrics")
    followed.database.execute("UPDATE metrics SET value = 1 WHERE device <= 5")
    ended = followed.sync("metrics")

    assert [one["row_estimate"] for one in ended.estimates("metrics")] == [5]
