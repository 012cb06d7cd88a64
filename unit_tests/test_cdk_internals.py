"""airbyte-cdk's insides that this connector leans on; a new version that moves them has to be met by hand."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from airbyte_cdk.entrypoint import AirbyteEntrypoint
from airbyte_cdk.logger import PRINT_BUFFER
from airbyte_cdk.models import AirbyteMessage
from airbyte_cdk.sources.source import Source
from airbyte_cdk.utils.print_buffer import PrintBuffer

from source_timescaledb.airbyte.entrypoint import TimescaledbEntrypoint
from source_timescaledb.airbyte.messages import stream_state
from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.source import SourceTimescaledb

OVERRIDDEN = sorted(
    name
    for name in vars(TimescaledbEntrypoint)
    if not name.startswith("__") and callable(getattr(TimescaledbEntrypoint, name))
)


def parameters(function: Any) -> list[tuple[str, Any]]:
    return [(one.name, one.kind) for one in inspect.signature(function).parameters.values()]


def test_the_entrypoint_overrides_what_it_is_known_to_override() -> None:
    assert OVERRIDDEN == ["handle_record_counts", "validate_connection"]


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_an_overridden_method_takes_what_the_cdk_passes(name: str) -> None:
    ours, theirs = (inspect.getattr_static(one, name) for one in (TimescaledbEntrypoint, AirbyteEntrypoint))

    assert isinstance(theirs, staticmethod)
    assert isinstance(ours, staticmethod)
    assert parameters(ours) == parameters(theirs)


def test_the_entrypoint_runs_parsed_arguments_and_gives_lines() -> None:
    assert [name for name, _ in parameters(AirbyteEntrypoint.run)] == ["self", "parsed_args"]
    assert [name for name, _ in parameters(AirbyteEntrypoint.parse_args)] == ["args"]
    assert "Iterable[str]" in str(inspect.signature(AirbyteEntrypoint.run).return_annotation)


@pytest.mark.parametrize(
    "name", ["spec", "check", "discover", "read", "read_config", "read_catalog", "read_state"]
)
def test_the_source_takes_what_the_cdk_passes(name: str) -> None:
    assert parameters(getattr(SourceTimescaledb, name)) == parameters(getattr(Source, name))


class CountingSource(SourceTimescaledb):
    """Yields one STATE that carries its own count."""

    def read(self, *_positional: Any, **_named: Any) -> Iterator[AirbyteMessage]:
        yield stream_state(QualifiedName("public", "flights"), {"version": 1}, 7)


def test_a_count_in_a_state_survives_the_entrypoint(tmp_path: Path) -> None:
    config, catalog = tmp_path / "config.json", tmp_path / "catalog.json"
    config.write_text("{}")
    catalog.write_text('{"streams": []}')
    entrypoint = TimescaledbEntrypoint(CountingSource())
    arguments = entrypoint.parse_args(["read", "--config", str(config), "--catalog", str(catalog)])

    messages = [orjson.loads(line) for line in entrypoint.run(arguments)]

    (state,) = [message["state"] for message in messages if message["type"] == "STATE"]
    assert state["sourceStats"] == {"recordCount": 7.0}


def test_the_print_buffer_can_be_flushed_to_the_real_stdout_under_its_own_lock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert isinstance(PRINT_BUFFER, PrintBuffer)
    buffer = PrintBuffer()

    with (tmp_path / "stdout").open("w+") as stdout:
        monkeypatch.setattr(sys, "__stdout__", stdout)
        with buffer.lock:
            buffer.write("a line\n")
            buffer.flush()
        stdout.seek(0)
        printed = stdout.read()

    assert printed == "a line\n"
