"""One look at a database for `check` and `doctor`: all that a sync would meet, judged as the sync would judge it.

Without a catalog every relation that is offered counts as wanted, and what only some of them lack is a warning. With one,
its streams are matched as a sync matches them, and a state is read as a sync reads it; each refusal is a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import psycopg
from airbyte_cdk.models import ConfiguredAirbyteCatalog

from source_timescaledb.airbyte.catalog import (
    CHUNK_EVENTS,
    Mode,
    StreamRequest,
    aim_of,
    check_catalog,
    check_chunk_events,
    offered,
    request,
    stream_name,
)
from source_timescaledb.cdc.aggregates import with_followed_aggregates
from source_timescaledb.config.model import Configuration
from source_timescaledb.config.timescaledb import ManagePublication
from source_timescaledb.errors import ConfigurationError, ConnectorError
from source_timescaledb.health.diagnosis import diagnose
from source_timescaledb.health.facts import Aim, Standing
from source_timescaledb.health.finding import Finding, Severity, Topic, ordered
from source_timescaledb.health.probes import probe, read_standing
from source_timescaledb.hypertables.model import QualifiedName, Registry, Relation
from source_timescaledb.hypertables.registry import read_registry, read_server_facts
from source_timescaledb.postgres.connection import Connection, ConnectionSettings, Session, open_connection
from source_timescaledb.postgres.pool import ReaderPool
from source_timescaledb.postgres.replica import check_replica
from source_timescaledb.remedy import grant
from source_timescaledb.sqlstates import connector_error
from source_timescaledb.state.codec import (
    FollowedStates,
    database_identity,
    decode,
    decode_chunk_events,
    kept_states,
)

_OPEN: Final = ("_timescaledb_catalog", "_timescaledb_functions", "_timescaledb_internal")
"""Schemas of TimescaleDB's own, open to everybody unless somebody has closed them."""

