"""Which STATE counts which record, said in each of them: what readers of several sockets need.

On one channel a STATE counts the records before it. Over several it may overtake them, so the lines say it themselves:

    RECORD  partition_id                     the partition that it belongs to
    STATE   partition_id, sourceStats        the partition that it closes, and how many records that has
            id                               its place: 1, 2, 3, ... among those of its stream, or among the GLOBAL ones

A destination commits a STATE when it has written that many records of the partition and has committed the STATE before it
(airbyte-cdk/bulk, load: DestinationMessageFactory.kt, CheckpointManager.kt; `id` begins at 1 and leaves no gap). So
every record that is told between two STATEs of its stream, or between two GLOBAL ones, belongs to one partition, whose
name no other partition of the sync has.

The name is put into lines that are finished, behind what a line begins with. Only a line can begin like this after a line
feed: in JSON text there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.snapshot.held import LINE_START, stream_start

Series = tuple[str, ...]
"""The STATEs that continue each other: those of one stream, by its namespace and name, or the GLOBAL ones."""

GLOBAL: Final[Series] = ()


class Partitions:
    """The partitions of one sync, one open in each series; `run` is in all their names, to tell syncs apart."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._named = 0
        self._open: dict[Series, str] = {}
        self._closed: Counter[Series] = Counter()

    def label(self, lines: bytes, counted_by: Sequence[QualifiedName]) -> bytes:
        """Whole lines, each with its partition; they are of the streams named, or the GLOBAL STATE counts them all."""
        if not counted_by:
            return _labelled(lines, LINE_START, self._partition(GLOBAL))
        for stream in counted_by:
            lines = _labelled(lines, stream_start(stream), self._partition((stream.schema, stream.name)))
        return lines

    def close(self, state: dict[str, Any]) -> None:
        """Add to a STATE the partition that it closes, and its place; what is told from now on is of the next."""
        series = _series(state)
        state["partition_id"] = self._partition(series)
        del self._open[series]
        self._closed[series] += 1
        state["id"] = self._closed[series]

    def _partition(self, series: Series) -> str:
        if series not in self._open:
            self._named += 1
            self._open[series] = f"{self._run}{self._named}"
        return self._open[series]


def _series(state: dict[str, Any]) -> Series:
    if "stream" not in state:
        return GLOBAL
    descriptor = state["stream"]["stream_descriptor"]
    return descriptor.get("namespace", ""), descriptor["name"]


def _labelled(lines: bytes, start: bytes, partition: str) -> bytes:
    """The lines that begin with `start`, with the name of a partition; the others as they are."""
    rest = start.removeprefix(LINE_START)
    named = LINE_START + b'"partition_id":"%b",' % partition.encode() + rest
    lines = lines.replace(b"\n" + start, b"\n" + named)
    return named + lines.removeprefix(start) if lines.startswith(start) else lines
