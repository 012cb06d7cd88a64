"""Who looks at a sync while it runs: a collector, a text file, a terminal. Most syncs have nobody, and pay nothing."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from source_timescaledb.airbyte.terminal import live, shows
from source_timescaledb.config.model import Configuration
from source_timescaledb.counters import SyncCounters
from source_timescaledb.health.telemetry import Destinations, exported


@contextmanager
def observed(configuration: Configuration, logger: logging.Logger) -> Iterator[SyncCounters]:
    """The counters of a sync, and while the block runs those who look at them.

    Raises ConfigurationError if what the environment asks for cannot be.
    """
    counters = SyncCounters()
    about = {
        "service.name": "source-timescaledb",
        "server.address": configuration.host,
        "db.namespace": configuration.database,
    }
    destinations = Destinations.from_environment(os.environ)
    screen = sys.__stderr__
    with ExitStack() as stack:
        stack.enter_context(exported(destinations, counters, about, logger.warning))
        if screen is not None and shows(screen, sys.__stdout__):
            stack.enter_context(live(counters, screen))
            counters.observed = True
        counters.observed |= bool(destinations)
        yield counters
