"""The composition root: the four commands of an Airbyte source, put together from the rooms below.

    spec      the models of `config` say what can be set
    check     the registry and a few probes, diagnosed: everything that stands in the way at once (`doctor` shows more)
    discover  the registry, as a catalog
    read      the configured streams, by `airbyte.syncing`

`Source` is subclassed directly: `AbstractSource` and `ConcurrentSource` drop the namespaces of records and states
(airbyte-cdk 7.39.1).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from airbyte_cdk.models import (
    AirbyteCatalog,
    AirbyteConnectionStatus,
    AirbyteMessage,
    ConfiguredAirbyteCatalog,
    ConfiguredAirbyteCatalogSerializer,
    ConnectorSpecification,
    ConnectorSpecificationSerializer,
    Status,
)
from airbyte_cdk.sources.source import Source
from airbyte_cdk.utils.airbyte_secrets_utils import add_to_secrets

from source_timescaledb.airbyte.catalog import airbyte_catalog, check_catalog
from source_timescaledb.airbyte.circuits import circuit
from source_timescaledb.airbyte.examination import Ask, Examination, Given, examine, load
from source_timescaledb.airbyte.messages import traced
from source_timescaledb.airbyte.observing import observed
from source_timescaledb.airbyte.session import Session
from source_timescaledb.airbyte.sink import ObjectSink, RecordSink
from source_timescaledb.airbyte.states import States
from source_timescaledb.airbyte.syncing import read_all
from source_timescaledb.airbyte.watching import Lookout, watching
from source_timescaledb.config.environment import seconds_of
from source_timescaledb.config.files import json_file
from source_timescaledb.config.model import Configuration
from source_timescaledb.config.reading import read_configuration
from source_timescaledb.config.spec import connector_specification
from source_timescaledb.config.timescaledb import StateMode
from source_timescaledb.counters import SyncCounters
from source_timescaledb.errors import ConfigurationError, ConnectorError
from source_timescaledb.health.finding import Finding, Severity, Topic
from source_timescaledb.health.telemetry import Destinations
from source_timescaledb.hypertables.model import Registry
from source_timescaledb.postgres.connection import Connection, ConnectionSettings
from source_timescaledb.postgres.pool import ReaderPool
from source_timescaledb.postgres.retry import Budget, Patience
from source_timescaledb.state.codec import undress

RETRY_VARIABLE: Final = "SOURCE_TIMESCALEDB_RETRY_SECONDS"
RETRY_SECONDS: Final = 120.0
CHECK_RETRY_SECONDS: Final = 10.0


class SourceTimescaledb(Source):
    """Airbyte source for TimescaleDB.

    Without a `sink` every record is yielded as a message; the command line passes one that writes bytes to stdout.
    `stop`, once set, ends a running read with its STATE and the status INCOMPLETE.
    """

    check_config_against_spec = False
    """`config.reading` checks more than the schema can, and names every wrong setting in one sentence."""

    def __init__(self, sink: RecordSink | None = None, *, retry_seconds: float | None = None) -> None:
        self._sink = sink or ObjectSink()
        self._given_seconds = retry_seconds
        self.stop = threading.Event()

    def spec(self, logger: logging.Logger) -> ConnectorSpecification:  # noqa: ARG002 - the CDK's signature
        """What can be configured."""
        return ConnectorSpecificationSerializer.load(connector_specification())

    @classmethod
    def read_config(cls, config_path: str) -> dict[str, Any]:
        """The configuration file. Raises AirbyteTracedException if it is not a JSON object."""
        with _failures_as_airbyte_knows_them():
            config = json_file(config_path, "configuration")
            if not isinstance(config, dict):
                raise ConfigurationError("The configuration file does not hold a JSON object.")
            return config

    @classmethod
    def read_catalog(cls, catalog_path: str) -> ConfiguredAirbyteCatalog:
        """The configured catalog. Raises AirbyteTracedException if it is not one."""
        with _failures_as_airbyte_knows_them():
            raw = json_file(catalog_path, "configured catalog")
            try:
                return ConfiguredAirbyteCatalogSerializer.load(raw)
            except Exception as error:  # noqa: BLE001 - the serializer raises many kinds, all about this file
                raise ConfigurationError(
                    "The file of the configured catalog is not a configured catalog.",
                    remedy='Wrap each stream of `discover` as {"stream": ..., "sync_mode": "full_refresh" or '
                    '"incremental", "destination_sync_mode": ...}.',
                    detail=type(error).__qualname__,
                ) from None

    @classmethod
    def read_state(cls, state_path: str) -> list[Any]:
        """The states of a state file, undressed. Raises AirbyteTracedException if it is not one."""
        with _failures_as_airbyte_knows_them():
            return list(undress(json_file(state_path, "state") if state_path else None))

    def check(self, logger: logging.Logger, config: Mapping[str, Any]) -> AirbyteConnectionStatus:
        """Everything that stands in the way of a sync, at once."""
        examination = self.examine(logger, config)
        levels = {Severity.WARNING: logging.WARNING, Severity.NOTE: logging.INFO}
        for finding in examination.findings:
            if finding.severity in levels:
                logger.log(levels[finding.severity], "%s", finding)
        if examination.fails:
            blocking = [one for one in examination.findings if one.severity is Severity.BLOCKING]
            return AirbyteConnectionStatus(status=Status.FAILED, message=" ".join(map(str, blocking)))
        return AirbyteConnectionStatus(status=Status.SUCCEEDED)

    def examine(
        self, logger: logging.Logger, config: Mapping[str, Any], given: Given | None = None
    ) -> Examination:
        """Everything that stands in the way of a sync with this configuration, and what it is given beside it."""
        try:
            configuration, seconds = self._configuration(logger, config), self._short_seconds
            Destinations.from_environment(os.environ)
        except ConnectorError as error:
            return Examination([Finding.of(error, Topic.CONFIGURATION)])
        try:
            with _catalog_pool(configuration) as pool:
                registry = self._registry(configuration, pool, logger, seconds)
                asked = self._asking(pool, logger, seconds)
                return examine(configuration, registry, asked, given)
        except ConnectorError as error:
            return Examination([Finding.of(error, Topic.CONNECTION)], configuration)

    def discover(self, logger: logging.Logger, config: Mapping[str, Any]) -> AirbyteCatalog:
        """Every relation the role may read, as a stream under its own name."""
        with _failures_as_airbyte_knows_them():
            configuration, seconds = self._configuration(logger, config), self._short_seconds
            with _catalog_pool(configuration) as pool:
                registry = self._registry(configuration, pool, logger, seconds)
            return airbyte_catalog(registry, configuration)

    def read(
        self,
        logger: logging.Logger,
        config: Mapping[str, Any],
        catalog: ConfiguredAirbyteCatalog,
        state: list[Any] | None = None,
    ) -> Iterator[AirbyteMessage]:
        """Every configured stream, one after the other.

        Raises AirbyteTracedException when the sync as a whole cannot run, and SyncIncomplete at the end when a stream
        failed; that stream's ERROR has been emitted then.
        """
        with _failures_as_airbyte_knows_them():
            check_catalog(catalog)
            configuration = self._configuration(logger, config)
            with (
                observed(configuration, logger) as counters,
                self._session(configuration, logger, counters) as session,
            ):
                yield from read_all(session, catalog, list(state or []))

    @property
    def _retry_seconds(self) -> float:
        """How long a read keeps trying without progress. Raises ConfigurationError if the environment says nonsense."""
        given = self._given_seconds
        return seconds_of(os.environ, RETRY_VARIABLE, RETRY_SECONDS) if given is None else given

    @property
    def _short_seconds(self) -> float:
        """How long the commands keep trying for which somebody waits. Raises ConfigurationError as above."""
        return min(CHECK_RETRY_SECONDS, self._retry_seconds)

    def _configuration(self, logger: logging.Logger, config: Mapping[str, Any]) -> Configuration:
        configuration, ignored = read_configuration(config)
        for line in ignored:
            logger.info("%s", line)
        if configuration.password is not None:
            add_to_secrets(configuration.password.get_secret_value())
        return configuration

    def _registry(
        self, configuration: Configuration, pool: ReaderPool, logger: logging.Logger, seconds: float
    ) -> Registry:
        ask = self._asking(pool, logger, seconds)
        registry: Registry = ask(lambda connection: load(connection, configuration), "Reading the catalog")
        return registry

    def _asking(self, pool: ReaderPool, logger: logging.Logger, seconds: float) -> Ask[Any]:
        """What puts questions to a server, trying again for so long."""

        def ask(question: Callable[[Connection], Any], doing: str) -> Any:
            def once() -> Any:
                with pool.connection() as connection:
                    return question(connection)

            patience = Patience(
                Budget(seconds),
                sleep=time.sleep,
                on_retry=lambda error, _pause: logger.warning("%s", error.message),
            )
            return patience.keep_trying(once, doing)

        return ask

    @contextmanager
    def _session(
        self, configuration: Configuration, logger: logging.Logger, counters: SyncCounters
    ) -> Iterator[Session]:
        settings, seconds = configuration.timescaledb, self._retry_seconds
        reader_count = configuration.readers(self._sink.lanes)
        breaker = circuit("primary", logger, counters)
        with ExitStack() as resources:
            catalog = resources.enter_context(_catalog_pool(configuration))
            readers = catalog
            if configuration.max_db_connections != 1 or settings.replica_host:
                source = ConnectionSettings.from_configuration(configuration, replica=True)
                readers = resources.enter_context(ReaderPool(source, reader_count))
            registry = self._registry(configuration, catalog, logger, seconds)
            lookout = Lookout(configuration, registry, logger)
            watcher = resources.enter_context(watching(configuration, registry, logger, lookout, breaker))
            yield Session(
                configuration=configuration,
                registry=registry,
                catalog=catalog,
                readers=readers,
                reader_count=reader_count,
                replica=settings.replica_host is not None,
                sink=self._sink,
                states=States(
                    united=configuration.cdc is not None and settings.state_mode is StateMode.GLOBAL
                ),
                logger=logger,
                lookout=lookout,
                watcher=watcher,
                counters=counters,
                retry_seconds=seconds,
                breaker=breaker,
                reader_breaker=circuit("replica", logger, counters) if settings.replica_host else breaker,
                stop=self.stop,
            )


def _catalog_pool(configuration: Configuration) -> ReaderPool:
    return ReaderPool(ConnectionSettings.from_configuration(configuration), 1, purpose="catalog")


@contextmanager
def _failures_as_airbyte_knows_them() -> Iterator[None]:
    """Our failures leave as airbyte-cdk's: its entrypoints and test harness tell their kinds apart."""
    try:
        yield
    except ConnectorError as error:
        raise traced(error) from None
