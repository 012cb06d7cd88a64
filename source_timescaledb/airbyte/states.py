"""What the STATEs of a sync look like: one of each stream, or, with change data capture, a GLOBAL one that holds all.

Airbyte takes one type only, from a sync as from a connection (airbyte-platform: Aggregator.kt, StatePersistence.kt). So
where changes are followed, the streams that are not (views, full refreshes, chunk events) have their states in the GLOBAL
one too, also when nothing is followed at all. Each GLOBAL state holds the last state of every stream, at first those that
came in: whoever keeps only the last one would forget the others.

What the followed streams share stays what it was as long as none of them is read: it says how far the log was told, and
that is still true. Where nothing was ever followed there is none.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from airbyte_cdk.models import AirbyteMessage

from source_timescaledb.airbyte.messages import global_state, stream_state
from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.state.codec import FollowedStates, KeptStates, encode_followed

Blob = Mapping[str, Any]


class States:
    """The states of one sync; `united` where there is one GLOBAL state of all streams."""

    def __init__(self, *, united: bool) -> None:
        self._united = united
        self._shared: Blob | None = None
        self._streams: dict[QualifiedName, Blob] = {}

    def recall(
        self, kept: KeptStates, names: Iterable[QualifiedName], followed: Container[QualifiedName]
    ) -> None:
        """Begin with what was kept of the streams with these `names`.

        What was kept of the changes of a stream that is not `followed` any more is left out: the position that it shared
        moves on without it.
        """
        shared, changes = encode_followed(kept.followed) if kept.followed is not None else (None, {})
        self._shared = shared
        for name in names:
            blob = changes.get(name) if name in followed else kept.plain.get(name)
            if blob is not None:
                self._streams[name] = blob

    def counted_by(self, streams: Iterable[QualifiedName]) -> list[QualifiedName]:
        """Whose STATEs count the records of these streams: their own, or none but the GLOBAL one."""
        return [] if self._united else list(streams)

    def tell(self, name: QualifiedName, state: Blob, record_count: int) -> AirbyteMessage:
        """The STATE of a stream that is read by itself, with the records since the last one."""
        if not self._united:
            return stream_state(name, state, record_count)
        self._streams[name] = state
        return global_state(self._shared, self._streams, record_count)

    def tell_followed(
        self, states: FollowedStates, record_counts: Mapping[QualifiedName, int]
    ) -> Iterator[AirbyteMessage]:
        """The STATE of all followed streams, or one of each, with the records since the last one."""
        shared, each = encode_followed(states)
        if self._united:
            self._shared = shared
            self._streams |= each
            yield global_state(shared, self._streams, sum(record_counts.values()))
            return
        for name, state in each.items():
            yield stream_state(name, {**state, "shared": shared}, record_counts[name])
