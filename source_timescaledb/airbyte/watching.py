"""Who looks out for what is new, in the database and since the last sync, and says so in the log.

The watcher lets chunks join the sync (`hypertables.watcher`). What a sync cannot take in by itself, since a connection's
schema is its user's, is news of one line that says what to do: a new hypertable or continuous aggregate, new columns,
another chunk interval. It is told once: by the sync during which it happens, else by the next one, which knows from the
state what the last one knew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final

from pydantic import ValidationError

from source_timescaledb.airbyte.catalog import offered
from source_timescaledb.config.model import Configuration
from source_timescaledb.hypertables.landmarks import Landmarks, Mark, landmarks, mark, news
from source_timescaledb.hypertables.model import QualifiedName, Registry, Relation
from source_timescaledb.hypertables.registry import read_registry
from source_timescaledb.hypertables.watcher import Watcher
from source_timescaledb.postgres.breaker import Breaker
from source_timescaledb.postgres.connection import Connection, ConnectionSettings, open_connection
from source_timescaledb.state.model import Seen

SURVEY_SECONDS: Final = 60.0
"""At least so long between two readings of the registry, which cost the server more than a look at chunk ids."""


class Lookout:
    """What one sync knows of the database, and tells of it."""

    def __init__(
        self,
        configuration: Configuration,
        registry: Registry,
        logger: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._configuration = configuration
        self._relations = offered(registry, configuration)
        self._known = landmarks(self._relations)
        self._logger = logger
        self._clock = clock
        self._surveyed = clock()

    def recall(self, states: Mapping[QualifiedName, Any]) -> None:
        """Tell what is new since the sync that wrote these states; `states` have what was seen as the state has it."""
        seen = {name: found for name, blob in states.items() if (found := _seen(blob)) is not None}
        if not seen:
            return
        marks = {
            relation.oid: Mark(seen[relation.name].column, seen[relation.name].interval)
            for relation in self._relations
            if relation.name in seen
        }
        self._tell(Landmarks(max(one.hypertable for one in seen.values()), marks), self._relations)

    def seen(self, relation: Relation) -> Seen:
        """What the state of a relation's stream is to remember."""
        known = self._known
        column, interval = known.marks.get(relation.oid, mark(relation))
        return Seen(hypertable=known.hypertable, column=column, interval=interval)

    def survey(self, connection: Connection) -> None:
        """Tell what is new since this was last known, if that was long enough ago. Raises psycopg errors."""
        if self._clock() < self._surveyed + SURVEY_SECONDS:
            return
        self._surveyed = self._clock()
        registry = read_registry(connection, self._configuration.schemas)
        relations = offered(registry, self._configuration)
        self._tell(self._known, relations)
        self._known = landmarks(relations)

    def _tell(self, before: Landmarks, relations: Iterable[Relation]) -> None:
        for one in news(before, relations):
            self._logger.info("%s", one.sentence)


def _seen(blob: Any) -> Seen | None:
    """What a state has seen; nothing where it has not, or is damaged, which others tell of."""
    try:
        return Seen.model_validate(dict(blob["seen"]))
    except (KeyError, TypeError, ValueError, ValidationError):
        return None


@contextmanager
def watching(
    configuration: Configuration,
    registry: Registry,
    logger: logging.Logger,
    lookout: Lookout,
    breaker: Breaker,
) -> Iterator[Watcher | None]:
    """The watcher at work, where there can be one; it leaves the server alone when everybody else does."""
    with _watcher(configuration, registry, logger, lookout, breaker) or nullcontext() as watcher:
        yield watcher


def _watcher(
    configuration: Configuration,
    registry: Registry,
    logger: logging.Logger,
    lookout: Lookout,
    breaker: Breaker,
) -> Watcher | None:
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
        lambda: breaker.attempt(lambda: open_connection(target, "watcher")),
        server.extension,
        seconds=settings.chunk_poll_seconds,
        listening=settings.use_notifications and not server.in_recovery,
        tell=lambda sentence: logger.warning("%s", sentence),
        survey=lookout.survey,
    )
