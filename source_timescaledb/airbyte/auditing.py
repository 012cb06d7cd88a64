"""The end of a sync asks whether the log told everything: rows that appeared are read, rows that vanished are named.

    count ──> drain ──> compare ──differs?──> count, drain, compare again ──the same?──> read what appeared ──> drain
                           └── no ──────────────────────────────────────────────────────────> adopt ──> STATE

Only compressed chunks are counted, and only of hypertables that have any: nobody else can write unseen. A difference
counts if two counts agree on it, so that maintenance that goes on meanwhile is not taken for one.

Rows that appeared are read as slices: of a stream with a key the whole chunk, whose other rows come again as what they
are; of one without, only the range of time of the batches that are new, where those hold exactly as many rows as
appeared. What was told before and lies in that range, and nothing more, then comes twice. Rows that vanished cannot be
named, only their chunk and its range of time.

What was found is adopted with the sync's last STATE: it is told once, and the next process finds it again if this one was
killed or told to stop before. An audit that cannot be done is a warning and fails nothing: the numbers are kept as they
were, and what it would have found the next one finds. Only where reading has begun it is as where any read fails.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeVar

import psycopg
from airbyte_cdk.models import AirbyteMessage

from source_timescaledb.airbyte.session import Session
from source_timescaledb.airbyte.stream_progress import StreamProgress, between
from source_timescaledb.cdc.counting import Tally, count_rows, new_batches, rows_when_compressed
from source_timescaledb.cdc.ledger import Closing, Comparison, Ledger
from source_timescaledb.config.timescaledb import OnVanishedRows
from source_timescaledb.errors import ConfigurationError, ConnectorError
from source_timescaledb.hypertables.model import EVERYTHING, Chunk, Span
from source_timescaledb.hypertables.registry import read_chunks
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.snapshot.chunk_plan import ChunkPlan
from source_timescaledb.snapshot.pace import Pace
from source_timescaledb.snapshot.plan import Plan

LOOKS: Final = 4
"""So many counts may follow each other until two agree."""
LISTINGS: Final = 5
"""How often chunks are listed anew because one of them changed its form while they were counted."""
ROUND_SECONDS: Final = 5.0
NAMED_AT_MOST: Final = 10

Emission = Iterator[AirbyteMessage]
Answer = TypeVar("Answer")


class ReadSlices(Protocol):
    """Reads slices of a stream by a plan, until it is time to rest."""

    def __call__(
        self, stream: StreamProgress, resting: Callable[[], bool], plan: Plan | None = None
    ) -> Emission:
        """What it emits; where reading fails the stream has failed."""


@dataclass(slots=True)
class _Look:
    """One look at one stream."""

    stream: StreamProgress
    ledger: Ledger
    chunks: dict[int, Chunk]
    tally: Tally

    @property
    def complete(self) -> bool:
        """Whether all compressed chunks were counted."""
        return all(
            chunk.compressed is None or chunk.id in self.tally.counts for chunk in self.chunks.values()
        )


@dataclass(frozen=True, slots=True)
class _Finding:
    """What looks have agreed on."""

    look: _Look
    comparison: Comparison
    closing: Closing

    @property
    def appeared(self) -> dict[int, int]:
        """How many rows appeared, by chunk."""
        return {chunk: rows for chunk, rows in self.comparison.differences.items() if rows > 0}


@dataclass(frozen=True, slots=True)
class _Again:
    """A chunk in which rows appeared, and what of it is to be read."""

    chunk: Chunk
    rows: int
    plan: ChunkPlan


class Audit:
    """The audit of one sync.

    `drain` tells the log up to now, `read` reads slices of a stream by a plan, `barrier` waits for all that is being
    written.
    """

    def __init__(
        self,
        session: Session,
        streams: Sequence[StreamProgress],
        drain: Callable[[], Emission],
        read: ReadSlices,
        barrier: Callable[[], None],
    ) -> None:
        self._session = session
        self._streams = streams
        self._drain = drain
        self._read = read
        self._barrier = barrier

    def messages(self) -> Emission:
        """What the audit emits; afterwards a STATE is due."""
        findings = yield from self._findings()
        ready = self._ready(findings)
        for finding, chunks in ready:
            yield from self._read_again(finding.look.stream, chunks)
        for finding, _ in ready:
            self._close(finding)

    def _findings(self) -> Generator[AirbyteMessage, None, list[_Finding]]:
        """Look until two looks agree, stream by stream."""
        found: list[_Finding] = []
        due = [one for one in self._streams if one.failed is None and one.followed.coverage.complete]
        before: dict[int, dict[int, int]] = {}
        for _ in range(LOOKS):
            tried = [self._attempt(partial(self._look, stream), stream) for stream in due]
            looks = [look for look in tried if look is not None]
            if not looks:
                break
            yield from self._drain()
            due = []
            for look in looks:
                comparison = self._attempt(partial(self._compare, look), look.stream)
                if comparison is None:
                    continue
                differences, oid = comparison.differences, look.stream.request.relation.oid
                if differences and differences != before.get(oid):
                    before[oid] = differences
                    due.append(look.stream)
                    continue
                closing = look.ledger.close(comparison, look.chunks, look.tally.seen, complete=look.complete)
                found.append(_Finding(look, comparison, closing))
        return found

    def _attempt(self, action: Callable[[], Answer], *streams: StreamProgress) -> Answer | None:
        """What a part of the audit comes to; None, with a warning, where it cannot be done."""
        try:
            return action()
        except ConnectorError as error:
            names = ", ".join(str(stream.name) for stream in streams)
            self._session.logger.warning(
                "%s: not audited, which is left to the next sync. %s %s", names, error.message, error.remedy
            )
            return None

    def _look(self, stream: StreamProgress) -> _Look | None:
        """Count a stream's compressed chunks; None where there are none."""
        ledger = stream.followed.ledger
        if ledger is None:
            return None
        look = _Look(stream, ledger, {}, Tally({}))
        ledger.begin_count()
        doing = f"Counting the rows of compressed chunks of {stream.name}"
        for _ in range(LISTINGS):
            if self._session.ask(lambda connection: self._count(connection, look), doing):
                break
        return look if look.tally.counts else None

    def _count(self, connection: Connection, look: _Look) -> bool:
        """Count what is not counted yet; False if a chunk changed its form meanwhile.

        What was counted and decompressed since has as many rows as before; what was dropped says nothing any more.
        """
        session, hypertable = self._session, look.stream.request.relation.hypertable
        assert hypertable is not None
        assert session.extension is not None
        look.chunks = {chunk.id: chunk for chunk in read_chunks(connection, session.extension, hypertable)}
        look.tally.keep(look.chunks)
        left = [
            chunk
            for chunk in look.chunks.values()
            if chunk.compressed is not None and chunk.id not in look.tally.counts
        ]
        seconds = session.configuration.timescaledb.max_transaction_seconds
        try:
            count_rows(connection, left, look.tally, seconds=seconds, clock=session.clock)
        except psycopg.errors.UndefinedTable:
            return False
        return True

    def _compare(self, look: _Look) -> Comparison:
        """What a look shows, once the log has been drained past it."""
        comparison = look.ledger.compare(look.tally.counts, look.chunks)
        if comparison.untouched:
            before = self._session.ask(
                lambda connection: rows_when_compressed(connection, comparison.untouched),
                f"Asking for the rows of chunks of {look.stream.name}",
            )
            for chunk, rows in before.items():
                if comparison.rows[chunk] != rows:
                    comparison.differences[chunk] = comparison.rows[chunk] - rows
        return comparison

    def _ready(self, findings: Sequence[_Finding]) -> list[tuple[_Finding, list[_Again]]]:
        """The findings that can be told now, each with the chunks that are to be read for it."""
        appeared = [finding for finding in findings if finding.appeared]
        ready: list[tuple[_Finding, list[_Again]]] = [(one, []) for one in findings if not one.appeared]
        if not appeared or self._attempt(self._settle, *(one.look.stream for one in appeared)) is None:
            return ready
        for finding in appeared:
            chunks = self._attempt(partial(self._chunks_again, finding), finding.look.stream)
            if chunks is not None:
                ready.append((finding, chunks))
        return ready

    def _settle(self) -> bool:
        """Wait until whatever is being written can be read; once for all streams, since it may take long."""
        self._barrier()
        self._session.settle_replica()
        return True

    def _chunks_again(self, finding: _Finding) -> list[_Again]:
        """The chunks in which rows appeared."""
        look = finding.look
        chunks = [(look.chunks[number], rows) for number, rows in finding.appeared.items()]
        return [
            _Again(chunk, rows, self._plan(look.stream, chunk, self._span(look, chunk, rows)))
            for chunk, rows in chunks
        ]

    def _read_again(self, stream: StreamProgress, chunks: Sequence[_Again]) -> Emission:
        """Read what appeared."""
        stream.amending = bool(chunks)
        for again in chunks:
            while stream.failed is None and not again.plan.exhausted:
                yield from self._read(stream, self._round(), again.plan)
                yield from self._drain()
            self._session.logger.warning(
                "%s: %d rows appeared in chunk %s that the log does not tell (written compressed, or merged): it was "
                "read again%s.",
                stream.name,
                again.rows,
                again.chunk.name,
                between(stream, again.chunk.span),
            )

    def _round(self) -> Callable[[], bool]:
        """Whether the round that begins now is over."""
        clock, end = self._session.clock, self._session.clock() + ROUND_SECONDS
        return lambda: clock() >= end

    def _span(self, look: _Look, chunk: Chunk, rows: int) -> Span:
        """Where in time the rows are that appeared; everything where that cannot be said."""
        relation, seen = look.stream.request.relation, look.ledger.seen
        assert relation.hypertable is not None
        hypertable = relation.hypertable
        if relation.key or seen is None:
            return EVERYTHING

        def question(connection: Connection) -> Span | None:
            try:
                return new_batches(connection, hypertable, chunk, seen, rows)
            except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
                return None

        return self._session.ask(question, f"Looking for new batches of {look.stream.name}") or EVERYTHING

    def _plan(self, stream: StreamProgress, chunk: Chunk, span: Span) -> ChunkPlan:
        hypertable, own = stream.request.relation.hypertable, stream.opening.plan
        assert hypertable is not None
        if isinstance(own, ChunkPlan) and own.progress.window is not None:
            span = span.meet(Span(*own.progress.window))
        limit = self._session.configuration.timescaledb.max_transaction_seconds
        return ChunkPlan(hypertable, [chunk], Pace(limit=limit), window=span)

    def _close(self, finding: _Finding) -> None:
        """Adopt what was found, and tell what vanished."""
        look, comparison, session = finding.look, finding.comparison, self._session
        stream = look.stream
        if stream.failed is not None:
            return
        look.ledger.adopt(finding.closing)
        stream.amending = False
        if not comparison.readable:
            session.logger.warning(
                "%s: since the last sync more compressed chunks were dropped, or had rows written or deleted unseen by "
                "the log, than can be told apart. Which rows appeared or vanished is not known; the audit starts anew.",
                stream.name,
            )
        vanished = {chunk: -rows for chunk, rows in comparison.differences.items() if rows < 0}
        if not vanished:
            return
        sentence = self._vanished(look, vanished)
        remedy = "Refresh the stream with its data cleared to be rid of them."
        if session.configuration.timescaledb.invisible_deletes is OnVanishedRows.FAIL:
            stream.failed = ConfigurationError(
                sentence,
                remedy=f"{remedy} It is told once: the next sync goes on. `check` names the settings that hide deletes.",
            )
        else:
            session.logger.warning("%s %s", sentence, remedy)

    def _vanished(self, look: _Look, vanished: dict[int, int]) -> str:
        places = [
            f"{rows} in chunk {look.chunks[chunk].name}{between(look.stream, look.chunks[chunk].span)}"
            for chunk, rows in sorted(vanished.items(), key=lambda one: look.chunks[one[0]].span)
        ]
        where = ", ".join(places[:NAMED_AT_MOST])
        more = f" and {len(places) - NAMED_AT_MOST} more chunks" if len(places) > NAMED_AT_MOST else ""
        return (
            f"Rows of {look.stream.name} vanished and the log does not tell which (whole compressed batches were "
            f"deleted, or a chunk was truncated), so a destination still has them: {where}{more}."
        )
