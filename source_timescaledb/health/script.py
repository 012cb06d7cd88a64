"""One SQL script that prepares a database for a configuration: role, grants, identities, publication, slot, settings.

It holds what the configuration needs whatever the database looks like, written so that it may be run again, and what the
findings say. Nothing in it is a secret: the password is a placeholder. What its owner alone can decide stands in it as a
comment.

Names come from a database and may hold anything, also the end of a line. So a comment is begun anew on every line of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson
from psycopg import sql

from source_timescaledb.config.model import Configuration
from source_timescaledb.health.facts import Aim
from source_timescaledb.health.finding import Finding, Topic
from source_timescaledb.health.report import printable
from source_timescaledb.hypertables.model import Registry
from source_timescaledb.postgres.fitness import making
from source_timescaledb.postgres.publication import creation
from source_timescaledb.remedy import Statement, grant

PLACEHOLDER: Final = "<password>"
_END_OF_LINE: Final = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Part:
    """Some statements that belong together, and why they are there."""

    topic: Topic
    why: str
    statements: tuple[Statement, ...]
    choice: bool = False


def script(
    configuration: Configuration, registry: Registry | None, aim: Aim | None, findings: Sequence[Finding]
) -> str:
    """The script; without a registry, because nobody could log in, what can be said without one."""
    found = [
        Part(one.topic, f"{one.sentence} {one.remedy}".strip(), one.statements, one.choice)
        for one in findings
        if one.statements
    ]
    told = {statement for part in found if not part.choice for statement in part.statements}
    ground = [
        replace(part, statements=tuple(one for one in part.statements if one not in told))
        for part in (*_role(configuration, registry), *_log(aim))
    ]
    topics = list(Topic)
    lines = list(_opening(configuration, registry, findings))
    for part in sorted([*ground, *found], key=lambda part: topics.index(part.topic)):
        lines += _lines(part)
    return "\n".join([*lines, *_rest(findings), ""])


def _role(configuration: Configuration, registry: Registry | None) -> Iterator[Part]:
    """What every such role needs."""
    name = configuration.username
    role = sql.Identifier(name)
    creation_of_role = Statement.of(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, PLACEHOLDER),
        unless=sql.SQL("EXISTS (SELECT FROM pg_roles WHERE rolname = {})").format(name),
    )
    yield Part(
        Topic.RIGHTS,
        "The role. Put its password in place of the placeholder; a role that exists keeps its own.",
        (creation_of_role,),
    )
    schemas, database = _schemas(configuration, registry), [configuration.database]
    usage = [grant("USAGE ON SCHEMA", [schema], name) for schema in schemas]
    connects = grant("CONNECT ON DATABASE", database, name)
    yield Part(Topic.RIGHTS, "It connects to the database and uses its schemas.", (connects, *usage))
    if registry is None:
        reads = tuple(grant("SELECT ON ALL TABLES IN SCHEMA", [schema], name) for schema in schemas)
        yield Part(Topic.RIGHTS, "It reads what lies in them.", reads)
    if configuration.cdc is not None:
        replicates = Statement.of(sql.SQL("ALTER ROLE {} REPLICATION").format(role))
        temporary = grant("TEMPORARY ON DATABASE", database, name)
        why = "It replicates, and marks where it begins by a temporary table."
        yield Part(Topic.RIGHTS, why, (replicates, temporary))


def _schemas(configuration: Configuration, registry: Registry | None) -> Sequence[str]:
    if configuration.schemas or registry is None:
        return configuration.schemas or ("public",)
    return sorted({name.schema for name in (*registry.relations, *registry.forbidden)})


def _log(aim: Aim | None) -> Iterator[Part]:
    """What following changes needs."""
    if aim is None:
        return
    tables = [relation.table for relation in aim.followable if not relation.guarded]
    if tables:
        made = creation(aim.cdc.publication, tables, tiered=aim.tiered)
        yield Part(Topic.PUBLICATION, "The publication, before the slot.", (made,))
    slot = making(aim.cdc.replication_slot, aim.server.version_number)
    yield Part(Topic.SLOT, "The slot, which keeps the server's log until it is read.", (slot,))


def _opening(
    configuration: Configuration, registry: Registry | None, findings: Sequence[Finding]
) -> Iterator[str]:
    yield from _comment(
        f"What source-timescaledb needs in the database {configuration.database}, as the role {configuration.username}.\n"
        "Run it in that database as a superuser, each statement by itself, as psql does. It may be run again."
    )
    if registry is None:
        yield from _comment(
            "Nobody could log in, so tables, publication and slot are not in it yet: run it, and ask again."
        )
    if any(statement.restart for one in findings for statement in one.statements):
        yield from _comment(
            "RESTART: a statement that is marked so takes effect when the server is restarted. Restart it then, and run "
            "all of this again."
        )


def _lines(part: Part) -> Iterator[str]:
    if not part.statements:
        return
    yield ""
    yield from _comment(part.why)
    if part.choice:
        yield from _comment("Yours to choose, so it is not run as it stands here:")
    for statement in part.statements:
        if statement.restart:
            yield from _comment("RESTART")
        if part.choice:
            yield from _comment(statement.repeatable)
        else:
            yield statement.repeatable


def _rest(findings: Sequence[Finding]) -> Iterator[str]:
    """What no SQL mends."""
    others = [one for one in findings if not one.statements and (one.remedy or one.settings)]
    settings = {path: value for one in findings for path, value in one.settings.items()}
    if others or settings:
        yield ""
        yield from _comment("What is not done by SQL:")
    for one in others:
        yield from _comment(f"{one.sentence} {one.remedy}")
    if settings:
        changed = ", ".join(f"{path} = {orjson.dumps(value).decode()}" for path, value in settings.items())
        yield from _comment(f"In the configuration of the connector: {changed}.")


def _comment(text: str) -> list[str]:
    return [f"-- {printable(line)}" for line in _END_OF_LINE.split(text)]
