"""A sync that is looked at: what arrives at a collector, in a file and on a terminal is what really happened."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, NumberDataPoint

from integration_tests.inprocess import InProcess
from source_timescaledb.health.instruments import INSTRUMENTS, Kind
from source_timescaledb.health.telemetry import FILE_VARIABLE
from testkit.connector import COMMAND, REPOSITORY, Connector
from testkit.database import Database
from testkit.protocol import Output, parse

ROWS = 600
DAYS = 3
pytestmark = pytest.mark.any_server


@pytest.fixture
def filled(database: Database) -> Database:
    database.execute("CREATE TABLE metrics (time timestamptz NOT NULL, device int, note text)")
    database.execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')")
    database.execute(
        "INSERT INTO metrics SELECT '2024-01-01'::timestamptz + i * interval '1 day' * %s / %s, i, repeat('n', 50)"
        " FROM generate_series(0, %s - 1) i",
        [DAYS, ROWS, ROWS],
    )
    database.execute("ANALYZE metrics")
    database.grant_select("metrics")
    return database


def line_bytes(output: Output) -> int:
    return sum(len(line.rstrip(b"\n")) + 1 for line in output.lines() if line.startswith(b'{"type":"RECORD"'))


def samples(file: Path) -> dict[str, float]:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_the_file_for_prometheus_tells_what_the_sync_did(filled: Database, tmp_path: Path) -> None:
    file = tmp_path / "sync.prom"
    connector = Connector(filled.config(), tmp_path, environment={FILE_VARIABLE: str(file)})
    ended = connector.read(InProcess(filled.config()).catalog())

    found = samples(file)
    of_stream = {
        name: found[f'source_timescaledb_{name}{{stream="public.metrics"}}']
        for name in ("rows_total", "emitted_bytes_total", "rows_expected", "chunks_done_total", "chunks_left")
    }
    assert ended.exit_code == 0
    assert {name.partition("{")[0] for name in found} == {one.prometheus for one in INSTRUMENTS}
    assert of_stream == {
        "rows_total": ROWS,
        "emitted_bytes_total": line_bytes(ended),
        "rows_expected": ROWS,
        "chunks_done_total": DAYS,
        "chunks_left": 0,
    }
    assert found['source_timescaledb_slices_done_total{stream="public.metrics"}'] >= DAYS
    assert 0 < found['source_timescaledb_slices_longest_seconds{stream="public.metrics"}'] < 1
    assert found["source_timescaledb_sync_duration_seconds"] > 0


def test_without_being_asked_no_file_is_written_and_nothing_is_drawn(
    filled: Database, tmp_path: Path
) -> None:
    ended = Connector(filled.config(), tmp_path / "work").read(InProcess(filled.config()).catalog())

    assert ended.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


@dataclass
class Collector:
    """An OpenTelemetry collector that keeps what it is sent."""

    port: int
    requests: list[ExportMetricsServiceRequest] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)

    @property
    def last(self) -> dict[str, Metric]:
        """The metrics of the last request by their names."""
        (resource,) = self.requests[-1].resource_metrics
        (scope,) = resource.scope_metrics
        return {metric.name: metric for metric in scope.metrics}

    @property
    def about(self) -> dict[str, str]:
        """Whose metrics they are."""
        (resource,) = self.requests[-1].resource_metrics
        return {one.key: one.value.string_value for one in resource.resource.attributes}


def points(metric: Metric) -> list[NumberDataPoint]:
    return list(metric.sum.data_points if metric.HasField("sum") else metric.gauge.data_points)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with receiving() as one:
        yield one


@contextmanager
def receiving() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/metrics":
                one.headers.append(dict(self.headers.items()))
                one.requests.append(ExportMetricsServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        one = Collector(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield one
        finally:
            server.shutdown()
            thread.join()


def test_a_collector_is_sent_everything_that_is_documented(
    filled: Database, tmp_path: Path, collector: Collector
) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=we",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    ended = Connector(filled.config(), tmp_path, environment=environment).read(
        InProcess(filled.config()).catalog()
    )

    metrics = collector.last
    (rows,) = points(metrics["source_timescaledb.rows"])
    assert ended.exit_code == 0
    assert metrics.keys() == {one.name for one in INSTRUMENTS}
    assert {one.name: one.unit for one in INSTRUMENTS} == {
        name: metric.unit for name, metric in metrics.items()
    }
    assert {one.name for one in INSTRUMENTS if one.kind is Kind.COUNTER} == {
        name for name, metric in metrics.items() if metric.HasField("sum") and metric.sum.is_monotonic
    }
    assert rows.as_int == ROWS
    assert {one.key: one.value.string_value for one in rows.attributes} == {"stream": "public.metrics"}
    assert collector.headers[-1]["x-tenant"] == "we"
    assert (
        collector.about.items()
        >= {
            "service.name": "source-timescaledb",
            "db.namespace": filled.name,
            "server.address": filled.config()["host"],
            "deployment.environment.name": "test",
        }.items()
    )


def test_a_collector_that_is_gone_does_not_fail_a_sync(filled: Database, tmp_path: Path) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    ended = Connector(filled.config(), tmp_path, environment=environment).read(
        InProcess(filled.config()).catalog()
    )

    assert ended.exit_code == 0
    assert len(ended.rows("metrics")) == ROWS
    assert any("metrics" in line for line in ended.logs)


def test_a_file_that_cannot_be_written_is_a_configuration_error_for_read(
    filled: Database, tmp_path: Path
) -> None:
    environment = {FILE_VARIABLE: str(tmp_path / "nowhere" / "x.prom")}
    ended = Connector(filled.config(), tmp_path, environment=environment).read(
        InProcess(filled.config()).catalog()
    )

    (error,) = ended.errors
    assert ended.exit_code == 1
    assert error["failure_type"] == "config_error"
    assert FILE_VARIABLE in error["message"]


@dataclass
class Shown:
    """A process whose stderr is a terminal: what it printed, what it drew, how it ended."""

    output: Output
    drawn: str
    exit_code: int

    @property
    def text(self) -> str:
        """What it drew, without the escapes."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.drawn)


