"""What a publication lacks for the relations whose changes are to be followed, and whom it would harm.

Pure. A sync, `check` and `doctor` judge by this alone. What the connector may do by itself (`manage_publication`) is no
finding; what it may, and the role may not, is one. Which streams a connection selects is not always known: then a table
that the publication leaves out is a warning as long as the publication lists any.

Replica identities come before the publication, in the order of topics too: published without one, the application's own
UPDATE and DELETE fail (55000).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from psycopg import sql

from source_timescaledb.config.timescaledb import ManagePublication
from source_timescaledb.health.facts import Aim, ReplicationFacts
from source_timescaledb.health.finding import Finding, Severity, Topic
from source_timescaledb.hypertables.model import QualifiedName, ServerFacts, ServerVersion
from source_timescaledb.hypertables.naming import listed, quoted
from source_timescaledb.postgres.identity import ReplicaIdentity
from source_timescaledb.postgres.publication import (
    MissingChunk,
    Publication,
    Restricted,
    addition,
    creation,
    publishing,
    widening,
)
from source_timescaledb.remedy import Statement, grant

AUTO_PUBLICATION: Final = ServerVersion(2, 25)
"""TimescaleDB 2.25 brought `enable_chunk_auto_publication`, off by default."""
STORED_COLUMNS: Final = 180_000
"""PostgreSQL 18 sends stored generated columns where a publication says so."""

_OR_FULL: Final = "Or set timescaledb.manage_publication to full."


def publication_findings(aim: Aim, facts: ReplicationFacts) -> Iterator[Finding]:
    """All that is wrong with the publication, or will be once the connector has done its part."""
    publication, manage = facts.publication, aim.settings.manage_publication
    yield from _identities(aim, facts)
    if publication is None:
        if manage is not ManagePublication.FULL:
            yield absent(aim)
        else:
            yield from _unmakeable(aim, facts)
        return
    yield from _operations(publication)
    yield from _restrictions(aim, publication)
    if facts.unlisted:
        yield from _unlisted(aim, publication, facts)
    yield from missing_chunks_findings(publication, manage, facts.missing, aim.server)
    yield from _unsent(aim, publication, facts)


def absent(aim: Aim) -> Finding:
    """There is no publication, and the connector may make none."""
    tables = [relation.table for relation in aim.followable if not relation.guarded]
    return Finding(
        Severity.BLOCKING,
        Topic.PUBLICATION,
        f"There is no publication {quoted([aim.cdc.publication])}.",
        f"Run that as the tables' owner. {_OR_FULL}",
        statements=(creation(aim.cdc.publication, tables, tiered=aim.tiered),) if tables else (),
    )


def missing_chunks_findings(
    publication: Publication, manage: ManagePublication, missing: Sequence[MissingChunk], server: ServerFacts
) -> Iterator[Finding]:
    """Chunks whose changes would be lost, unless they are of those that the connector adds by itself."""
    addable = publication.owned and all(chunk.owned for chunk in missing)
    if not missing or (addable and manage is not ManagePublication.OFF):
        return
    names = [chunk.name for chunk in missing]
    by_itself = server.extension is not None and server.extension >= AUTO_PUBLICATION
    auto = [_auto_publication(server)] if by_itself else []
    why = "" if manage is ManagePublication.OFF else " The role does not own both, so it cannot add them."
    yield Finding(
        Severity.BLOCKING,
        Topic.PUBLICATION,
        f"{len(names)} chunks are not in the publication {publication.name}, so their changes would be lost: "
        f"{listed(names)}.{why}",
        "Run that as the owner of the publication and its tables."
        + (" The first lets the server add the chunks that will come." if by_itself else "")
        + (" Or set timescaledb.manage_publication to chunks." if addable else ""),
        statements=(*auto, *addition(publication.name, names)),
    )


def _auto_publication(server: ServerFacts) -> Statement:
    statement = sql.SQL("ALTER DATABASE {} SET timescaledb.enable_chunk_auto_publication = on")
    return Statement.of(statement.format(sql.Identifier(server.database)))


def _identities(aim: Aim, facts: ReplicationFacts) -> Iterator[Finding]:
    name, full = aim.cdc.publication, aim.settings.manage_publication is ManagePublication.FULL
    if facts.unsafe:
        yield Finding(
            Severity.WARNING,
            Topic.IDENTITY,
            f"The publication {name} makes the application's UPDATE and DELETE fail on {_named(facts.unsafe)}, which "
            "have no usable replica identity.",
            "Run that as their owner.",
            statements=tuple(identity.remedy for identity in facts.unsafe),
        )
    if facts.endangered:
        yield Finding(
            Severity.BLOCKING if full else Severity.WARNING,
            Topic.IDENTITY,
            f"In the publication {name} the application's UPDATE and DELETE would fail on {_named(facts.endangered)}, "
            "which have no usable replica identity.",
            f"Run that as their owner, {'else they are not added' if full else 'before they are added'}.",
            statements=tuple(identity.remedy for identity in facts.endangered),
        )
    if names := sorted({one.name for one in facts.silent}):
        yield Finding(
            Severity.BLOCKING if aim.chosen else Severity.WARNING,
            Topic.IDENTITY,
            f"The replica identity of {listed(names)} leaves out columns of the key, so the log does not tell which rows "
            "were changed or deleted.",
            "Run that as their owner. If rows were changed or deleted meanwhile, refresh the stream too.",
            statements=tuple(one.mend for one in facts.silent),
            choice=not aim.chosen,
        )


def _named(identities: Sequence[ReplicaIdentity]) -> str:
    return listed([identity.name for identity in identities])


def _unmakeable(aim: Aim, facts: ReplicationFacts) -> Iterator[Finding]:
    """What keeps the role from making a publication by itself."""
    role, database = aim.server.role, aim.server.database
    if not facts.may_create:
        yield Finding(
            Severity.BLOCKING,
            Topic.RIGHTS,
            f"The role {role} is to make the publication {aim.cdc.publication}, and may make none in the database "
            f"{database}.",
            statements=(grant("CREATE ON DATABASE", [database], role),),
        )
    if facts.unowned:
        tables = [relation.table for relation in aim.followable if not relation.guarded]
        yield Finding(
            Severity.BLOCKING,
            Topic.PUBLICATION,
            f"The role {role} is to make the publication {aim.cdc.publication}, and does not own "
            f"{listed(facts.unowned)}.",
            "Run that as their owner.",
            statements=(creation(aim.cdc.publication, tables, tiered=aim.tiered),),
        )


def _operations(publication: Publication) -> Iterator[Finding]:
    there = {
        "inserts": publication.inserts,
        "updates": publication.updates,
        "deletes": publication.deletes,
    }
    left_out = [word for word, published in there.items() if not published]
    if left_out:
        yield Finding(
            Severity.WARNING if publication.inserts else Severity.BLOCKING,
            Topic.PUBLICATION,
            f"The publication {publication.name} does not publish {' and '.join(left_out)}: a destination will not see "
            "them.",
            statements=(publishing(publication.name),),
        )


def _restrictions(aim: Aim, publication: Publication) -> Iterator[Finding]:
    narrowed, members = _restricted(aim, publication.narrowed)
    if narrowed:
        yield Finding(
            Severity.BLOCKING if aim.chosen else Severity.WARNING,
            Topic.PUBLICATION,
            f"The publication {publication.name} publishes only some columns of {listed(narrowed)}: the others would "
            "read as null, so they cannot be followed.",
            "Publish whole tables. A stream that was followed before has to be refreshed.",
            statements=tuple(widening(publication.name, members)),
        )
    filtered, members = _restricted(aim, publication.filtered)
    if filtered:
        yield Finding(
            Severity.WARNING,
            Topic.PUBLICATION,
            f"The publication {publication.name} publishes only the rows of {listed(filtered)} that pass its filter; "
            "the first load reads all of them.",
            "If all are wanted, publish whole tables. A stream that was followed before has to be refreshed.",
            statements=tuple(widening(publication.name, members)),
            choice=True,
        )


def _restricted(
    aim: Aim, restricted: Sequence[Restricted]
) -> tuple[list[QualifiedName], list[QualifiedName]]:
    """Of what is to be followed, the names of what is restricted, and those of its tables and chunks that are."""
    families = {relation.table_oid: relation.name for relation in aim.followable}
    members = [one for one in restricted if one.family in families]
    return sorted({families[one.family] for one in members}), [one.name for one in members]


def _unlisted(aim: Aim, publication: Publication, facts: ReplicationFacts) -> Iterator[Finding]:
    full = aim.settings.manage_publication is ManagePublication.FULL
    if full and publication.owned and not facts.unowned:
        return
    blocking = aim.chosen or full or len(facts.unlisted) == len(aim.followable)
    yield Finding(
        Severity.BLOCKING if blocking else Severity.WARNING,
        Topic.PUBLICATION,
        f"The publication {publication.name} does not list {listed(facts.unlisted)}: their changes cannot be followed."
        + (" The role does not own both, so it cannot add them." if full else ""),
        "Run that as its owner." + ("" if full else f" {_OR_FULL}"),
        statements=tuple(addition(publication.name, facts.unlisted, whole=True, tiered=aim.tiered)),
        choice=not blocking,
    )


def _unsent(aim: Aim, publication: Publication, facts: ReplicationFacts) -> Iterator[Finding]:
    """Columns whose values the server computes and does not send: their changes would read as null."""
    nothing: frozenset[str] = frozenset()
    for name, columns in facts.unsent.items():
        unsent = [column for column in columns if column not in aim.unselected.get(name, nothing)]
        if not unsent:
            continue
        sends = aim.server.version_number >= STORED_COLUMNS
        statement = sql.SQL("ALTER PUBLICATION {} SET (publish_generated_columns = stored)")
        yield Finding(
            Severity.BLOCKING if aim.chosen else Severity.WARNING,
            Topic.PUBLICATION,
            f"Columns of {name} are generated, and the server does not send their values with changes: "
            f"{listed(unsent)}.",
            "Virtual ones have to be deselected in the connection."
            if sends
            else "Deselect them in the connection. From PostgreSQL 18 on, stored ones can be sent.",
            statements=(Statement.of(statement.format(sql.Identifier(publication.name))),) if sends else (),
        )
