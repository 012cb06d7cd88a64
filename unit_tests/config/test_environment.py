"""What is empty or blank is not set, and seconds are a number that can be waited for."""

from __future__ import annotations

import pytest

from source_timescaledb.config.environment import seconds_of, text_of
from source_timescaledb.errors import ConfigurationError


@pytest.mark.parametrize("environment", [{}, {"X": ""}, {"X": " \n"}])
def test_a_variable_without_a_text_is_not_set(environment: dict[str, str]) -> None:
    assert text_of(environment, "X") == ""
    assert seconds_of(environment, "X", 120.0) == 120.0


@pytest.mark.parametrize(("said", "meant"), [("0", 0.0), ("0.5", 0.5), (" 30\n", 30.0), ("1e3", 1000.0)])
def test_seconds_are_read_as_they_are_written(said: str, meant: float) -> None:
    assert seconds_of({"X": said}, "X", 120.0) == meant


@pytest.mark.parametrize("said", ["abc", "-1", "-0.1", "nan", "inf", "1e999", "2 minutes"])
def test_what_nobody_can_wait_for_is_an_error_that_names_the_variable_and_the_default(said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        seconds_of({"X": said}, "X", 120.0)

    assert caught.value.sentence == (
        "The environment variable X is no number of seconds. "
        "Set it to a number of at least 0, or remove it: then it is 120."
    )
