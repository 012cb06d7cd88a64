"""Lets the metrics of a sync out of the process, where an operator asks for them.

Asked for by environment variables, because metrics belong to where a connector runs and not to what it reads: Airbyte's
configuration describes a source, and travels with it.

    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, or OTEL_METRICS_EXPORTER=otlp
        to a collector, by OTLP over HTTP; all standard OTEL_* variables apply
    SOURCE_TIMESCALEDB_PROMETHEUS_FILE
        to a text file for Prometheus' node_exporter, replaced as a whole each time

OTEL_METRICS_EXPORTER=none keeps the first off and OTEL_SDK_DISABLED=true both, whatever else is set. Nothing of
OpenTelemetry is imported until one of the two is asked for. What cannot be delivered costs a line in the log, never the
sync.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from source_timescaledb.config.environment import Environment, text_of
from source_timescaledb.counters import SyncCounters
from source_timescaledb.errors import ConfigurationError
from source_timescaledb.health.instruments import INSTRUMENTS, Instrument, Kind

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, CallbackT, Observation
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource
    from prometheus_client import CollectorRegistry

FILE_VARIABLE: Final = "SOURCE_TIMESCALEDB_PROMETHEUS_FILE"
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
EXPORTER: Final = "OTEL_METRICS_EXPORTER"
DISABLED: Final = "OTEL_SDK_DISABLED"
FILE_SECONDS: Final = 15.0
FLUSH_SECONDS: Final = 3.0
"""How long the end of a sync may wait for a collector to take the last values."""
NEEDED: Final = (
    "opentelemetry.sdk",
    "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry.exporter.prometheus",
)

Attributes = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Destinations:
    """Where the metrics of a sync go."""

    collector: bool = False
    file: Path | None = None

    @classmethod
    def from_environment(cls, environment: Environment) -> Destinations:
        """What the environment asks for. Raises ConfigurationError if that takes what is not installed."""
        if text_of(environment, DISABLED).lower() == "true":
            return cls()
        file = text_of(environment, FILE_VARIABLE)
        wanted = cls(_asks_for_collector(environment), Path(file) if file else None)
        if wanted and not all(map(_installed, NEEDED)):
            names = (
                [FILE_VARIABLE]
                if file
                else [name for name in (*ENDPOINTS, EXPORTER) if text_of(environment, name)]
            )
            raise ConfigurationError(
                f"Metrics are asked for ({', '.join(names)} in the environment), and the packages that export them are "
                "not installed.",
                remedy="Install them: pip install 'source-timescaledb[metrics]'; or remove the variable"
                f"{'' if file else f', or set {EXPORTER}=none'}.",
            )
        return wanted

    def __bool__(self) -> bool:
        return self.collector or self.file is not None


def _asks_for_collector(environment: Environment) -> bool:
    exporter = text_of(environment, EXPORTER).lower()
    if exporter == "none":
        return False
    return "otlp" in exporter.split(",") or any(text_of(environment, name) for name in ENDPOINTS)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def exported(
    destinations: Destinations, counters: SyncCounters, about: Attributes, warn: Callable[[str], None]
) -> Iterator[None]:
    """Export the counters of a sync while it runs, and once more at its end.

    `about` describes the source, in OpenTelemetry's names. Raises ConfigurationError if what is asked for cannot be.
    """
    if not destinations:
        yield
        return
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - it takes time that most syncs do without

    registry = CollectorRegistry()
    provider = _provider(destinations, registry, about)
    try:
        meter = provider.get_meter("source_timescaledb")
        for one in INSTRUMENTS:
            counts = one.kind is Kind.COUNTER
            create = meter.create_observable_counter if counts else meter.create_observable_gauge
            create(one.name, [_callback(one, counters)], one.unit, one.meaning)
        with _written(destinations.file, registry, warn):
            yield
    finally:
        with suppress(Exception):  # it has told its log what was not delivered in time
            provider.shutdown(timeout_millis=FLUSH_SECONDS * 1000)


def _provider(destinations: Destinations, registry: CollectorRegistry, about: Attributes) -> MeterProvider:
    """What the meter is of. Raises ConfigurationError if the OTEL_* variables cannot be used."""
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - as above

    try:
        return MeterProvider(_readers(destinations, registry), _resource(about), shutdown_on_exit=False)
    except (ValueError, OSError, RuntimeError) as error:  # all of them raised where a variable is read
        raise ConfigurationError(
            "The metrics cannot be exported as the OTEL_* variables of the environment say.",
            remedy=f"Correct them, or set {DISABLED}=true.",
            detail=type(error).__qualname__,
        ) from None


def _readers(destinations: Destinations, registry: CollectorRegistry) -> list[MetricReader]:
    """What collects."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415 - as above
    from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415 - as above
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415 - as above

    readers: list[MetricReader] = []
    if destinations.file is not None:
        readers.append(
            PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=registry)
        )
    if destinations.collector:
        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    return readers


def _resource(about: Attributes) -> Resource:
    """Whose metrics they are; what the environment says goes first."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415 - as above

    named = OTELResourceDetector().detect().attributes
    return Resource.create({name: value for name, value in about.items() if name not in named})


def _callback(instrument: Instrument, counters: SyncCounters) -> CallbackT:
    from opentelemetry.metrics import Observation  # noqa: PLC0415 - as above

    def observe(_: CallbackOptions) -> Iterator[Observation]:
        for value, attributes in instrument.read(counters):
            yield Observation(value, attributes)

    return observe


@contextmanager
def _written(file: Path | None, registry: CollectorRegistry, warn: Callable[[str], None]) -> Iterator[None]:
    """Write a registry to a file now, every few seconds, and at the end. Raises ConfigurationError if it cannot be."""
    if file is None:
        yield
        return
    from prometheus_client import write_to_textfile  # noqa: PLC0415 - as above

    def write() -> str:
        """Write it; what was in the way."""
        try:
            write_to_textfile(str(file), registry)
        except OSError as error:
            return f"The file of {FILE_VARIABLE} cannot be written: {error.strerror}."
        return ""

    if problem := write():
        raise ConfigurationError(problem, remedy="Name a file in a folder that the connector may write to.")
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(FILE_SECONDS):
            if problem := write():
                warn(problem)

    writer = threading.Thread(target=go_on, name="prometheus file", daemon=True)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join()
        if problem := write():
            warn(problem)