def on_terminal(
    config: Mapping[str, Any],
    catalog: Any,
    folder: Path,
    *,
    stop_at: bytes | None = None,
    gone_at: bytes | None = None,
) -> Shown:
    """Read with stderr on a terminal; SIGTERM, or no terminal any more, when the first line of a kind has come."""
    files = {"config": config, "catalog": catalog}
    for name, content in files.items():
        (folder / f"{name}.json").write_bytes(orjson.dumps(content))
    ours, theirs = os.openpty()
    drawn: list[bytes] = []

    gone = threading.Event()

    def draw() -> None:
        with suppress(OSError):  # the other end is closed
            while not gone.is_set():
                if select.select([ours], [], [], 0.05)[0]:
                    drawn.append(os.read(ours, 65536))
        os.close(ours)

    process = subprocess.Popen(
        [*COMMAND, "read", *(part for name in files for part in (f"--{name}", str(folder / f"{name}.json")))],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    watcher = threading.Thread(target=draw)
    watcher.start()
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if stop_at is not None and stop_at in line:
            process.send_signal(signal.SIGTERM)
            stop_at = None
        if gone_at is not None and gone_at in line:
            gone.set()
            watcher.join()
            gone_at = None
    exit_code = process.wait(60)
    watcher.join()
    return Shown(Output(lines), b"".join(drawn).decode(), exit_code)


HIDDEN, SHOWN_AGAIN = "\x1b[?25l", "\x1b[?25h"


def test_on_a_terminal_a_table_shows_how_far_the_streams_are(filled: Database, tmp_path: Path) -> None:
    shown = on_terminal(filled.config(), InProcess(filled.config()).catalog(), tmp_path)

    assert shown.exit_code == 0
    assert len(shown.output.rows("metrics")) == ROWS
    assert all(parse(line) for line in shown.output.lines())
    assert re.search(r"public\.metrics +3 / 3 +600 +[\d,]+ +ended", shown.text)
    assert shown.drawn.rindex(SHOWN_AGAIN) > shown.drawn.rindex(HIDDEN)


def test_a_sync_that_is_told_to_stop_leaves_the_terminal_as_it_was(filled: Database, tmp_path: Path) -> None:
    catalog = InProcess(filled.config()).catalog()
    shown = on_terminal(filled.config(), catalog, tmp_path, stop_at=b'"STARTED"')

    assert shown.exit_code == -signal.SIGTERM
    assert shown.drawn.rindex(SHOWN_AGAIN) > shown.drawn.rindex(HIDDEN)


def test_a_terminal_that_goes_away_takes_no_sync_with_it(filled: Database, tmp_path: Path) -> None:
    shown = on_terminal(filled.config(), InProcess(filled.config()).catalog(), tmp_path, gone_at=b'"STARTED"')

    assert shown.exit_code == 0
    assert len(shown.output.rows("metrics")) == ROWS


def test_check_says_what_to_install_where_metrics_are_asked_for_without(
    filled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FILE_VARIABLE, "/x.prom")
    monkeypatch.setattr("source_timescaledb.health.telemetry._installed", lambda _: False)
    succeeded, message, _ = InProcess(filled.config()).check()

    assert not succeeded
    assert "pip install 'source-timescaledb[metrics]'" in message


def test_a_sync_that_fails_leaves_the_terminal_as_it_was(filled: Database, tmp_path: Path) -> None:
    catalog = InProcess(filled.config()).catalog()
    shown = on_terminal({**filled.config(), "database": "nowhere"}, catalog, tmp_path)

    assert shown.exit_code == 1
    assert [error["failure_type"] for error in shown.output.errors] == ["config_error"]
    assert shown.drawn.rindex(SHOWN_AGAIN) > shown.drawn.rindex(HIDDEN)
    assert "Traceback" not in shown.text
