"""The connector inside this process, for scenes in which a process of its own would show nothing more.

A sync takes some fifty milliseconds here, so a test can afford to resume from every STATE there is. What it yields is
turned into lines and judged exactly like the output of a process.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Any, cast

import orjson
from airbyte_cdk.models import (
    AirbyteMessage,
    AirbyteMessageSerializer,
    ConfiguredAirbyteCatalogSerializer,
    Status,
    Type,
)
from airbyte_cdk.utils.traced_exception import AirbyteTracedException

from source_timescaledb.source import SourceTimescaledb
from testkit.protocol import Json, Output, configured_catalog

Acts = Mapping[tuple[str, int], Callable[[], object]]
"""What to do when the n-th message (from 1) of a type has come: `{("RECORD", 5): act}`."""


class Ended(Output):
    """A sync that has ended: its messages, and the failure that it ended with, if any."""

    def __init__(self, lines: list[bytes], failure: AirbyteTracedException | None, logs: list[str]) -> None:
        super().__init__(lines)
        self.failure = failure
        self.logged = logs
        """What was logged, each line with its level before it."""


class InProcess:
    """The connector with one configuration."""

    def __init__(self, config: Mapping[str, Any], *, retry_seconds: float = 20.0) -> None:
        self.config = dict(config)
        self._retry_seconds = retry_seconds
        self._reading: SourceTimescaledb | None = None

    def discover(self) -> Json:
        """The catalog, as `discover` prints it."""
        catalog = self._source().discover(_logger([]), self.config)
        message = AirbyteMessage(type=Type.CATALOG, catalog=catalog)
        return cast(Json, _dumped(message)["catalog"])

    def check(self) -> tuple[bool, str, list[str]]:
        """Whether `check` succeeds, what it answers, and what it logs, each line with its level before it."""
        logs: list[str] = []
        status = self._source().check(_logger(logs), self.config)
        return status.status is Status.SUCCEEDED, status.message or "", logs

    def catalog(
        self, sync_mode: str = "full_refresh", streams: Iterable[str] | None = None, **cursor_fields: str
    ) -> Json:
        """The configured catalog made of what `discover` gives (`testkit.protocol.configured_catalog`)."""
        return configured_catalog(self.discover(), sync_mode, streams, **cursor_fields)

    def read(
        self, catalog: Json | None = None, state: list[Json] | None = None, acts: Acts | None = None
    ) -> Ended:
        """Read to the end; every stream in whole where no catalog is given."""
        configured = ConfiguredAirbyteCatalogSerializer.load(catalog or self.catalog())
        lines: list[bytes] = []
        logs: list[str] = []
        seen: Counter[str] = Counter()
        failure = None
        self._reading = self._source()
        messages = self._reading.read(_logger(logs), self.config, configured, list(state or []))
        with closing(messages):  # type: ignore[type-var] # it is a generator, whatever the base class says
            try:
                for message in messages:
                    kind = message.type.value
                    seen[kind] += 1
                    lines.append(orjson.dumps(_dumped(message)))
                    if acts and (act := acts.get((kind, seen[kind]))):
                        act()
            except AirbyteTracedException as error:
                failure = error
        return Ended(lines, failure, logs)

    def stop(self) -> None:
        """Tell the read that is under way to stop, as the first signal does."""
        assert self._reading is not None
        self._reading.stop.set()

    def _source(self) -> SourceTimescaledb:
        return SourceTimescaledb(retry_seconds=self._retry_seconds)


def _dumped(message: AirbyteMessage) -> Json:
    dumped = cast(Json, AirbyteMessageSerializer.dump(message))
    if message.record is not None:
        dumped["record"]["data"] = message.record.data  # the serializer leaves nulls out
    return dumped


class _Listener(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, into: list[str]) -> None:
        super().__init__()
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line with its level."""
        self._into.append(f"{record.levelname}: {record.getMessage()}")


def _logger(into: list[str]) -> logging.Logger:
    logger = logging.Logger("read", logging.INFO)  # noqa: LOG001 - each read has its own, so that none hears another
    logger.addHandler(_Listener(into))
    return logger
