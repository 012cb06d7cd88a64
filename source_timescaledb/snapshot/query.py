"""The SQL of a slice: which rows, from where, and rendered how.

There are four places to read from. A chunk by its own name, which is fastest and sees its compressed rows too (`FROM
chunk`; `ONLY` and `COPY chunk` would silently skip them). A hypertable by the user's name with the chunk's box as a
predicate, where the role is guarded: chunks carry no row-level security and no later column grants. A plain relation by
its name. And the chunk in tiered storage through its hypertable too, because rights on that do not reach it. The rendered
row is one text column, so that whatever is selected travels and is bounded in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from psycopg import sql
from typing_extensions import LiteralString

from source_timescaledb.hypertables import bounds, catalog
from source_timescaledb.hypertables.model import Column, QualifiedName, Relation, ServerVersion, TimeKind
from source_timescaledb.snapshot.slices import ChunkSlice, KeySlice, Slice, TieredSlice, WholeSlice
from source_timescaledb.state.model import Key
from source_timescaledb.types.model import Kind
from source_timescaledb.types.quoting import constant
from source_timescaledb.types.row import concatenated, key, row_arguments

CHUNK_COLUMN: Final = "_ts_chunk"
"""The column that names a row's chunk, where `emit_chunk_metadata` asks for it."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What must hold before and after the rows of a chunk are read (`hypertables.catalog.fingerprint`)."""

    before: str
    after: str
    compressed: int | None
    """The oid of the compressed relation that was locked."""
    file: int | None = None
    """The file in which the chunk was when its columns were known; None where any will do."""


@dataclass(frozen=True, slots=True)
class SliceQuery:
    """Everything a reader needs to read one slice."""

    rows: sql.Composed
    """A SELECT of one text column: the JSON object of each row."""
    locks: tuple[QualifiedName, ...] = ()
    """What to lock, ACCESS SHARE, before the first query of the transaction."""
    fingerprint: Fingerprint | None = None
    tiered: bool | None = None
    """Whether a hypertable that is read by its name gives rows in tiered storage too; None where it has none."""
    followed: bool = False
    """Whether transaction ids of the log will be compared with the slice's snapshot."""


def plain_fingerprint(oid: int) -> Fingerprint:
    """The fingerprint of a table that is no chunk: its file, in the snapshot and live; a partitioned one has none."""
    live = f"coalesce(pg_relation_filenode({oid:d}), 0)::int8, 0, NULL"
    then = f"SELECT relfilenode::int8, 0, NULL, NULL, {live}, pg_current_snapshot()"
    return Fingerprint(f"{then} FROM pg_catalog.pg_class WHERE oid = {oid:d}", f"SELECT {live}", None)


def relation_name(name: QualifiedName) -> sql.Identifier:
    """A name as SQL."""
    return sql.Identifier(name.schema, name.name)


