"""What a run of a connector printed, judged as a destination would: every line is a protocol message.

Lines come from memory or, for runs of millions of rows, from a file that is read only when somebody asks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
from airbyte_cdk.models.airbyte_protocol_serializers import AirbyteMessageSerializer

from testkit.errors import KitError

Json = dict[str, Any]
StreamKey = tuple[str | None, str]
"""A stream's namespace and name."""

PAYLOADS = {
    "RECORD": "record",
    "STATE": "state",
    "LOG": "log",
    "TRACE": "trace",
    "SPEC": "spec",
    "CATALOG": "catalog",
    "CONNECTION_STATUS": "connectionStatus",
    "CONTROL": "control",
}
SHOWN = 200


class NotProtocolError(KitError, AssertionError):
    """A line on standard output that Airbyte would not understand."""


def parse(line: bytes) -> Json:
    """The message in a line.

    Raises:
        NotProtocolError: it is not one, or lacks what a message of its type must have.
    """
    try:
        message: Json = orjson.loads(line)
        payload = PAYLOADS[message["type"]]
        if not isinstance(message[payload], dict):
            raise TypeError(payload)  # noqa: TRY301 - one place decides what a bad line means
        AirbyteMessageSerializer.load(message)
    except Exception as reason:
        raise NotProtocolError(f"not an Airbyte message: {line[:SHOWN]!r} ({reason})") from reason
    return message


@dataclass(frozen=True, slots=True)
class State:
    """A STATE message and the number of RECORD messages that the run had printed before it."""

    message: Json
    records_before: int


class Output:
    """The messages of one run, in order."""

    def __init__(self, source: Path | list[bytes]) -> None:
        """Take the lines, or the file that holds them."""
        self._source = source

    def lines(self) -> Iterator[bytes]:
        """The lines as they were printed."""
        if isinstance(self._source, Path):
            with self._source.open("rb") as file:
                yield from file
        else:
            yield from self._source

    def stream(self) -> Iterator[Json]:
        """The messages one by one, without keeping them: for runs that do not fit into memory."""
        return map(parse, self.lines())

    @cached_property
    def messages(self) -> list[Json]:
        """All messages."""
        return list(self.stream())

    def of_type(self, kind: str) -> list[Json]:
        """The payloads of all messages of a type, such as `LOG`."""
        return [message[PAYLOADS[kind]] for message in self.messages if message["type"] == kind]

    @cached_property
    def records(self) -> dict[StreamKey, list[Json]]:
        """The data of the records of each stream, in order."""
        found: dict[StreamKey, list[Json]] = defaultdict(list)
        for record in self.of_type("RECORD"):
            found[record.get("namespace"), record["stream"]].append(record["data"])
        return found

    def rows(self, stream: str, namespace: str = "public") -> list[Json]:
        """The data of one stream's records."""
        return self.records.get((namespace, stream), [])

    @cached_property
    def states(self) -> list[State]:
        """The STATE messages, each with the number of records before it.

        Raises:
            NotProtocolError: they are of several types, at which Airbyte ends a sync (airbyte-platform: Aggregator.kt).
        """
        found: list[State] = []
        records = 0
        for message in self.messages:
            if message["type"] == "RECORD":
                records += 1
            elif message["type"] == "STATE":
                found.append(State(message["state"], records))
        if len(types := {state.message.get("type") for state in found}) > 1:
            raise NotProtocolError(f"states of several types: {', '.join(sorted(map(str, types)))}")
        return found

    def state(self, count: int | None = None) -> list[Json]:
        """What Airbyte would hand to the next run had it kept the first `count` states (default: all).

        That is the last GLOBAL state, or the last STREAM state of each stream.
        """
        kept: dict[Any, Json] = {}
        for state in self.states[:count]:
            descriptor: Mapping[str, Any] = state.message.get("stream", {}).get("stream_descriptor", {})
            kept[descriptor.get("namespace"), descriptor.get("name")] = state.message
        return list(kept.values())

    @cached_property
    def traces(self) -> list[Json]:
        """All TRACE messages."""
        return self.of_type("TRACE")

    @property
    def errors(self) -> list[Json]:
        """The errors traced: `failure_type`, `message`, `internal_message`, `stack_trace`."""
        return [trace["error"] for trace in self.traces if trace["type"] == "ERROR"]

    @property
    def statuses(self) -> list[tuple[str | None, str, str]]:
        """The stream statuses in order: namespace, stream, status."""
        found = [trace["stream_status"] for trace in self.traces if trace["type"] == "STREAM_STATUS"]
        return [
            (
                status["stream_descriptor"].get("namespace"),
                status["stream_descriptor"]["name"],
                status["status"],
            )
            for status in found
        ]

    def estimates(self, stream: str) -> list[Json]:
        """The ESTIMATEs of a stream, in order: `type`, `row_estimate`, `byte_estimate`."""
        found = [trace["estimate"] for trace in self.traces if trace["type"] == "ESTIMATE"]
        return [estimate for estimate in found if estimate["name"] == stream]

    @property
    def logs(self) -> list[str]:
        """The log messages."""
        return [log["message"] for log in self.of_type("LOG")]

    @property
    def spec(self) -> Json:
        """The one SPEC."""
        return self.only("SPEC")

    @property
    def catalog(self) -> Json:
        """The one CATALOG, ready for `configured_catalog`."""
        return self.only("CATALOG")

    @property
    def connection_status(self) -> Json:
        """The one CONNECTION_STATUS: `status` and `message`."""
        return self.only("CONNECTION_STATUS")

    def only(self, kind: str) -> Json:
        """The payload of the one message of a type.

        Raises:
            NotProtocolError: there is none, or more than one.
        """
        found = self.of_type(kind)
        if len(found) != 1:
            raise NotProtocolError(
                f"{len(found)} messages of type {kind} instead of one; errors: {self.errors}"
            )
        return found[0]


def configured_catalog(
    catalog: Json,
    sync_mode: str = "full_refresh",
    streams: Iterable[str] | None = None,
    **cursor_fields: str,
) -> Json:
    """A ConfiguredAirbyteCatalog made of what `discover` gave.

    Args:
        catalog: the payload of the CATALOG message.
        sync_mode: `full_refresh` or `incremental`, for all streams.
        streams: names of those to sync; all by default.
        cursor_fields: a stream's cursor field by its name, where it is not the default one.

    Raises:
        KitError: a named stream is not in the catalog.
    """
    found = {stream["name"]: stream for stream in catalog["streams"]}
    names = list(found if streams is None else streams)
    if missing := sorted(set(names) - set(found)):
        raise KitError(f"not in the catalog: {', '.join(missing)}; there are: {', '.join(sorted(found))}")
    return {"streams": [configured(found[name], sync_mode, cursor_fields.get(name)) for name in names]}


def configured(stream: Json, sync_mode: str, cursor_field: str | None) -> Json:
    """One stream as a user would select it."""
    primary_key = stream.get("source_defined_primary_key") or []
    kept = "overwrite" if sync_mode == "full_refresh" else ("append_dedup" if primary_key else "append")
    return {
        "stream": stream,
        "sync_mode": sync_mode,
        "destination_sync_mode": kept,
        "cursor_field": [cursor_field] if cursor_field else stream.get("default_cursor_field") or [],
        "primary_key": primary_key,
        "generation_id": 1,
        "minimum_generation_id": 0,
        "sync_id": 1,
    }
