"""Which continuous aggregates have changes that can be followed, and what stands in the way of the others.

The rows of a continuous aggregate lie in a hypertable of TimescaleDB's own, without a primary key. A refresh deletes from
it, and under a publication PostgreSQL refuses that (55000) until the table has a replica identity: the refresh fails, and
with it the application's policies. So the order matters, identity before publication, and both are the user's to decide:

    ALTER TABLE _timescaledb_internal._materialized_hypertable_2 REPLICA IDENTITY FULL;
    ALTER PUBLICATION airbyte ADD TABLE _timescaledb_internal._materialized_hypertable_2;

Where both are done the changes are followed. Where one is missing, the aggregate is read as without change data capture,
and told with what it lacks. We add nothing of an aggregate to a publication that has no identity, and set none: on a
large table FULL makes the log larger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from psycopg import sql

from source_timescaledb.errors import ConfigurationError
from source_timescaledb.hypertables.model import Obstacle, QualifiedName, Registry, Relation
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.postgres.identity import (
    ReplicaIdentity,
    identification,
    replica_identities,
    unsafe_identities,
)
from source_timescaledb.postgres.publication import (
    Publication,
    addition,
    published,
    read_publication,
)
from source_timescaledb.remedy import Statement

_MATERIALIZATIONS: Final = """
SELECT g.user_view_schema::text, g.user_view_name::text, c.oid::int8, n.nspname::text, c.relname::text
FROM _timescaledb_catalog.continuous_agg g
JOIN _timescaledb_catalog.hypertable h ON h.id = g.mat_hypertable_id
JOIN pg_catalog.pg_namespace n ON n.nspname = h.schema_name
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = h.table_name
ORDER BY 1, 2
"""

_FAMILY: Final = """
SELECT o, o FROM unnest(%(oids)s::int8[]) o
UNION ALL
SELECT inhparent::int8, inhrelid::int8 FROM pg_catalog.pg_inherits WHERE inhparent = ANY(%(oids)s::int8[]::oid[])
"""


@dataclass(frozen=True, slots=True)
class Unrefreshable:
    """A continuous aggregate whose refresh fails under a publication."""

    view: QualifiedName
    table: QualifiedName
    """The hypertable that holds its rows."""


def with_followed_aggregates(
    connection: Connection, registry: Registry, publication: str, *, adds_tables: bool
) -> Registry:
    """The registry, in which each continuous aggregate says whether it can be followed.

    With `adds_tables`, what has an identity need not be published yet. Raises psycopg errors as they come.
    """
    aggregates = [relation for relation in registry.relations.values() if relation.aggregate is not None]
    if not aggregates:
        return registry
    oids = [relation.table_oid for relation in aggregates if relation.hypertable is not None]
    found = read_publication(connection, publication)
    listed = published(connection, found, oids) if found is not None else set()
    identities = replica_identities(connection, oids)
    judged = {
        relation.name: _judged(
            relation,
            publication,
            _identified(relation, identities),
            listed=relation.table_oid in listed,
            adds_tables=adds_tables,
        )
        for relation in aggregates
    }
    return replace(registry, relations={**registry.relations, **judged})


def check_identified(connection: Connection, relations: Iterable[Relation]) -> None:
    """Refuse to publish anything of a continuous aggregate that has lost its replica identity since it was judged.

    Raises ConfigurationError, and psycopg errors as they come.
    """
    for relation in relations:
        if relation.aggregate is None:
            continue
        if not _identified(relation, replica_identities(connection, [relation.table_oid])):
            raise ConfigurationError(
                f"{relation.table}, which holds the rows of {relation.name}, has lost its replica identity: in a "
                "publication its refresh would fail.",
                statements=[identification(relation.table)],
            )


def unrefreshable(connection: Connection, publication: Publication) -> list[Unrefreshable]:
    """The continuous aggregates of the database whose refresh fails because of a publication.

    Those that the connector does not offer are among them. Raises psycopg errors as they come.
    """
    if not (publication.updates or publication.deletes):
        return []
    found = {
        row[2]: Unrefreshable(QualifiedName(*row[:2]), QualifiedName(*row[3:]))
        for row in connection.execute(_MATERIALIZATIONS).fetchall()
    }
    unsafe = [identity.family or identity.oid for identity in unsafe_identities(connection, found)]
    family = connection.execute(_FAMILY, {"oids": unsafe}).fetchall()
    covered = published(connection, publication, (member for _, member in family))
    hit = {table for table, member in family if member in covered}
    return [one for oid, one in found.items() if oid in hit]


def _identified(relation: Relation, identities: Iterable[ReplicaIdentity]) -> bool:
    """Whether the old rows of all of its chunks have its key."""
    own = [one for one in identities if relation.table_oid in (one.oid, one.family)]
    return bool(own) and all(one.tells(relation.key) for one in own)


def _judged(
    relation: Relation, publication: str, identified: bool, *, listed: bool, adds_tables: bool
) -> Relation:
    assert relation.aggregate is not None
    obstacle = _hidden(relation)
    if obstacle is None and not (identified and (listed or adds_tables)):
        obstacle = Obstacle(
            _reason(relation.table, publication, identified=identified, listed=listed or adds_tables),
            tuple(_statements(relation.table, publication, identified=identified, listed=listed)),
        )
    aggregate = replace(relation.aggregate, followed=obstacle is None, obstacle=obstacle)
    return replace(relation, aggregate=aggregate)


def _hidden(relation: Relation) -> Obstacle | None:
    """What of it the role may not see; the log knows neither row-level security nor column privileges."""
    assert relation.aggregate is not None
    if not relation.aggregate.finalized:
        return Obstacle(
            "its stored rows are partial states, of the form before TimescaleDB 2.7.",
            (
                Statement.of(
                    sql.SQL("CALL cagg_migrate({})").format(sql.Identifier(*relation.name).as_string(None))
                ),
            ),
        )
    if relation.hypertable is None or relation.guarded:
        return Obstacle(
            "the role may not read all of it.",
            remedy="Grant SELECT on it to the role, and let no row-level security apply.",
        )
    return None


def _reason(table: QualifiedName, publication: str, *, identified: bool, listed: bool) -> str:
    identity = f"{table}, which holds its rows, has no replica identity that tells its key"
    if listed:
        return f"{identity}."
    absence = f"not in the publication {publication}"
    return f"{table}, which holds its rows, is {absence}." if identified else f"{identity}, and is {absence}."


def _statements(
    table: QualifiedName, publication: str, *, identified: bool, listed: bool
) -> Sequence[Statement]:
    """What makes it followable, in the only order that harms no refresh."""
    identity = [] if identified else [identification(table)]
    return identity if listed else [*identity, *addition(publication, [table], whole=True)]