@dataclass(frozen=True, slots=True)
class Selection:
    """What one stream selects from a relation: some of its columns, and perhaps a condition on all of its rows."""

    relation: Relation
    columns: tuple[str, ...]
    server_version: int
    """As libpq counts: 170004 for 17.4."""
    condition: sql.Composable | None = None
    metadata: bool = False
    """Whether every row of a chunk carries the chunk's name as `_ts_chunk`."""
    tiered: bool = False
    """Whether rows in tiered storage are read too, where the relation is read by its name."""
    followed: bool = False
    """Whether changes of the relation are followed: then of a plain table's slice, too, the snapshot must be known."""
    _rendered: dict[str | None, sql.SQL] = field(default_factory=dict, compare=False, repr=False)
    """The row expression as text: made once, not once per slice."""

    def slice_query(self, slice_: Slice, extension: ServerVersion | None) -> SliceQuery:
        """The query of one slice."""
        match slice_:
            case ChunkSlice():
                assert extension is not None
                return self._chunk_query(slice_, extension)
            case KeySlice():
                return self._plain_query(self._key_conditions(slice_))
            case WholeSlice():
                return self._plain_query(())
            case TieredSlice():
                return self._tiered_query(slice_)

    def _chunk_query(self, slice_: ChunkSlice, extension: ServerVersion) -> SliceQuery:
        relation, chunk = self.relation, slice_.chunk
        hypertable = relation.hypertable
        assert hypertable is not None
        conditions: list[sql.Composable] = []
        if slice_.span != chunk.span:
            time = hypertable.time
            assert time.time is not None
            assert time.time is not TimeKind.OPAQUE
            inner = slice_.span.opened(chunk.span)
            conditions += bounds.within(time.column, time.time, inner)
        source = chunk.name
        told: QualifiedName | None = chunk.name
        if relation.guarded:
            source = relation.name
            readable = frozenset(column.name for column in relation.columns)
            conditions += bounds.inside_box(hypertable, chunk, readable)
            if not bounds.box_is_nameable(hypertable, readable):
                told = None  # rows of other chunks may be among these
        locks = (chunk.name,) if chunk.compressed is None else (chunk.name, chunk.compressed.name)
        before, after = catalog.fingerprint(extension, chunk)
        return SliceQuery(
            rows=self._select(source, conditions, told),
            locks=locks if relation.selectable else (),
            fingerprint=Fingerprint(
                before, after, chunk.compressed.oid if chunk.compressed else None, chunk.file
            ),
            tiered=False if relation.tiered and relation.guarded else None,
            followed=self.followed,
        )

    def _tiered_query(self, slice_: TieredSlice) -> SliceQuery:
        """Rows of the tiered chunk, which cannot be locked and has no file: one statement, and no fingerprint."""
        relation = self.relation
        assert relation.hypertable is not None
        time = sql.Identifier(relation.hypertable.time.column)
        conditions = [self._unchanged()]
        if relation.tells_chunks:
            conditions.append(sql.SQL("tableoid = {}").format(sql.Literal(slice_.chunk.oid)))
        if slice_.lower is not None:
            conditions.append(sql.SQL("{} >= {}").format(time, sql.Literal(slice_.lower)))
        if slice_.upper is not None:
            conditions.append(sql.SQL("{} < {}").format(time, sql.Literal(slice_.upper)))
        return SliceQuery(self._select(relation.whole, conditions, slice_.chunk.name), tiered=True)

    def _plain_query(self, conditions: Iterable[sql.Composable]) -> SliceQuery:
        lockable = self.relation.selectable and self.relation.kind.lockable
        return SliceQuery(
            rows=self._select(self.relation.whole, [self._unchanged(), *conditions], None),
            locks=(self.relation.name,) if lockable else (),
            fingerprint=plain_fingerprint(self.relation.oid) if self.followed else None,
            tiered=self.tiered if self.relation.tiered else None,
            followed=self.followed,
        )

    def _select(
        self, source: QualifiedName, conditions: Iterable[sql.Composable], chunk: QualifiedName | None
    ) -> sql.Composed:
        row = self._row(str(chunk) if chunk and self.metadata else None)
        every = [*conditions, *([self.condition] if self.condition is not None else [])]
        where = sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(every)) if every else sql.SQL("")
        return sql.SQL("SELECT {} FROM {}{}").format(row, relation_name(source), where)

    def _unchanged(self) -> sql.Composable:
        """True as long as the selected columns have the types that they are rendered as; else the query fails (22P02).

        A conversion would hide the change: numbers are rounded where an integer was known. The server evaluates this
        once for a query, whose locks keep it true to the end. What fails is reading the names and types as a boolean,
        because an error in a constant would be found before there is a reason for it. A chunk's slice needs none of
        this (it takes 0.3 ms): such a change rewrites the chunk, which its fingerprint shows.
        """
        if not self.columns:
            return sql.SQL("true")
        types = {column.name: column.type.oid for column in self.relation.columns}
        selected = sorted(self.columns, key=str.encode)
        return sql.SQL(
            "(SELECT CASE found.types WHEN {} THEN true ELSE (found.types || '!')::boolean END FROM (SELECT coalesce("
            "string_agg(attname || ' ' || atttypid, ',' ORDER BY attname), '') AS types FROM pg_catalog.pg_attribute"
            " WHERE attrelid = {} AND NOT attisdropped AND attname = ANY (ARRAY[{}]::name[])) AS found)"
        ).format(
            constant(",".join(f"{name} {types[name]}" for name in selected)),
            sql.Literal(self.relation.oid),
            sql.SQL(", ").join(map(constant, selected)),
        )

    def _row(self, chunk: str | None) -> sql.SQL:
        """The expression of a row's JSON object; with metadata, the chunk's name is its last field.

        The object of a followed relation is left open: more fields follow.
        """
        if chunk not in self._rendered:
            types = {column.name: column for column in self.relation.columns}
            parts = [*row_arguments([types[name][:3] for name in self.columns], self.server_version)]
            ending = "" if self.columns else "{"
            if self.metadata:
                ending += (
                    f"{',' if self.columns else ''}{key(CHUNK_COLUMN)}:{key(chunk) if chunk else 'null'}"
                )
            parts[-1] = constant(ending if self.followed else ending + "}")
            self._rendered.clear()
            self._rendered[chunk] = sql.SQL(concatenated(parts).as_string(None))
        return self._rendered[chunk]

    def _key_conditions(self, slice_: KeySlice) -> Iterable[sql.Composable]:
        if slice_.lower is not None:
            yield compare(self.relation, ">=", slice_.lower)
        if slice_.upper is not None:
            yield compare(self.relation, "<", slice_.upper)


