"""What following changes stands on: the publication, the slot, the position to read from, and the open log.

The order is fixed. Publication first, because a slot cannot decode what was written before its publication. Then the
slot, proved to reach back to where the state stands. Then, at the first time, the position: from where on nothing is
missed (`postgres.barrier.start_position`). Before any slice is read, a barrier: no snapshot counts that does not see all
that had begun to write when this process started, or when a chunk was first seen, because of that the stream may have
told, or be about to tell, only a part.

Two things on this ground can give way without a sound while a sync runs. A standby may take over behind the same
address: so whatever is written, and every new reading of the log, is asked first which log it is. And the publication
may be dropped: from PostgreSQL 18 on the server then only leaves out what it had published. So no state is told before
the publication was seen, the same one, after everything that the state says was decoded.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Final, TypeVar

from typing_extensions import Self

from source_timescaledb.airbyte.catalog import StreamRequest, aim_of
from source_timescaledb.airbyte.healing import decode_to, drop_if_given_up, proven_start
from source_timescaledb.airbyte.session import Session
from source_timescaledb.cdc.clock import OrderClock
from source_timescaledb.cdc.coverage import Skipped
from source_timescaledb.config.replication import Cdc, InvalidPositionBehaviour
from source_timescaledb.config.timescaledb import ManagePublication
from source_timescaledb.health.facts import ReplicationFacts
from source_timescaledb.health.finding import Topic, raise_first
from source_timescaledb.health.preparation import (
    check_slot,
    complete_publication,
    prepare_slot,
    publish_chunks,
)
from source_timescaledb.health.probes import read_relation_marks, read_replication
from source_timescaledb.health.replication import replication_findings
from source_timescaledb.health.standing import kept_marks, kept_point, publication_kept
from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.lsn import Lsn
from source_timescaledb.postgres.barrier import emit_fence, insert_position, start_position, xmin_barrier
from source_timescaledb.postgres.connection import Connection, ConnectionSettings, open_connection
from source_timescaledb.postgres.connection import Session as Purpose
from source_timescaledb.postgres.pool import ReaderPool
from source_timescaledb.postgres.publication import Publication, PublicationMarks
from source_timescaledb.postgres.replication import ReplicationStream
from source_timescaledb.postgres.slot import ChangesGoneError, drop_slot, read_slot
from source_timescaledb.postgres.timeline import WalPoint, check_unmoved
from source_timescaledb.state.codec import FollowedStates

LOST_LOG: Final = 1 << 40
"""Bytes of log that a server which is taken over from has not lost: a terabyte."""

ANSWER_SECONDS: Final = 10.0
"""How long the server may take to look at its transactions, or to write a message to its disk."""

Answer = TypeVar("Answer")


class Ground:
    """The server's side of one sync of changes; a context manager that ends with its connections closed.

    `before` is the state that came in; it becomes None where the settings say to start over.
    """

    def __init__(
        self,
        session: Session,
        settings: ConnectionSettings,
        requests: Sequence[StreamRequest],
        before: FollowedStates | None,
    ) -> None:
        cdc = session.configuration.cdc
        assert cdc is not None
        self.cdc: Cdc = cdc
        self.before = before
        self.timeline = 0
        self.skipped = Skipped()
        self.compressing: frozenset[QualifiedName] = frozenset()
        """The hypertables that may have compressed chunks."""
        self._session = session
        self._settings = settings
        self._aim = aim_of(requests, cdc, session.configuration.timescaledb, session.registry.server)
        self._writing = ReaderPool(settings, 1, purpose="fences", session=Purpose.WRITING)
        self._log = ExitStack()
        self._made = False
        """Whether this sync has made the slot."""
        self._publication: Publication | None = None
        self._marks: PublicationMarks | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._log.close()
        self._writing.close()

    def prepare(self, clock: OrderClock) -> Lsn:
        """Make sure of everything that must hold before the first row; the position to read from.

        Raises ConnectorError.
        """
        facts = self._judge()
        self._beat()
        self._prepare_publication(facts)
        try:
            self._check_publication_kept()
            self.timeline = self._prepare_slot(self._kept())
        except ChangesGoneError:
            if self.cdc.invalid_cdc_cursor_position_behavior is not InvalidPositionBehaviour.RESYNC:
                raise
            self._session.logger.warning(
                "The server has no longer the changes since the last sync: all streams are read again, as configured."
            )
            self.before = None
            self._clear_away()
            self.timeline = self._prepare_slot(None)
        if not self._made:
            return self._start(clock)
        return proven_start(
            lambda: self._start(clock), self._try_out, self._make_slot_again, self._session.logger
        )

    def publish_chunks(self, begun: Container[int] = ()) -> bool:
        """Add the chunks that are missing in the publication; whether there were any, and a barrier is due.

        Call it after the chunks are listed that will be read: so each of those is published before it is read. Those that
        have `begun`, by oid, must not be missing. Raises ConnectorError.
        """
        publication = self._publication
        assert publication is not None
        added = self._write(
            lambda connection: publish_chunks(connection, publication, self._aim, begun),
            f"Adding chunks to the publication {publication.name}",
        )
        if added:
            self._session.logger.info("%d chunks were added to the publication %s.", added, publication.name)
        return added > 0

    @property
    def marks(self) -> PublicationMarks:
        """By what the publication of this sync is known."""
        assert self._marks is not None
        return self._marks

    def check_publication(self) -> None:
        """Make sure that whatever was decoded by now was decoded with the publication there, and the tables in it.

        Raises ConnectorError.
        """
        self._check_marks(self.marks, meanwhile="while it was followed")

    def barrier(self) -> None:
        """Wait for all that is being written: no slice may be read in a snapshot that does not see it."""

        def wait(connection: Connection) -> int:
            return xmin_barrier(
                connection, seconds=self._patience, clock=self._session.clock, sleep=self._session.pause
            )

        self.skipped.begun = self._write(wait, "Waiting for open transactions", seconds=ANSWER_SECONDS)

    def fence(self, content: str) -> None:
        """Write a fence into the log."""
        self._write(
            lambda connection: emit_fence(connection, content),
            "Writing a fence into the log",
            seconds=ANSWER_SECONDS,
        )

    def open_log(self, start: Lsn) -> ReplicationStream:
        """Begin to read the log; an earlier reading is closed.

        While there was none, somebody can have made the slot again or read it, and the server can have been replaced by a
        standby of its own. The server would tell nothing of that and begin where it can, so it is asked each time. Raises
        ConnectorError.
        """
        self._log.close()
        kept = self._kept()
        acknowledged = kept.lsn if kept is not None else Lsn(0)
        here = WalPoint(self._session.identity.system, self.timeline, start)

        def attempt() -> ReplicationStream:
            connection = open_connection(self._settings, "changes", Purpose.REPLICATION)
            with self._writing.watched(connection):
                try:
                    check_unmoved(connection, self.timeline)
                    check_slot(connection, self.cdc.replication_slot, here)
                except BaseException:
                    connection.close()
                    raise
                log = ReplicationStream(
                    connection,
                    self.cdc.replication_slot,
                    [self.cdc.publication],
                    start=start,
                    acknowledged=acknowledged,
                    clock=self._session.clock,
                )
                return self._log.enter_context(log)

        return self._session.patience(self._session.pause).keep_trying(attempt, "Following changes")

    @property
    def _patience(self) -> float:
        return float(self.cdc.initial_waiting_seconds)

    def _judge(self) -> ReplicationFacts:
        """Refuse whatever `doctor` would refuse before there is a publication and a slot."""
        session = self._session
        facts = session.ask(
            lambda connection: read_replication(connection, self._aim), "Looking at the server"
        )
        if (
            self.before is not None
        ):  # of chunks that are missing some may have begun: `publish_chunks` tells them apart
            facts = replace(facts, missing=())
        findings = [one for one in replication_findings(self._aim, facts) if one.topic is not Topic.UNSEEN]
        raise_first(findings, session.logger.warning)
        self.compressing = frozenset(facts.compressing.hypertables)
        return facts

    def _beat(self) -> None:
        """Run what the user wants to be run at the start of each sync."""
        query = self.cdc.heartbeat_action_query
        if query.strip():
            self._write(
                lambda connection: connection.execute(query.encode()), "Running heartbeat_action_query"
            )

    def _prepare_publication(self, facts: ReplicationFacts) -> None:
        self._publication = self._write(
            lambda connection: complete_publication(connection, self._aim, facts.unlisted),
            f"Preparing the publication {self.cdc.publication}",
        )
        if self.before is None:
            self.publish_chunks()

    def _check_publication_kept(self) -> None:
        """Refuse a publication that is not the one of the state."""
        self._marks = self._read_marks()
        if self.before is not None:
            self._check_marks(kept_marks(self.before))

    def _check_marks(self, before: PublicationMarks, *, meanwhile: str = "since the last sync") -> None:
        name, found = self.cdc.publication, self._read_marks()
        raise_first(publication_kept(name, self._aim.relations, found, before, meanwhile=meanwhile))

    def _read_marks(self) -> PublicationMarks | None:
        name, relations = self.cdc.publication, self._aim.relations
        return self._session.ask(
            lambda connection: read_relation_marks(connection, name, relations),
            f"Looking for the publication {name}",
        )

    def _kept(self) -> WalPoint | None:
        return None if self.before is None else kept_point(self.before.position)

    def _clear_away(self) -> None:
        """Drop the slot if nobody can ever read it again and it is ours to make another."""
        session, name = self._session, self.cdc.replication_slot
        if session.configuration.timescaledb.manage_publication is ManagePublication.FULL:
            self._write(
                lambda connection: drop_if_given_up(connection, name, session.logger),
                f"Dropping the replication slot {name}",
            )

    def _try_out(self, start: Lsn) -> None:
        """Decode a slot that this sync has made, once, to now; nothing was read yet. Raises ConnectorError."""
        fence, session = secrets.token_hex(8), self._session
        self.fence(fence)
        session.patience(session.pause).keep_trying(
            lambda: decode_to(self.open_log(start), fence.encode(), lambda: session.pause(0)),
            f"Trying the replication slot {self.cdc.replication_slot} out",
        )
        self._log.close()

    def _make_slot_again(self) -> None:
        name = self.cdc.replication_slot
        self._log.close()
        self._write(lambda connection: drop_slot(connection, name), f"Dropping the replication slot {name}")
        self.timeline = self._prepare_slot(None)

    def _prepare_slot(self, kept: WalPoint | None) -> int:
        session = self._session
        manage = session.configuration.timescaledb.manage_publication

        def attempt() -> WalPoint:
            replication = open_connection(self._settings, "slot", Purpose.REPLICATION)
            try:
                with self._writing.watched(replication), self._writing.connection() as watching:
                    absent = read_slot(watching, self.cdc.replication_slot) is None
                    stands = prepare_slot(
                        replication,
                        watching,
                        self.cdc,
                        manage,
                        kept,
                        seconds=self._patience,
                        clock=session.clock,
                        sleep=session.pause,
                    )
                    self._made = absent
                    return stands
            finally:
                replication.close()

        doing = f"Preparing the replication slot {self.cdc.replication_slot}"
        return session.patience(session.pause).keep_trying(attempt, doing).timeline

    def _start(self, clock: OrderClock) -> Lsn:
        kept = self._kept()
        if kept is not None:
            assert self.before is not None
            self.barrier()
            clock.raise_to(self._write(insert_position, "Asking for the end of the log"))
            if kept.timeline != self.timeline and self.before.position.open:
                # A killed sync may have told changes, under later times, that the server it came from lost with itself.
                clock.raise_to(Lsn(clock.value + LOST_LOG))
            return kept.lsn

        def find(connection: Connection) -> Lsn:
            return start_position(
                connection, seconds=self._patience, clock=self._session.clock, sleep=self._session.pause
            )

        position = self._write(find, "Finding the position to start from", seconds=ANSWER_SECONDS)
        self.fence("start")  # it flushes the log, so that no crash sets the server back behind a STATE
        self.barrier()
        clock.raise_to(position)
        return position

    def _write(
        self, question: Callable[[Connection], Answer], doing: str, *, seconds: float | None = None
    ) -> Answer:
        """Do something on the writing connection, trying again inside the retry budget.

        Where the server answers each question at once, however many there are, `seconds` lets a silent one be given up
        after that time. Raises ConnectorError.
        """

        def once() -> Answer:
            with self._writing.connection() as connection, self._writing.watched(connection, seconds):
                if self.timeline:
                    check_unmoved(connection, self.timeline)
                return question(connection)

        return self._session.patience(self._session.pause).keep_trying(once, doing)
