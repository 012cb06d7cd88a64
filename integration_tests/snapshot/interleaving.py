"""A reader that is held still between its snapshot and its rows while somebody else changes the chunk.

That moment is where snapshots of chunks go wrong: TimescaleDB plans from what a chunk is now and reads it as of the
snapshot. The reader is ours, statement by statement, but that its first fingerprint ends with waiting at a gate; so what
happens at that moment happens there in every run. The same is done to a reader that does the obvious: one snapshot,
then the rows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import count

import orjson
import psycopg

from integration_tests.cdc.scenes import until, waits
from source_timescaledb.hypertables.model import (
    Chunk,
    Hypertable,
    QualifiedName,
    Relation,
    ServerFacts,
    ServerVersion,
)
from source_timescaledb.hypertables.registry import read_chunk, read_chunks, read_registry
from source_timescaledb.snapshot.attempt import MAY_BE_GONE
from source_timescaledb.snapshot.held import LineFormat
from source_timescaledb.snapshot.query import Selection, SliceQuery
from source_timescaledb.snapshot.slice_reader import Limits, SliceChanged, SliceReader
from source_timescaledb.snapshot.slices import ChunkSlice
from testkit.database import Database

ROWS = 120
GATE = 4711
SNAPSHOT = "pg_current_snapshot()::text"
HELD_SNAPSHOT = f"(SELECT {SNAPSHOT} FROM public.gate())"
MAKE_GATE = f"""
CREATE FUNCTION public.gate() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WHILE NOT pg_try_advisory_xact_lock({GATE}) LOOP PERFORM pg_sleep(0.01); END LOOP;
END $$
"""
"""It asks again and again, because a reader soon gives up waiting for a lock."""
THROWN_AWAY = (SliceChanged, *MAY_BE_GONE)
"""After these a slice is read again, from what the catalog says then (`snapshot.attempt`)."""
WHOLE = "SELECT"
BY_COLUMN = "SELECT (time, device, value)"
"""Rights with which nothing can be locked: the fingerprint is all there is."""

Act = Sequence[str]
"""Statements, each committed at once, over `{table}` and its chunks `{chunk}` and `{next}`."""
Values = Counter[int]


def values(start: int = 0, end: int = ROWS) -> Values:
    """Each value once."""
    return Counter(range(start, end))


@dataclass(frozen=True, slots=True)
class Play:
    """A hypertable of two chunks of 120 rows; the first one is read, and somebody acts on it."""

    database: Database
    table: str
    chunk: int
    """The oid of the first chunk."""

    @classmethod
    def prepare(cls, database: Database, table: str, given: Act, rights: str, *, compresses: bool) -> Play:
        """Make the table, grant rights on it, and do with it what was done before anybody reads."""
        database.execute(
            f"CREATE TABLE {table} (time timestamptz NOT NULL, device int, value int, note text)".encode()
        )
        database.execute(
            f"SELECT create_hypertable('{table}', 'time', chunk_time_interval => interval '1 day')".encode()
        )
        database.execute(f"GRANT {rights} ON {table} TO {database.reader}".encode())
        if compresses:
            database.execute(
                f"ALTER TABLE {table} SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')".encode()
            )
        database.execute(
            f"INSERT INTO {table} SELECT '2024-01-01'::timestamptz + i * interval '12 minutes', i % 5, i, 'old'"
            f" FROM generate_series(0, {2 * ROWS - 1}) i".encode()
        )
        oid = database.value("SELECT min(oid::int8) FROM (SELECT show_chunks(%s) AS oid) chunks", [table])
        play = cls(database, table, oid)
        play.perform(given)
        return play

    def perform(self, act: Act) -> None:
        """Act, in a session of its own."""
        chunks = "SELECT show_chunks::text FROM show_chunks(%s) WHERE show_chunks <> %s::oid::regclass"
        ((following,),) = self.database.rows(chunks, [self.table, self.chunk])
        names = {"table": self.table, "chunk": self.name, "next": following}
        with closing(self.database.connect("superuser")) as session:
            session.autocommit = True
            for statement in act:
                session.execute(statement.format(**names).encode())

    @property
    def name(self) -> str | None:
        """The name of the first chunk now; None if it is gone."""
        found = self.database.rows("SELECT oid::regclass::text FROM pg_class WHERE oid = %s", [self.chunk])
        return found[0][0] if found else None

    def now(self) -> Values:
        """The values in the first chunk as everybody sees them now; none if it is gone."""
        name = self.name
        return Counter() if name is None else _values_of(self.database.session("owner"), name)

    def naively(self, act: Act, name: str) -> Values | None:
        """What a reader of a relation sees that takes its snapshot before the act and reads after it; None for 42P01."""
        with self.database.connect() as reader:
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT 1 FROM pg_class LIMIT 1")
            self.perform(act)
            try:
                return _values_of(reader, name)
            except psycopg.errors.UndefinedTable:
                return None


def _values_of(connection: psycopg.Connection, chunk: str) -> Values:
    return Counter(value for (value,) in connection.execute(f"SELECT value FROM {chunk}".encode()))


class Reader:
    """Our reader of the first chunk of a play, with the rights of the connector's role."""

    def __init__(self, play: Play, connection: psycopg.Connection) -> None:
        registry = read_registry(connection, ["public"])
        self.connection = connection
        self.server: ServerFacts = registry.server
        self.relation: Relation = registry.relations[QualifiedName("public", play.table)]
        self.chunk: Chunk | None = min(
            read_chunks(connection, self._extension, self._hypertable), key=lambda chunk: chunk.span
        )

    def read(self, *, held: bool = False) -> Values | None:
        """The values of the chunk as it was looked up last; None if they are thrown away, to be read again."""
        if self.chunk is None:
            return Counter()
        columns = tuple(column.name for column in self.relation.columns)
        selection = Selection(self.relation, columns, self.server.version_number)
        query = selection.slice_query(ChunkSlice(self.chunk, self.chunk.span), self._extension)
        reader = SliceReader(self.connection, time.monotonic)
        try:
            read = reader.read(
                _held(query) if held else query, LineFormat(self.relation.name, 0), Limits(None, 100), None
            )
        except THROWN_AWAY:
            return None
        with closing(read.rows):
            lines = b"".join(read.rows.pieces()).splitlines()
        return Counter(orjson.loads(line)["record"]["data"]["value"] for line in lines)

    def read_again(self) -> Values | None:
        """The values of the chunk as it is looked up now."""
        assert self.chunk is not None
        self.chunk = read_chunk(self.connection, self._extension, self._hypertable, self.chunk.oid)
        return self.read()

    @property
    def _extension(self) -> ServerVersion:
        assert self.server.extension is not None
        return self.server.extension

    @property
    def _hypertable(self) -> Hypertable:
        assert self.relation.hypertable is not None
        return self.relation.hypertable