Answer = TypeVar("Answer")
Ask = Callable[[Callable[[Connection], Answer], str], Answer]
States = list[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Given:
    """What a sync is given beside its configuration; None where it is not known."""

    catalog: ConfiguredAirbyteCatalog | None = None
    states: States | None = None


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found, in order, and how far the look came."""

    findings: list[Finding]
    configuration: Configuration | None = None
    registry: Registry | None = None
    aim: Aim | None = None

    @property
    def fails(self) -> bool:
        """Whether a sync would fail or lose data."""
        return any(finding.severity is Severity.BLOCKING for finding in self.findings)


@dataclass(slots=True)
class _Demand:
    """What is asked of a database, and what of that cannot be had."""

    relations: Sequence[Relation]
    aim: Aim | None = None
    before: FollowedStates | None = None
    findings: list[Finding] = field(default_factory=list)

    @contextmanager
    def noting(self, topic: Topic) -> Iterator[None]:
        """Keep a refusal as a finding."""
        try:
            yield
        except ConnectorError as error:
            self.findings.append(Finding.of(error, topic))


def load(connection: Connection, configuration: Configuration) -> Registry:
    """The registry, in which aggregates say whether they can be followed.

    Raises ConfigurationError where TimescaleDB lets the role run no query at all, as it does without USAGE on its
    schemas, and psycopg errors as they come.
    """
    try:
        registry = read_registry(
            connection, configuration.schemas, unreadable_too=not configuration.check_privileges
        )
    except psycopg.errors.InsufficientPrivilege as error:
        plain = connector_error(error, "Reading the catalog")
        raise ConfigurationError(
            plain.message,
            detail=plain.detail,
            statements=[grant("USAGE ON SCHEMA", [schema], configuration.username) for schema in _OPEN],
        ) from None
    if configuration.cdc is None:
        return registry
    full = configuration.timescaledb.manage_publication is ManagePublication.FULL
    return with_followed_aggregates(connection, registry, configuration.cdc.publication, adds_tables=full)


def examine(
    configuration: Configuration, registry: Registry, ask: Ask[Any], given: Given | None = None
) -> Examination:
    """Everything that stands in the way of a sync. `ask` puts a question to the primary. Raises ConnectorError."""
    given = given or Given()
    demand = _demand(configuration, registry, given)
    probes = ask(
        lambda connection: probe(
            connection,
            registry.server,
            demand.relations,
            demand.aim,
            lambda: _standing(configuration),
        ),
        "Examining the server",
    )
    chosen = given.catalog is not None
    findings = diagnose(
        registry,
        demand.relations,
        probes,
        demand.aim,
        demand.before,
        chosen=chosen,
        hypertables=configuration.timescaledb.hypertables,
        tiered_chunks=configuration.timescaledb.tiered_chunks,
    )
    findings = [*findings, *demand.findings, *_replica(configuration, registry)]
    return Examination(ordered(findings), configuration, registry, demand.aim)


def _demand(configuration: Configuration, registry: Registry, given: Given) -> _Demand:
    relations, cdc = offered(registry, configuration), configuration.cdc
    demand = _Demand(relations)
    _read_states(demand, registry, given, following=cdc is not None)
    if given.catalog is None:
        if cdc is not None:
            demand.aim = Aim(cdc, configuration.timescaledb, registry.server, relations)
        return demand
    requests = _requests(demand, registry, given.catalog, configuration)
    demand.relations = [one.relation for one in requests]
    followed = [one for one in requests if one.mode is Mode.CHANGES]
    if cdc is not None and followed:
        demand.aim = aim_of(followed, cdc, configuration.timescaledb, registry.server)
    return demand


def _requests(
    demand: _Demand, registry: Registry, catalog: ConfiguredAirbyteCatalog, configuration: Configuration
) -> list[StreamRequest]:
    """The streams that can be had; the others are findings."""
    requests: list[StreamRequest] = []
    known = demand.before.streams if demand.before is not None else {}
    following = configuration.cdc is not None
    with demand.noting(Topic.STREAMS):
        check_catalog(catalog)
    for configured in catalog.streams:
        with demand.noting(Topic.STREAMS):
            if stream_name(configured) == CHUNK_EVENTS:
                check_chunk_events(configured, configuration.timescaledb)
                continue
            requests.append(
                request(configured, demand.relations, registry, following=following, before=known)
            )
    return requests


def _read_states(demand: _Demand, registry: Registry, given: Given, *, following: bool) -> None:
    identity = database_identity(registry.server)
    plain: Mapping[QualifiedName, Mapping[str, Any]] = {}
    with demand.noting(Topic.STATE):
        kept = kept_states(given.states or [], identity, following=following)
        demand.before, plain = kept.followed, kept.plain
    known = {*plain, *(demand.before.streams if demand.before is not None else ())}
    wanted = {stream_name(one) for one in given.catalog.streams} if given.catalog is not None else known
    for name in sorted(wanted & set(plain)):
        with demand.noting(Topic.STATE):
            (decode_chunk_events if name == CHUNK_EVENTS else decode)(name, plain[name], identity)
    demand.findings += [
        Finding(
            Severity.NOTE,
            Topic.STATE,
            f"The state of {name} is dropped: the stream is not configured any more.",
        )
        for name in sorted(known - wanted)
    ]


def _standing(configuration: Configuration) -> Standing:
    settings = ConnectionSettings.from_configuration(configuration)
    try:
        with closing(open_connection(settings, "doctor", Session.REPLICATION)) as replication:
            return read_standing(replication)
    except ConnectorError as error:
        return Standing(refusal=error)
    except psycopg.Error as error:
        return Standing(refusal=connector_error(error, "Asking for the server's log"))


def _replica(configuration: Configuration, registry: Registry) -> Iterator[Finding]:
    if not configuration.timescaledb.replica_host:
        return
    settings = ConnectionSettings.from_configuration(configuration, replica=True)
    try:
        with ReaderPool(settings, 1, purpose="replica check") as pool, pool.connection() as connection:
            check_replica(registry.server, read_server_facts(connection))
    except ConnectorError as error:
        yield Finding.of(error, Topic.CONNECTION)
