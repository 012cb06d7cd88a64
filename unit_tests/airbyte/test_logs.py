"""One event, one LOG message, one line."""

from __future__ import annotations

import logging
import sys

import pytest
from airbyte_cdk.logger import AirbyteLogFormatter
from airbyte_cdk.utils.airbyte_secrets_utils import update_secrets
from hypothesis import given
from hypothesis import strategies as st

from source_timescaledb.airbyte.logs import EventFormatter, tell_events_singly
from testkit.protocol import Json, parse


def told(
    text: str, *values: object, level: int = logging.INFO, exception: BaseException | None = None
) -> Json:
    """The LOG message of one call."""
    exc_info = (type(exception), exception, exception.__traceback__) if exception else None
    record = logging.LogRecord("airbyte", level, __file__, 1, text, values, exc_info)
    log: Json = parse(EventFormatter("%(message)s").format(record).encode())["log"]
    return log


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (logging.DEBUG, "DEBUG"),
        (logging.INFO, "INFO"),
        (logging.WARNING, "WARN"),
        (logging.ERROR, "ERROR"),
        (logging.CRITICAL, "FATAL"),
        (25, "INFO"),
    ],
)
def test_every_level_is_a_level_of_the_protocol(level: int, name: str) -> None:
    assert told("%s rows", 5, level=level) == {"level": name, "message": "5 rows"}


def test_what_the_server_says_in_several_lines_is_one() -> None:
    assert told("%s", "first\n  second\r\nthird \u2028fourth\n")["message"] == "first second third fourth"


def test_spaces_inside_of_names_stay() -> None:
    assert told("%s", 'ALTER TABLE "a  b"')["message"] == 'ALTER TABLE "a  b"'


@given(st.text())
def test_no_name_whatever_is_in_it_can_begin_a_line_of_its_own(name: str) -> None:
    assert len(told("Reading %s failed.", name)["message"].splitlines()) == 1


def test_of_an_exception_only_its_class_is_told() -> None:
    error = ValueError("canary-value")

    assert told("Exporting failed.", level=logging.ERROR, exception=error)["message"] == (
        "Exporting failed. (ValueError)"
    )


def test_secrets_are_taken_out() -> None:
    update_secrets(["canary-secret"])
    try:
        assert "canary-secret" not in told("connecting with %s", "canary-secret")["message"]
    finally:
        update_secrets([])


def test_only_what_would_leave_as_protocol_messages_is_formatted_so() -> None:
    root = logging.getLogger()
    ours, another = logging.StreamHandler(sys.stderr), logging.StreamHandler(sys.stderr)
    ours.setFormatter(AirbyteLogFormatter("%(message)s"))
    root.handlers += [ours, another]
    try:
        tell_events_singly()
    finally:
        root.handlers.remove(ours)
        root.handlers.remove(another)

    assert isinstance(ours.formatter, EventFormatter)
    assert another.formatter is None