def _held(query: SliceQuery) -> SliceQuery:
    assert query.fingerprint is not None
    return replace(
        query, fingerprint=replace(query.fingerprint, before=waiting_at_the_gate(query.fingerprint.before))
    )


def waiting_at_the_gate(before: str) -> str:
    """The query of a first fingerprint that waits after all that it looks at."""
    assert before.count(SNAPSHOT) == 1
    return before.replace(SNAPSHOT, HELD_SNAPSHOT)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a read went during which somebody acted."""

    values: Values | None
    """What was read; None if it was thrown away."""
    waited: bool
    """Whether the act had to wait for the reader."""


def make_gate(database: Database) -> None:
    """Make what readers wait at."""
    database.as_superuser().execute(MAKE_GATE.encode())


@contextmanager
def closed_gate(database: Database) -> Iterator[Callable[[], object]]:
    """Whoever comes to the gate waits there, until it is opened by calling what this gives."""
    with closing(database.connect("superuser")) as gate:
        gate.autocommit = True
        gate.execute("SELECT pg_advisory_lock(%s)", [GATE])
        yield lambda: gate.execute("SELECT pg_advisory_unlock(%s)", [GATE])


def read_during(play: Play, reader: Reader, act: Act) -> Outcome:
    """Let somebody act while a reader is between its snapshot and its rows."""
    with closed_gate(play.database) as open_, ThreadPoolExecutor() as threads:
        reading = threads.submit(reader.read, held=True)
        until(waits(play.database, reader.connection, "PgSleep"))
        acting = threads.submit(play.perform, act)
        until(lambda: acting.done() or _somebody_waits_for(play.database, reader.connection))
        waited = not acting.done()
        open_()
        found = reading.result()
        acting.result()
    return Outcome(found, waited)


def _somebody_waits_for(database: Database, connection: psycopg.Connection) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
    found = database.as_superuser().execute(query, [connection.info.backend_pid]).fetchone()
    return found != (0,)


class Violation:
    """One row of the table of snapshot violations: what the chunk is before, and what is done to it."""

    def __init__(self, database: Database, act: Act, *, given: Act = (), compresses: bool = True) -> None:
        self._database = database
        self._act = act
        self._given = given
        self._compresses = compresses
        self._numbers = count(1)
        make_gate(database)

    def naively(self) -> Values | None:
        """What the obvious reader of the chunk sees; None for 42P01."""
        play = self._play(WHOLE)
        assert play.name is not None
        return play.naively(self._act, play.name)

    def naively_by_hypertable(self) -> Values | None:
        """What the obvious reader of all chunks sees."""
        play = self._play(WHOLE)
        return play.naively(self._act, play.table)

    def told(self) -> tuple[Outcome, Outcome]:
        """What our reader makes of it, with SELECT on the table and with column privileges only, which lock nothing.

        Fails unless each of them reads what there was before the act, or throws that away, and after it what there is.
        """
        with self._reader(WHOLE) as (play, reader):
            play.perform(self._act)
            assert reader.read() in (None, play.now()), "the chunk has changed since it was looked up"
            assert reader.read_again() == play.now()
        return self._outcome(WHOLE), self._outcome(BY_COLUMN)

    def _outcome(self, rights: str) -> Outcome:
        with self._reader(rights) as (play, reader):
            assert reader.relation.selectable is (rights == WHOLE)
            before = play.now()
            outcome = read_during(play, reader, self._act)
            assert outcome.values in (None, before)
            assert reader.read_again() == play.now()
            return outcome

    @contextmanager
    def _reader(self, rights: str) -> Iterator[tuple[Play, Reader]]:
        play = self._play(rights)
        with closing(self._database.connect("reader")) as connection:
            connection.autocommit = True
            yield play, Reader(play, connection)

    def _play(self, rights: str) -> Play:
        name = f"metrics_{next(self._numbers)}"
        return Play.prepare(self._database, name, self._given, rights, compresses=self._compresses)
