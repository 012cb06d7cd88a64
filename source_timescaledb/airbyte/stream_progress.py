"""One followed stream on its way through a sync: what is left to read of it, what was told, and its state."""

from __future__ import annotations

from source_timescaledb.airbyte.catalog import StreamRequest
from source_timescaledb.airbyte.opening import FollowedOpening
from source_timescaledb.cdc.followed import FollowedStream
from source_timescaledb.errors import ConnectorError
from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.postgres.publication import PublicationMarks
from source_timescaledb.state.model import FollowedState


class StreamProgress:
    """One followed stream with what is left to read of it."""

    def __init__(self, request: StreamRequest, opening: FollowedOpening, followed: FollowedStream) -> None:
        self.request = request
        self.opening = opening
        self.followed = followed
        self.failed: ConnectorError | None = None
        self.running = False
        self.torn = False
        """Whether a part of a slice was told that is not finished: no state can count it."""
        self.rows = 0
        self.unreported = 0

    @property
    def name(self) -> QualifiedName:
        """The stream's name."""
        return self.request.name

    @property
    def readable(self) -> bool:
        """Whether something is left to read, and can be."""
        return self.failed is None and not self.followed.coverage.complete

    def state(self, marks: PublicationMarks) -> FollowedState:
        """What a later process needs of it."""
        plan = self.opening.plan
        return FollowedState(
            relation=self.request.relation.oid,
            complete=self.followed.coverage.complete,
            progress=plan.progress if plan is not None else None,
            entry=marks.entries.get(self.request.relation.oid, 0),
            exposed=self.followed.coverage.exposed,
        )
