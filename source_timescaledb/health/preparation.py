"""What a sync does to the server before it follows changes, as far as the settings allow.

Publication first, then the slot: a slot that is older than its publication fails at the first change it decodes. Nothing
is judged here: what a sync must refuse are findings, as `check` and `doctor` tell them. What may be added without asking
(`manage_publication: chunks`) is only what nobody would miss: chunks of hypertables that the publication lists already,
which TimescaleDB does not add by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from source_timescaledb.cdc.aggregates import check_identified
from source_timescaledb.config.replication import Cdc
from source_timescaledb.config.timescaledb import ManagePublication
from source_timescaledb.errors import ConfigurationError
from source_timescaledb.health.facts import Aim
from source_timescaledb.health.finding import raise_first
from source_timescaledb.health.probes import read_standing
from source_timescaledb.health.publication import absent, missing_chunks_findings
from source_timescaledb.health.standing import position_findings
from source_timescaledb.hypertables.model import QualifiedName
from source_timescaledb.hypertables.naming import listed
from source_timescaledb.postgres.connection import Connection
from source_timescaledb.postgres.publication import (
    Publication,
    add_tables,
    create_publication,
    missing_chunks,
    read_publication,
)
from source_timescaledb.postgres.slot import create_slot, read_slot
from source_timescaledb.postgres.timeline import WalPoint


def complete_publication(connection: Connection, aim: Aim, unlisted: Sequence[QualifiedName]) -> Publication:
    """The publication, made or with the `unlisted` tables added where the settings say so.

    `connection` is a writing one. Raises ConnectorError, and psycopg errors as they come.
    """
    name, full = aim.cdc.publication, aim.settings.manage_publication is ManagePublication.FULL
    publication = read_publication(connection, name)
    if publication is not None:
        if full and unlisted:
            check_identified(connection, [one for one in aim.relations if one.table in unlisted])
            add_tables(connection, name, unlisted)
        return publication
    if not full:
        raise absent(aim).error
    create_publication(connection, name, [(relation.table_oid, relation.table) for relation in aim.relations])
    made = read_publication(connection, name)
    assert made is not None
    return made


def publish_chunks(
    connection: Connection, publication: Publication, aim: Aim, begun: Container[int] = ()
) -> int:
    """Add the chunks that are not published, as far as that may be done; how many they were.

    Raises ConfigurationError if it may not, or one of them is among those that have `begun`, and psycopg errors as they
    come.
    """
    relations = aim.relations
    hypertables = {
        relation.hypertable.oid: relation for relation in relations if relation.hypertable is not None
    }
    missing = missing_chunks(connection, publication, hypertables) if hypertables else []
    if not missing:
        return 0
    if left := [chunk for chunk in missing if chunk.oid in begun]:
        streams = sorted({hypertables[chunk.hypertable].name for chunk in left})
        raise ConfigurationError(
            f"{len(left)} chunks left the publication {publication.name} after they were followed there: "
            f"{listed([chunk.name for chunk in left])}. What was written to them meanwhile is not sent.",
            remedy=f"Refresh {listed(streams)}.",
        )
    check_identified(connection, relations)
    raise_first(missing_chunks_findings(publication, aim.settings.manage_publication, missing, aim.server))
    add_tables(connection, publication.name, [chunk.name for chunk in missing])
    return len(missing)


def prepare_slot(
    replication: Connection,
    watching: Connection,
    cdc: Cdc,
    manage: ManagePublication,
    kept: WalPoint | None,
    *,
    seconds: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> WalPoint:
    """Prove that the slot can be read from where the state stands; make one, where that is allowed and nothing is kept.

    Returns where the server stands; `seconds` is how long open writers are waited for. Raises ConnectorError, and psycopg
    errors as they come.
    """
    name = cdc.replication_slot
    if kept is None and manage is ManagePublication.FULL and read_slot(watching, name) is None:
        create_slot(replication, watching, name, seconds=seconds, clock=clock, sleep=sleep)
    return check_slot(replication, name, kept)


def check_slot(replication: Connection, name: str, kept: WalPoint | None) -> WalPoint:
    """Prove that the server goes on where `kept` stands and that a slot can be read from there.

    Returns where the server stands. Raises ConnectorError, and psycopg errors as they come.
    """
    standing, slot = read_standing(replication), read_slot(replication, name)
    information = replication.info
    raise_first(position_findings(name, slot, information.dbname, kept, standing, information.server_version))
    assert standing.here is not None
    return standing.here
