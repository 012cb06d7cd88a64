"""The watcher of one sync, where there is something to watch and a connection to do it over."""

from __future__ import annotations

import logging

from source_timescaledb.config.model import Configuration
from source_timescaledb.hypertables.model import Registry
from source_timescaledb.hypertables.watcher import Watcher
from source_timescaledb.postgres.connection import ConnectionSettings, open_connection


def watcher_of(configuration: Configuration, registry: Registry, logger: logging.Logger) -> Watcher | None:
    """The watcher, not yet running; None without TimescaleDB, without chunks, or without a connection to spare.

    Readers and the catalog come first. What is born is found at the end of a stream anyway, and between rounds of CDC.
    """
    server, settings = registry.server, configuration.timescaledb
    chunked = any(relation.hypertable is not None for relation in registry.relations.values())
    if server.extension is None or not chunked or not settings.chunk_by_chunk:
        return None
    most, others = configuration.max_db_connections, settings.parallel_chunks + 1
    if most is not None and most <= others:
        logger.info(
            "max_db_connections leaves no connection to watch for new chunks: they are found at the end of each stream."
        )
        return None
    target = ConnectionSettings.from_configuration(configuration)
    return Watcher(
        lambda: open_connection(target, "watcher"),
        server.extension,
        seconds=settings.chunk_poll_seconds,
        listening=settings.use_notifications and not server.in_recovery,
        tell=lambda sentence: logger.warning("%s", sentence),
    )