def boundary_query(relation: Relation, lower: Key | None, upper: Key | None, rows: int) -> sql.Composed:
    """The key that lies `rows` rows past `lower`, below `upper`, as text columns; no row if there are fewer."""
    key = sql.SQL(", ").join(map(sql.Identifier, relation.key))
    texts = sql.SQL(", ").join(
        sql.SQL("format('%s', {})").format(sql.Identifier(column)) for column in relation.key
    )
    conditions = []
    if lower is not None:
        conditions.append(compare(relation, ">=", lower))
    if upper is not None:
        conditions.append(compare(relation, "<", upper))
    where = sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(conditions)) if conditions else sql.SQL("")
    return sql.SQL("SELECT {} FROM {}{} ORDER BY {} OFFSET {} LIMIT 1").format(
        texts, relation_name(relation.name), where, key, sql.Literal(rows)
    )


def positions_query(relation: Relation, bounds: Sequence[Key], keys: Sequence[Key]) -> sql.Composed:
    """For each key, how many of the bounds, in order, are not above it: as the table's own index orders them.

    The keys become rows beside none of the table's, and so get the types and collations of its columns. Rows of the
    table's own type would not do: a column whose domain takes no NULL refuses to be left out.
    """
    cases = [
        sql.SQL("WHEN NOT {} THEN {}").format(compare(relation, ">=", bound), sql.Literal(number))
        for number, bound in enumerate(bounds)
    ]
    columns = [relation.column(name) for name in relation.key]
    number_name = next(name for name in map(str, range(len(columns) + 1)) if name not in relation.key)
    rows = (
        sql.SQL("UNION ALL SELECT {}, {}").format(
            sql.Literal(number),
            sql.SQL(", ").join(_literal(column, value) for column, value in zip(columns, key, strict=True)),
        )
        for number, key in enumerate(keys)
    )
    return sql.SQL(
        "SELECT CASE {} ELSE {} END FROM (SELECT 0 AS {}, {} FROM {} WHERE false {}) AS one ORDER BY {}"
    ).format(
        sql.SQL(" ").join(cases),
        sql.Literal(len(bounds)),
        sql.Identifier(number_name),
        sql.SQL(", ").join(map(sql.Identifier, relation.key)),
        relation_name(relation.name),
        sql.SQL(" ").join(rows),
        sql.Identifier(number_name),
    )


def compare(relation: Relation, operator: LiteralString, values: Key) -> sql.Composed:
    """A comparison of the relation's key with a whole key given as text."""
    literals = (
        _literal(relation.column(name), value) for name, value in zip(relation.key, values, strict=True)
    )
    return sql.SQL("({}) {} ({})").format(
        sql.SQL(", ").join(map(sql.Identifier, relation.key)), sql.SQL(operator), sql.SQL(", ").join(literals)
    )


def _literal(column: Column | None, value: str) -> sql.Composable:
    """Untyped, so that it takes the type of its column; only a composite's text is not read without being told."""
    if column is None or column.type.kind is not Kind.COMPOSITE:
        return sql.Literal(value)
    return sql.SQL("{}::{}").format(sql.Literal(value), sql.Identifier(column.type.schema, column.type.name))
