"""The way of one relation's changes: whose rows they are, how they are written, and which of them are news.

A route is right for the rows that follow the Relation message that it was made from, and for no others: each row has as
many values as that message has columns. The format does not say so, so it is checked wherever a row is taken apart.
What the server cannot have written is an error that does not hold it.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from source_timescaledb.cdc.coverage import ChunkJudge, KeyJudge, Placing, Verdict, WholeJudge
from source_timescaledb.cdc.followed import FollowedStream
from source_timescaledb.errors import ConfigurationError, DefectError
from source_timescaledb.hypertables.bounds import internal_of
from source_timescaledb.hypertables.model import QualifiedName, TimeKind
from source_timescaledb.pgoutput import messages
from source_timescaledb.pgoutput.inserts import RunWriter
from source_timescaledb.pgoutput.messages import TupleData
from source_timescaledb.pgoutput.rows import Field, check_width
from source_timescaledb.state.model import Key
from source_timescaledb.types.texts import malformed

Judge = Verdict | ChunkJudge | KeyJudge | WholeJudge


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose rows a relation holds."""

    stream: FollowedStream
    chunk: int | None
    """The id of the chunk; None for a plain table or a partition, and for a hypertable's own, always empty table."""
    gone: bool = False
    """Whether the chunk had been dropped when the stream told of it."""


@dataclass(slots=True)
class Route:
    """The way of one relation's changes, until the server describes it anew."""

    owner: Owner
    relation: messages.Relation
    fields: tuple[Field, ...]
    insert: RunWriter
    start: bytes
    """What every record line begins with."""
    infix: bytes
    """What stands between a row's fields and those of the change."""
    time: int | None
    """Where the time dimension is among the relation's columns."""
    key: tuple[int, ...]
    """Where the columns of the stream's key are; empty where it has none, or the relation lacks one."""
    tells_key: bool
    """Whether an old row has the stream's key: the replica identity holds it."""
    refreshed: bool
    """Whether a transaction may insert its deleted rows again (`FollowedStream.refreshed`), and tells which they are."""
    trouble: ConfigurationError | None
    """Why its rows cannot be told rightly."""
    judge: Judge
    placing: Placing

    @property
    def exposed(self) -> bool:
        """Whether every removal is to be emitted, whatever the judge says (`Coverage.exposed`)."""
        return self.owner.stream.coverage.exposed

    def expect(self, *rows: TupleData | None) -> None:
        """Refuse rows, of those that are there, that are none of this relation's. Raises DefectError."""
        for row in rows:
            if row is not None:
                check_width(row, len(self.relation.columns))

    def is_news(self, xid: int, row: TupleData) -> bool:
        """Whether a change of this row, of which at least the replica identity is known, is to be emitted."""
        match self.judge:
            case Verdict.NEWS:
                return True
            case Verdict.UNREAD:
                self.owner.stream.coverage.skipped.add(xid)
                return False
            case ChunkJudge() as judge:
                return judge.is_news(xid, self._time_of(row))
            case KeyJudge() as judge:
                if not self.key:
                    self.check()
                return judge.is_news(xid, self.key_of(row))
            case WholeJudge() as judge:
                return judge.is_news(xid)

    def key_of(self, row: TupleData) -> Key:
        """The values of the stream's key in a row. Raises DefectError."""
        self.expect(row)
        try:
            return tuple(_text(row[position]).decode() for position in self.key)
        except UnicodeDecodeError:
            pass  # the exception holds the value: ours must not come from it
        raise malformed("key")

    def name_of(self, row: TupleData) -> bytes:
        """The values of the stream's key in a row as one, by which rows are told apart; no text holds a zero byte."""
        values = (row[position] for position in self.key)
        return b"\0".join(b"n" if value is None else b"t" + _text(value) for value in values)

    def moves(self, old: TupleData, new: TupleData) -> bool:
        """Whether an UPDATE takes a row from its key; without a key the whole row is one, so it always does."""
        return not self.key or any(old[position] != new[position] for position in self.key)

    def loses(self, xid: int) -> bool:
        """Whether a TRUNCATE by this transaction took rows that were read or told.

        A hypertable's own table has none; it is truncated when `create_hypertable` has moved its rows into chunks.
        """
        stream, chunk = self.owner.stream, self.owner.chunk
        if chunk is None and stream.hypertable is not None:
            return False
        match self.judge:
            case Verdict() as verdict:
                return verdict is Verdict.NEWS or self.exposed
            case ChunkJudge():
                assert chunk is not None
                return stream.coverage.has_read(chunk, xid)
            case KeyJudge() as judge:
                return judge.has_read(xid)
            case WholeJudge() as judge:
                return judge.is_news(xid)

    def check(self, *, old: bool = False) -> None:
        """Refuse to tell a row that cannot be told rightly; with `old`, one that was there before.

        Raises ConfigurationError.
        """
        if self.trouble is not None:
            raise self.trouble
        if old and not self.tells_key:
            relation = self.owner.stream.relation
            name, table, columns = relation.name, _quoted(relation.table), ", ".join(relation.key)
            raise ConfigurationError(
                f"The replica identity of {name} leaves out columns of its key ({columns}), so the server does not tell "
                "which rows were changed or deleted.",
                remedy=f"ALTER TABLE {table} REPLICA IDENTITY DEFAULT, or FULL; then refresh the stream.",
            )

    def rejudge(self) -> None:
        """Judge by what is read by now."""
        coverage, owner = self.owner.stream.coverage, self.owner
        if owner.chunk is None:
            self.judge = coverage.of_table(self.placing)
        elif owner.gone:
            self.judge = coverage.of_dropped_chunk(owner.chunk)
        else:
            self.judge = coverage.of_chunk(owner.chunk)

    def _time_of(self, row: TupleData) -> int:
        hypertable = self.owner.stream.hypertable
        assert hypertable is not None
        kind = hypertable.time.time
        if kind is None or kind is TimeKind.OPAQUE:
            return hypertable_floor(self)
        if self.time is None:
            self.check()
        assert self.time is not None
        text = _text(row[self.time])
        try:
            return internal_of(kind, text)
        except ValueError:
            pass  # as above
        raise malformed("time")


def hypertable_floor(route: Route) -> int:
    """A time that lies in the chunk: behind a custom partitioning function a chunk is one slice, so any will do."""
    judge = route.judge
    assert isinstance(judge, ChunkJudge)
    return judge.spans[0].lower


def _text(value: bytes | messages.Unchanged | None) -> bytes:
    if not isinstance(value, bytes):
        raise DefectError("A row came without the value of its time or key column.")
    return value


def _quoted(name: QualifiedName) -> str:
    return sql.Identifier(*name).as_string(None)
