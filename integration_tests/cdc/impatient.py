"""The connector in a process of its own, as it is but for its patience, so that a test need not have any either."""

from __future__ import annotations

from unittest.mock import patch

from source_timescaledb.airbyte import following, ground
from source_timescaledb.airbyte.ground import Ground
from source_timescaledb.postgres import silence
from source_timescaledb.run import run

WRITERS_SECONDS = 1.0


def run_that_waits_for_no_writer() -> None:
    """Open writers are waited for one second, not twenty minutes."""
    with patch.object(Ground, "_patience", WRITERS_SECONDS):
        run()


def run_that_stops_at_once() -> None:
    """Told to stop, it does not go on to where nothing is half told."""
    with patch.object(following, "LAST_SECONDS", 0.0):
        run()


def run_that_gives_silence_up_soon() -> None:
    """A server that answers nothing is given up after a second or two."""
    with patch.object(ground, "ANSWER_SECONDS", 0.5), patch.object(silence, "LONGEST_SILENCE_SECONDS", 0.5):
        run()
