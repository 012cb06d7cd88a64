"""Where metrics go: nowhere unless they are asked for, and to a file or a collector as the environment says."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from source_timescaledb.counters import SyncCounters
from source_timescaledb.errors import ConfigurationError
from source_timescaledb.health import telemetry
from source_timescaledb.health.instruments import INSTRUMENTS
from source_timescaledb.health.telemetry import FILE_VARIABLE, Destinations, exported

METRICS = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
ALL = "OTEL_EXPORTER_OTLP_ENDPOINT"
KIND = "OTEL_METRICS_EXPORTER"
OFF = "OTEL_SDK_DISABLED"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Destinations()),
        ({ALL: "http://collector:4318"}, Destinations(collector=True)),
        ({METRICS: "http://collector:4318/v1/metrics"}, Destinations(collector=True)),
        ({KIND: "otlp"}, Destinations(collector=True)),
        ({KIND: "console,otlp"}, Destinations(collector=True)),
        ({KIND: "prometheus"}, Destinations()),
        ({ALL: ""}, Destinations()),
        ({ALL: "http://collector:4318", KIND: "none"}, Destinations()),
        ({ALL: "http://collector:4318", OFF: "TRUE", FILE_VARIABLE: "/x.prom"}, Destinations()),
        ({FILE_VARIABLE: "/x.prom"}, Destinations(file=Path("/x.prom"))),
        ({FILE_VARIABLE: "/x.prom", KIND: "none"}, Destinations(file=Path("/x.prom"))),
        ({FILE_VARIABLE: " "}, Destinations()),
    ],
)
def test_the_environment_says_where_metrics_go(
    environment: Mapping[str, str], expected: Destinations
) -> None:
    assert Destinations.from_environment(environment) == expected


@pytest.mark.parametrize("environment", [{ALL: "http://collector:4318"}, {FILE_VARIABLE: "/x.prom"}])
def test_what_is_asked_for_and_not_installed_is_an_error_that_says_what_to_install(
    environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(name: str) -> object:
        return None if name.startswith("opentelemetry") else find_spec(name)

    monkeypatch.setattr("importlib.util.find_spec", without)

    with pytest.raises(ConfigurationError) as caught:
        Destinations.from_environment(environment)
    assert "pip install 'source-timescaledb[metrics]'" in caught.value.sentence
    assert next(iter(environment)) in caught.value.sentence


def test_nothing_of_opentelemetry_is_imported_by_a_connector_that_nobody_looks_at() -> None:
    program = (
        "import sys, source_timescaledb.command\n"
        "import source_timescaledb.counters as c, source_timescaledb.health.telemetry as t\n"
        "with t.exported(t.Destinations.from_environment({}), c.SyncCounters(), {}, print): pass\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('opentelemetry', 'prometheus_client')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def samples(file: Path) -> dict[str, float]:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_the_file_has_every_metric_under_its_documented_name(tmp_path: Path) -> None:
    counters = SyncCounters()
    counters.stream("public.metrics").rows = 7
    with exported(Destinations(file=tmp_path / "x.prom"), counters, {}, pytest.fail):
        pass

    found = samples(tmp_path / "x.prom")
    assert {name.partition("{")[0] for name in found} == {one.prometheus for one in INSTRUMENTS}
    assert found['source_timescaledb_rows_total{stream="public.metrics"}'] == 7


def test_the_file_is_there_from_the_start_is_renewed_and_has_the_last_values_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "FILE_SECONDS", 0.01)
    file, counters = tmp_path / "x.prom", SyncCounters()
    name = 'source_timescaledb_rows_total{stream="s"}'
    stream = counters.stream("s")
    with exported(Destinations(file=file), counters, {}, pytest.fail):
        assert samples(file)[name] == 0
        stream.rows = 5
        end = time.monotonic() + 10
        while samples(file)[name] != 5:
            assert time.monotonic() < end
            time.sleep(0.01)
        monkeypatch.setattr(telemetry, "FILE_SECONDS", 60.0)
        stream.rows = 6
    assert samples(file)[name] == 6
    assert [path.name for path in tmp_path.iterdir()] == ["x.prom"]


def test_names_of_streams_are_written_so_that_prometheus_reads_them_back(tmp_path: Path) -> None:
    counters = SyncCounters()
    counters.stream('pub"lic.new\nline\\').rows = 1
    with exported(Destinations(file=tmp_path / "x.prom"), counters, {}, pytest.fail):
        pass

    assert 'source_timescaledb_rows_total{stream="pub\\"lic.new\\nline\\\\"}' in samples(tmp_path / "x.prom")


def test_a_file_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match=FILE_VARIABLE),
        exported(Destinations(file=tmp_path / "nowhere" / "x.prom"), SyncCounters(), {}, pytest.fail),
    ):
        pass


def test_a_file_that_cannot_be_written_any_more_is_a_warning(tmp_path: Path) -> None:
    told: list[str] = []
    folder = tmp_path / "folder"
    folder.mkdir()
    with exported(Destinations(file=folder / "x.prom"), SyncCounters(), {}, told.append):
        (folder / "x.prom").unlink()
        folder.rmdir()

    assert told == [f"The file of {FILE_VARIABLE} cannot be written: No such file or directory."]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "sometimes"),
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_METRICS_CREDENTIAL_PROVIDER", "nobody"),
    ],
)
def test_variables_that_opentelemetry_cannot_use_are_an_error_that_names_them(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, said)

    with (
        pytest.raises(ConfigurationError, match="OTEL_"),
        exported(Destinations(collector=True), SyncCounters(), {}, pytest.fail),
    ):
        pass


def test_a_collector_that_is_not_there_costs_a_line_in_the_log_and_no_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ALL, "http://127.0.0.1:9")
    monkeypatch.setattr(telemetry, "FLUSH_SECONDS", 0.5)
    began = time.monotonic()
    with (
        caplog.at_level(logging.WARNING),
        exported(Destinations(collector=True), SyncCounters(), {}, pytest.fail),
    ):
        pass

    assert time.monotonic() - began < 10
    assert caplog.records
