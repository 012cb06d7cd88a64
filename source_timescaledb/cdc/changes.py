"""From the replication stream to RECORD lines: every change that is news, in the order of commits, exactly once.

    messages --Begin--> transaction --Insert, Update, Delete--> route --news?--> line --> batch --> writer
                                      Message: fence, marker         Commit: a position to go on from

Rows leave as they come; a transaction of millions of rows is never held. What may be told of progress is only where a
transaction has ended: `position` is the end of the last Commit whose rows have all been handed out. So batches end there
if they can: behind a transaction that was divided, and with small ones as soon as they are half full. Otherwise each
would end inside of a transaction for as long as the server has more, and a backlog of hours be told without a STATE.

A fence ends a drain. It is a message that we have written to the log ourselves, so the stream reaches it however idle the
followed tables are, and nothing that committed before it can come after it.

Rows between compression markers are TimescaleDB's own and change nothing for the application (`pgoutput.regions`).

An UPDATE is judged by halves. Its old row and its new one can lie in different slices, of which one is read and the other
is not; each half is news or not by its own slice. Where the key changes, the old key's row is deleted downstream and the
new one's inserted; otherwise only the new row is told. Without a key the whole row is one: every UPDATE is told as both.

A large value that an UPDATE leaves alone is not sent; lines that need one wait for it in their batch (`cdc.unsent`).

The deletes of a continuous aggregate wait for the end of their transaction, because its refresh inserts most of those
rows again (`cdc.gone`).

What a transaction inserts into chunks and deletes from them is noted, news or not, for the audit (`cdc.ledger`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from source_timescaledb.cdc.clock import OrderClock
from source_timescaledb.cdc.coverage import KeyJudge, Verdict
from source_timescaledb.cdc.followed import LSN_KEY, FollowedStream, after_clock
from source_timescaledb.cdc.gone import GoneRow, GoneRows
from source_timescaledb.cdc.keys import keys_ahead
from source_timescaledb.cdc.lines import Batch, Lines, line_of
from source_timescaledb.cdc.route import Route
from source_timescaledb.cdc.routing import Router
from source_timescaledb.cdc.sightings import Moment, Sightings
from source_timescaledb.cdc.transaction import MisplacedMessage, Transaction, check_place, commit_text
from source_timescaledb.cdc.unsent import Lookup, Wanted, completed
from source_timescaledb.errors import ConfigurationError
from source_timescaledb.hypertables.chunk_events import Fate
from source_timescaledb.lsn import Lsn
from source_timescaledb.pgoutput.decoder import decode
from source_timescaledb.pgoutput.inserts import FRAME_BYTES
from source_timescaledb.pgoutput.messages import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    OldKind,
    Relation,
    Truncate,
    TupleData,
    Update,
)
from source_timescaledb.pgoutput.rows import write_row
from source_timescaledb.postgres.barrier import FENCE_PREFIX
from source_timescaledb.snapshot.held import RECORD_END

_TAG: Final = FRAME_BYTES
_OID: Final = slice(FRAME_BYTES + 1, FRAME_BYTES + 5)
_TAG_AND_OID: Final = slice(FRAME_BYTES, FRAME_BYTES + 5)
_START: Final = slice(1, 9)
_INSERT: Final = ord("I")


class Source(Protocol):
    """Where messages come from (`postgres.replication`)."""

    def drain(self) -> list[bytes]:
        """What has come, in order; nothing if nothing has."""


class Changes:
    """The changes of one sync's streams; used by one thread.

    `position` is where a later process goes on without losing or repeating anything, as long as no slice is fresh.
    """

    def __init__(
        self,
        source: Source,
        router: Router,
        clock: OrderClock,
        lookup: Lookup,
        *,
        position: Lsn,
        truncation_fails: bool,
        sightings: Sightings | None = None,
    ) -> None:
        self.source = source
        self.position = position
        self._router = router
        self._clock = clock
        self._truncation_fails = truncation_fails
        self.sightings = sightings or Sightings()
        self._messages: Sequence[bytes] = ()
        self._at = 0
        self._transaction = Transaction()
        self._fence = b""
        self._fence_seen = self._divided = False
        self._lines = Lines(lookup)
        self._gone = GoneRows()
        self._ending: tuple[Commit, Iterator[GoneRow]] | None = None
        self.in_transaction = False
        self.commit_time = 0
        """When the transaction that is being told, or was told last, was committed: microseconds since 2000."""

    @property
    def rests(self) -> bool:
        """Whether everything up to `position`, and nothing after it, was handed out."""
        return not self.in_transaction and not self._lines

    def reconnect(self, source: Source) -> None:
        """Go on with a new session of the server, which begins at `position`."""
        self.source = source
        self._messages, self._at = (), 0
        self._transaction.discard()
        self._transaction = Transaction()
        self._gone.clear()
        self._ending = None
        self.in_transaction = False
        self._router.forget()

    def until(self, fence: bytes) -> Iterator[Batch]:
        """Everything up to a fence with this content. An empty batch tells that there is nothing to do for the moment.

        Raises ConnectorError.
        """
        self._fence = fence
        self._fence_seen = False
        self._router.rejudge()
        while True:
            if self._take():
                break
            if self._lines:
                yield self._flush()
            else:
                yield Batch(b"", 0)
        if self._lines:
            yield self._flush()

    def _take(self) -> bool:
        """Handle messages until a batch is complete or the server has no more for now; True if the fence is reached."""
        while not self._run():
            self._messages, self._at = self.source.drain(), 0
            if not self._messages:
                return False
        return self._fence_seen and not self.in_transaction

    def _run(self) -> bool:
        """Handle the messages at hand until a batch is complete; then True."""
        messages = self._messages
        complete = self._ending is not None and self._completes(ended=self._end())
        while not complete and self._at < len(messages):
            message = messages[self._at]
            if message[_TAG] == _INSERT:
                self._insert(self._inserts())
                complete = not self._lines.room
            else:
                self._at += 1
                complete = self._completes(ended=self._other(message))
        return complete

    def _completes(self, *, ended: bool) -> bool:
        """Whether a batch is complete now; `ended` if a transaction has just ended."""
        if not ended:
            return not self._lines.room
        return self._fence_seen or self._divided or self._lines.half_full

    def _flush(self) -> Batch:
        self._divided = self.in_transaction
        return self._lines.take()

    def _inserts(self) -> Sequence[bytes]:
        """The Inserts of one relation that come next, as many as there is room for. Most of a hypertable's changes."""
        messages, first = self._messages, self._at
        kind = messages[first][_TAG_AND_OID]
        most = min(len(messages), first + max(1, self._lines.room))
        end = first + 1
        while end < most and messages[end][_TAG_AND_OID] == kind:
            end += 1
        self._at = end
        return messages[first:end]

    def _insert(self, run: Sequence[bytes]) -> None:
        if not self.in_transaction:
            raise MisplacedMessage("an Insert outside of a transaction")
        transaction = self._transaction
        route = self._told(run[0][_OID], len(run))
        if route is None:
            return
        transaction.note(route, len(run))
        if route.judge is not Verdict.NEWS:
            numbered = enumerate(run, self._at - len(run) + 1)
            news = [message for after, message in numbered if self._is_inserted_news(route, message, after)]
            route.owner.stream.counters.filtered += len(run) - len(news)
            run = news
        if route.refreshed and self._gone.waiting:
            run = [message for message in run if not self._is_back(route, _new(route, message))]
        if not run:
            return
        lines, self._clock.value = route.insert(
            run, self._clock.value, route.start, route.infix + LSN_KEY, transaction.tail
        )
        route.owner.stream.emitted += len(lines)
        self._lines.extend(route, lines)

    def _told(self, oid: bytes, rows: int = 1) -> Route | None:
        """The way of row changes that are the application's, of a relation that is followed."""
        route = self._router.route(oid)
        if route is None or not self._transaction.markers.inside:
            return route
        route.owner.stream.counters.marked += rows
        fate = Fate.DECOMPRESSED if self._transaction.markers.decompressing else Fate.COMPRESSED
        self.sightings.formed(route.owner.chunk, fate)
        return None

    def _is_inserted_news(self, route: Route, message: bytes, after: int) -> bool:
        if route.judge is Verdict.UNREAD:
            return route.is_news(self._transaction.xid, ())
        return self._is_news(route, _new(route, message), after)

    def _is_news(self, route: Route, row: TupleData, after: int | None = None) -> bool:
        """Whether a change is; where the server has to be asked for that, for the messages `after` it, too."""
        if isinstance(route.judge, KeyJudge) and route.key:
            key = route.key_of(row)
            if route.judge.placement.wants(key):
                rest = self._messages[self._at if after is None else after :]
                oid = route.relation.oid.to_bytes(4, "big")
                route.judge.placement.foresee([key, *keys_ahead(rest, oid, route.key_of)])
        return route.is_news(self._transaction.xid, row)

    def _is_removed(self, route: Route, row: TupleData) -> bool:
        """Whether it is to be told that a row is gone; the judge is asked each time, to note what a slice has to see."""
        return self._is_news(route, row) or route.exposed

    def _is_back(self, route: Route, new: TupleData) -> bool:
        """Whether a row is back as it was; that it was deleted is forgotten in any case."""
        old = self._gone.take_back(route, new)
        return old is not None and old == write_row(route.fields, new)

    def _other(self, message: bytes) -> bool:
        """Handle anything but an Insert; True if a transaction has ended with it."""
        start = int.from_bytes(message[_START], "big")
        told = decode(message[FRAME_BYTES:])
        check_place(told, inside=self.in_transaction)
        match told:
            case Begin() as begin:
                self._begin(begin)
            case Commit() as commit:
                return self._commit(commit)
            case Relation() as relation:
                owner = self._router.describe(relation, self._transaction.xid)
                self.sightings.sighted(owner, max(self._clock.value, start - 1))
            case Update() as update:
                self._update(update, message[_OID], start)
            case Delete() as delete:
                self._delete(delete, message[_OID], start)
            case Truncate() as truncate:
                self._truncate(truncate)
            case LogicalMessage(True, _, prefix, content):
                if not self._transaction.markers.see(prefix) and prefix == FENCE_PREFIX:
                    self._fence_seen = content == self._fence
        return False

    def _begin(self, begin: Begin) -> None:
        committed_at = commit_text(begin)
        tail = after_clock(committed_at) + RECORD_END
        self._transaction = Transaction(begin.xid, begin.final_lsn, committed_at, tail)
        self.commit_time = begin.commit_time
        self.sightings.commit = Moment(begin.final_lsn, committed_at)
        self.in_transaction, self._divided = True, False

    def _commit(self, commit: Commit) -> bool:
        if commit.lsn != self._transaction.final_lsn:
            raise MisplacedMessage("the Commit of another transaction than it has begun")
        self._ending = commit, iter(self._gone)
        return self._end()

    def _end(self) -> bool:
        """Tell which rows are gone, as many as the batch takes; True if those were all, and the transaction has ended."""
        assert self._ending is not None
        commit, leaving = self._ending
        for gone in leaving:
            gone.route.owner.stream.emitted += 1
            committed_at = self._transaction.committed_at
            line = line_of(gone.route, gone.row, gone.clock, committed_at, deleted=True)
            self._lines.append(gone.route, line)
            if not self._lines.room:
                return False
        self._ending = None
        self._gone.clear()
        self._transaction.finish()
        self.in_transaction = False
        self.position = commit.end_lsn
        return True

    def _update(self, update: Update, oid: bytes, start: int) -> None:
        route = self._told(oid)
        if route is None:
            return
        route.expect(update.old, update.new)
        new = completed(update, route)
        old = update.old
        if old is not None and route.tells_key and route.moves(old, new) and self._is_removed(route, old):
            self._remove(route, old, start, whole=update.old_kind is OldKind.FULL)
        if self._is_news(route, new):
            route.check(old=True)
            if route.refreshed:
                self._gone.take_back(route, new)
            self._emit(route, new, start)
        else:
            if route.exposed:
                route.check(old=True)
            route.owner.stream.counters.filtered += 1

    def _delete(self, delete: Delete, oid: bytes, start: int) -> None:
        route = self._told(oid)
        if route is None:
            return
        route.expect(delete.old)
        self._transaction.note(route, -1)
        if not route.tells_key and (route.exposed or route.judge is not Verdict.UNREAD):
            route.check(old=True)
        if self._is_removed(route, delete.old):
            self._remove(route, delete.old, start, whole=delete.old_kind is OldKind.FULL)
        else:
            route.owner.stream.counters.filtered += 1

    def _remove(self, route: Route, row: TupleData, start: int, *, whole: bool) -> None:
        if not route.refreshed:
            self._emit(route, row, start, deleted=True)
            return
        route.check()
        self._gone.hold(route, row, self._clock.tick(start), whole=whole)

    def _emit(self, route: Route, row: TupleData, start: int, *, deleted: bool = False) -> None:
        route.check()
        now, committed_at = self._clock.tick(start), self._transaction.committed_at
        route.owner.stream.emitted += 1
        if UNCHANGED in row and any(
            field.position is not None and row[field.position] is UNCHANGED for field in route.fields
        ):
            self._lines.await_values(Wanted(route, self._transaction.xid, row), now, committed_at)
            return
        line = line_of(route, write_row(route.fields, row), now, committed_at, deleted=deleted)
        self._lines.append(route, line)

    def _truncate(self, truncate: Truncate) -> None:
        """Count it against the streams of which it emptied something that was read."""
        if self._transaction.markers.inside:
            return
        hit: list[FollowedStream] = []
        for oid in truncate.relations:
            route = self._router.route(oid.to_bytes(4, "big"))
            if route is None or route.owner.stream in hit:
                continue
            if route.loses(self._transaction.xid):
                hit.append(route.owner.stream)
        for stream in hit:
            stream.truncated += 1
            if self._truncation_fails:
                raise ConfigurationError(
                    f"Rows of {stream.name} were removed by TRUNCATE, which names none, so a destination still has them.",
                    remedy="Refresh the stream with its data cleared, or set timescaledb.truncated_tables to warn.",
                )


def _new(route: Route, message: bytes) -> TupleData:
    """The row of an Insert in its frame."""
    insert = decode(message[FRAME_BYTES:])
    assert isinstance(insert, Insert)
    route.expect(insert.new)
    return insert.new
