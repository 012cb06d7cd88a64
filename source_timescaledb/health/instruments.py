"""The metrics of a sync: one table of names, units and meanings, from which every exporter and the documentation follow.

An instrument reads the counters when somebody collects; nothing is pushed, so a sync that nobody looks at pays nothing.
Names are those of OpenTelemetry; Prometheus' follow from them by its own rules (unit behind the name, `_total` behind a
counter; OpenTelemetry specification, "Prometheus and OpenMetrics compatibility").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from source_timescaledb.counters import StreamCounters, SyncCounters
from source_timescaledb.postgres.census import open_connections

PREFIX: Final = "source_timescaledb."
_SUFFIXES: Final = {"By": "_bytes", "s": "_seconds"}

Number = int | float


class Kind(Enum):
    """How a metric moves."""

    COUNTER = "counter"
    """Only up, from the start of the sync."""
    GAUGE = "gauge"
    """As things are at the moment."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric; `unit` is UCUM's, as OpenTelemetry wants it."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    label: str
    """The attribute that tells its values apart; empty where there is one for the sync."""
    read: Callable[[SyncCounters], Iterator[tuple[Number, Mapping[str, str]]]]
    """Its values by now, each with its attributes."""

    @property
    def prometheus(self) -> str:
        """Its name in Prometheus."""
        total = "_total" if self.kind is Kind.COUNTER else ""
        return self.name.replace(".", "_") + _SUFFIXES.get(self.unit, "") + total


def _of_stream(
    name: str, kind: Kind, unit: str, meaning: str, read: Callable[[StreamCounters], Number]
) -> Instrument:
    def values(sync: SyncCounters) -> Iterator[tuple[Number, Mapping[str, str]]]:
        for stream in list(sync.streams.values()):
            yield read(stream), {"stream": stream.name}

    return Instrument(PREFIX + name, kind, unit, meaning, "stream", values)


def _of_sync(
    name: str, kind: Kind, unit: str, meaning: str, read: Callable[[SyncCounters], Number]
) -> Instrument:
    def values(sync: SyncCounters) -> Iterator[tuple[Number, Mapping[str, str]]]:
        yield read(sync), {}

    return Instrument(PREFIX + name, kind, unit, meaning, "", values)


def _durations(sync: SyncCounters) -> Iterator[tuple[Number, Mapping[str, str]]]:
    now = sync.clock()
    for stream in list(sync.streams.values()):
        yield stream.seconds(now), {"stream": stream.name}


def _breakers(sync: SyncCounters) -> Iterator[tuple[Number, Mapping[str, str]]]:
    for server, state in list(sync.breakers.items()):
        yield state.value, {"server": server}


_C, _G = Kind.COUNTER, Kind.GAUGE

INSTRUMENTS: Final = (
    _of_stream("rows", _C, "{row}", "RECORDs emitted, from slices and from the log", lambda s: s.rows),
    _of_stream("emitted", _C, "By", "what they weigh, as lines of JSON", lambda s: s.size),
    _of_stream(
        "rows.expected",
        _G,
        "{row}",
        "RECORDs that the sync will have emitted, by the last estimate; 0 without one",
        lambda s: s.expected,
    ),
    Instrument(
        f"{PREFIX}stream.duration", _G, "s", "how long the stream has been at work", "stream", _durations
    ),
    _of_stream(
        "chunks.done",
        _C,
        "{chunk}",
        "chunks finished, those that are gone among them; a table that has none counts as one",
        lambda s: s.chunks,
    ),
    _of_stream("chunks.left", _G, "{chunk}", "chunks that are not finished", lambda s: s.chunks_left),
    _of_stream("chunks.gone", _C, "{chunk}", "chunks dropped before they were read", lambda s: s.gone),
    _of_stream(
        "slices.done", _C, "{slice}", "slices read, each in a transaction of its own", lambda s: s.slices
    ),
    _of_stream(
        "slices.duration", _C, "s", "how long those transactions took, together", lambda s: s.slice_seconds
    ),
    _of_stream("slices.longest", _G, "s", "the longest of those transactions", lambda s: s.longest_seconds),
    _of_stream(
        "slices.cut", _C, "{slice}", "slices that ran into a limit and were cut smaller", lambda s: s.overran
    ),
    _of_stream(
        "slices.changed",
        _C,
        "{slice}",
        "slices read again because the chunk was rewritten, or held, meanwhile",
        lambda s: s.changed,
    ),
    _of_stream(
        "slices.retried",
        _C,
        "{slice}",
        "slices read again because the connection was lost",
        lambda s: s.retried,
    ),
    _of_stream("queue.slices", _G, "{slice}", "slices that wait for the destination", lambda s: s.queued),
    _of_stream("queue.size", _G, "By", "what they weigh", lambda s: s.queued_size),
    _of_stream("changes", _C, "{row}", "RECORDs of changes from the log", lambda s: s.changes),
    _of_stream(
        "changes.filtered",
        _C,
        "{row}",
        "changes not told because the snapshot of a slice holds them, or will (visibility filter)",
        lambda s: s.filtered,
    ),
    _of_stream(
        "changes.marked",
        _C,
        "{row}",
        "row changes not told because they are TimescaleDB's own, between compression markers",
        lambda s: s.marked,
    ),
    _of_sync("sync.duration", _G, "s", "how long the sync has been at work", lambda s: s.seconds),
    _of_sync(
        "retries",
        _C,
        "{retry}",
        "pauses before another try, once the catalog was read",
        lambda s: s.retries,
    ),
    _of_sync(
        "reconnections",
        _C,
        "{connection}",
        "how often the log was opened anew because its connection was lost",
        lambda s: s.reconnections,
    ),
    Instrument(
        f"{PREFIX}breaker.state",
        _G,
        "{state}",
        "the circuit breaker: 0 closed, 1 half open, 2 open",
        "server",
        _breakers,
    ),
    _of_sync("connections", _G, "{connection}", "connections open now", lambda _: open_connections()),
    _of_sync("lag.size", _G, "By", "how far the log goes on behind what was told", lambda s: s.lag_size),
    _of_sync(
        "lag.age",
        _G,
        "s",
        "the age of the commit told last, as long as the log goes on behind it",
        lambda s: s.lag_seconds,
    ),
    _of_sync("wal.retained", _G, "By", "log that the server keeps for our slot", lambda s: s.retained),
)
"""All there are. Lag and retained log are asked every few seconds, of syncs that follow changes."""


def documentation() -> str:
    """The table of `docs/metrics.md`."""
    lines = ["| OpenTelemetry | Prometheus | kind | unit | by | what it says |", "|---|---|---|---|---|---|"]
    lines += [
        f"| `{one.name}` | `{one.prometheus}` | {one.kind.value} | `{one.unit}` | {one.label} | {one.meaning} |"
        for one in INSTRUMENTS
    ]
    return "\n".join(lines)
