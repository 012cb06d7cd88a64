"""What is new is told from a few numbers, once, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

from source_timescaledb.hypertables.landmarks import Change, Landmarks, landmarks, news
from source_timescaledb.hypertables.model import (
    Column,
    ContinuousAggregate,
    Dimension,
    Hypertable,
    QualifiedName,
    Relation,
    RelationKind,
    TimeKind,
)
from source_timescaledb.types.model import Kind, PgType

DAY = 86_400_000_000
TEXT = PgType(25, "pg_catalog", "text", Kind.BASE)


def columns(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, TEXT, -1, number) for number, name in enumerate(names, start=1))


def hypertable(
    id_: int, name: str, *, interval: int = DAY, time: TimeKind = TimeKind.TIMESTAMPTZ
) -> Relation:
    table = QualifiedName("public", name)
    chunked = Hypertable(id_, 100 + id_, table, (Dimension(id_, "time", time, None, interval),))
    return Relation(100 + id_, table, RelationKind.HYPERTABLE, columns("time", "value"), hypertable=chunked)


METRICS, EVENTS = hypertable(1, "metrics"), hypertable(2, "events")
ROWS = Hypertable(3, 103, QualifiedName("_timescaledb_internal", "rows"), ())
PARTS = Relation(300, QualifiedName("public", "parts"), RelationKind.TABLE, columns("id"))


def test_nothing_is_new_where_nothing_has_changed() -> None:
    assert news(landmarks([METRICS, EVENTS, PARTS]), [METRICS, EVENTS, PARTS]) == []


def test_a_hypertable_is_new_if_its_id_is_greater_than_any_known() -> None:
    (told,) = news(landmarks([METRICS, PARTS]), [METRICS, EVENTS, PARTS])

    assert (told.change, told.name) == (Change.NEW_HYPERTABLE, EVENTS.name)
    assert told.sentence == (
        "public.events is a new hypertable. Refresh the source schema in the connection to select it."
    )


def test_a_hypertable_that_was_not_looked_at_before_is_not_new_for_that() -> None:
    assert news(landmarks([EVENTS]), [METRICS, EVENTS]) == []


def test_an_aggregate_is_known_by_the_hypertable_of_its_rows_whoever_may_read_that() -> None:
    aggregate = Relation(
        400,
        QualifiedName("public", "hourly"),
        RelationKind.CONTINUOUS_AGGREGATE,
        columns("bucket"),
        aggregate=ContinuousAggregate(
            QualifiedName("public", "hourly"), ROWS, finalized=True, readable=False
        ),
    )

    (told,) = news(landmarks([METRICS, EVENTS]), [METRICS, aggregate])

    assert told.change is Change.NEW_AGGREGATE
    assert news(landmarks([METRICS, aggregate]), [METRICS, aggregate]) == []


def test_columns_are_new_if_their_numbers_are_whatever_was_dropped_or_renamed() -> None:
    after = replace(
        METRICS,
        columns=(Column("moment", TEXT, -1, 1), Column("unit", TEXT, -1, 3), Column("site", TEXT, -1, 4)),
    )

    (told,) = news(landmarks([METRICS]), [after])

    assert told.change is Change.NEW_COLUMNS
    assert told.sentence.startswith(
        "public.metrics has new columns, which are not read before they are selected: unit, site."
    )
    assert news(landmarks([METRICS]), [replace(METRICS, columns=METRICS.columns[:1])]) == []


def test_another_interval_is_told_in_the_units_of_the_dimension() -> None:
    (told,) = news(landmarks([METRICS]), [hypertable(1, "metrics", interval=7 * DAY)])
    numbered = [
        hypertable(1, "metrics", time=TimeKind.INTEGER, interval=interval) for interval in (1000, 5000)
    ]
    (other,) = news(landmarks(numbered[:1]), numbered[1:])

    assert told.change is other.change is Change.OTHER_INTERVAL
    assert told.sentence.startswith("New chunks of public.metrics now span 7 days, where they spanned 1 day")
    assert other.sentence.startswith("New chunks of public.metrics now span 5000, where they spanned 1000.")


def test_a_table_that_was_made_a_hypertable_is_no_news() -> None:
    plain = replace(METRICS, kind=RelationKind.TABLE, hypertable=None)

    assert news(landmarks([plain, EVENTS]), [METRICS, EVENTS]) == []


def test_of_a_database_of_which_nothing_is_known_all_hypertables_are_new() -> None:
    assert [told.name for told in news(Landmarks(0, {}), [METRICS, EVENTS, PARTS])] == [
        METRICS.name,
        EVENTS.name,
    ]
