"""Connections to the server, each with a session that always means the same.

What a value looks like as text depends on settings of the session, and those on the server, the database and
the role. So every session fixes them, and does so inside the startup packet: no further round trip, and no
moment in which a query could see another setting. Some connection poolers refuse the parameter `options` that
carries them; then they are set by one statement before anybody gets the connection.

A reader holds a lock on a chunk, and behind that lock the application may queue. If our machine vanishes, the
server must notice by itself: the session's keepalives make it end within some fifteen seconds what we can no
longer end. In the other direction libpq's keepalives and `tcp_user_timeout` let us notice a black hole just
as fast.

Parameters are handed to libpq by name; there is no URI anywhere that could be printed with a password in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg
from psycopg import errors, sql
from pydantic import SecretStr
from typing_extensions import Self

from source_timescaledb.config import Configuration
from source_timescaledb.config.encryption import Verified
from source_timescaledb.errors import ConfigurationError, ConnectorError, UnavailableError
from source_timescaledb.postgres.census import counted
from source_timescaledb.postgres.certificates import Certificates
from source_timescaledb.postgres.reachability import Doorway, obstacle
from source_timescaledb.postgres.refusal import Answer, Refusal, Unspoken, ask_again
from source_timescaledb.postgres.tunnel import Tunnel
from source_timescaledb.sqlstates import LOST, connector_error, server_error
from source_timescaledb.types.definition import OUTPUT_SETTINGS

Connection = psycopg.Connection[tuple[Any, ...]]
Parameters = dict[str, Any]

APPLICATION_NAME: Final = "source-timescaledb"
CONNECT_TIMEOUT_SECONDS: Final = 10
ONCE_MORE_SECONDS: Final = 3.0
"""How long a server that has not answered for so long is given to tell why, at each stage."""

TRANSPORT: Final[Mapping[str, Any]] = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "gssencmode": "disable",
    "application_name": APPLICATION_NAME,
}
"""What `jdbc_url_params` may change. Seconds, the last timeout in milliseconds, as libpq wants them."""

SESSION: Final[Mapping[str, str]] = {
    **OUTPUT_SETTINGS,
    "cursor_tuple_fraction": "1.0",
    "jit": "off",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    "default_transaction_read_only": "on",
    "synchronous_commit": "off",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
"""The settings of a reading session; every role may set each of them, on every supported server.

`synchronous_commit` matters to readers, too: asking TimescaleDB for the live status of a chunk takes a transaction id
(measured on 2.19.3), so the COMMIT of a slice would be flushed to disk, and would wait for a synchronous standby.
"""

_WRITING: Final[Mapping[str, str]] = {"default_transaction_read_only": "off", "synchronous_commit": "local"}
"""What is written is safe on this server; whether a standby has it is not ours to wait for."""

_UNBOUNDED: Final[Mapping[str, str]] = {
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "tcp_user_timeout": "900000",
}
"""A replication session waits as long as it likes, also for us: we read no faster than our output is taken. Linux ends a
connection whose window stays closed for `tcp_user_timeout`, though the other side answers every probe (measured: lost
after a pause of 15 s). Whether we are there at all `wal_sender_timeout` tells the server. But not for ever: a session
that the server wants to end stays until it has said so, and a checkpoint that gives its slot up waits for that."""

BACKSLASH_SPACE: Final = "\\ "

OPTIONS_REFUSED: Final = frozenset({"08P01", "0A000"})
"""How poolers refuse `options`: PgBouncer's protocol violation, Amazon RDS Proxy's feature not supported."""

_CORRECT_OPTIONS: Final = "Correct options in the setting jdbc_url_params."
OPTIONS_WRONG: Final[Mapping[str, str]] = {
    **dict.fromkeys(("22023", "42601", "42602", "42704", "55P02"), _CORRECT_OPTIONS),
    "42501": f"{_CORRECT_OPTIONS} Or grant the role what it lacks.",
}
"""What to do about `options` of the user's that a server refuses, by its code. While somebody connects, these codes are
of nothing else; but 42501 is also of a database that the role may not enter."""

_tunnels: Final[WeakKeyDictionary[Connection, Tunnel]] = WeakKeyDictionary()
"""The tunnel of a connection, which keeps it open."""


class Session(Enum):
    """What a connection is for, as far as the server has to know."""

    READING = auto()
    WRITING = auto()
    """May change the publication or the write-ahead log."""
    REPLICATION = auto()
    """Speaks the replication protocol, and may wait as long as it likes."""

    @property
    def settings(self) -> dict[str, str]:
        """The settings that the session is opened with."""
        match self:
            case Session.READING:
                return dict(SESSION)
            case Session.WRITING:
                return {**SESSION, **_WRITING}
            case Session.REPLICATION:
                return {**SESSION, **_WRITING, **_UNBOUNDED}


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Where a server is and how to be let in; the password and the certificates stay hidden in any repr."""

    host: str
    port: int
    database: str
    username: str
    password: SecretStr | None
    ssl_mode: str
    certificates: Certificates | None = None
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """Parameters that the user gave in `jdbc_url_params`, by libpq's names."""
    tunnel: Tunnel | None = None

    @classmethod
    def from_configuration(cls, configuration: Configuration, *, replica: bool = False) -> Self:
        """Return the settings of the configured server, or of its replica where one is configured and wanted.

        Writes the certificates of the configuration into private files. A tunnel is opened with the first connection.
        """
        host, port = configuration.host, configuration.port
        if replica and configuration.timescaledb.replica_host:
            host = configuration.timescaledb.replica_host
            port = configuration.timescaledb.replica_port or port
        ssl_mode = configuration.ssl_mode
        return cls(
            host=host,
            port=port,
            database=configuration.database,
            username=configuration.username,
            password=configuration.password,
            ssl_mode=ssl_mode.mode,
            certificates=Certificates(ssl_mode) if isinstance(ssl_mode, Verified) else None,
            parameters=configuration.jdbc_url_params.libpq,
            tunnel=Tunnel.of(configuration),
        )

    @property
    def doorway(self) -> Doorway:
        """What there is to know before the server is asked to let us in."""
        seconds = float(self.parameters.get("connect_timeout", CONNECT_TIMEOUT_SECONDS))
        seconds = seconds or CONNECT_TIMEOUT_SECONDS
        return Doorway(self.host, self.port, self.ssl_mode, self.certificates, seconds, self.tunnel)

    def libpq(self, purpose: str, session: Session, *, with_options: bool = True) -> Parameters:
        """Return libpq's parameters for one connection. They hold the password: never log them."""
        parameters: Parameters = {**TRANSPORT, **self.parameters}
        application = f"{parameters['application_name']} {purpose}"
        options = [self.parameters.get("options", ""), *_startup_options(session)] if with_options else []
        parameters.update(
            host=self.host,
            port=self.port,
            dbname=self.database,
            user=self.username,
            sslmode=self.ssl_mode,
            client_encoding="UTF8",
            application_name=application[:63],
            options=" ".join(filter(None, options)),
        )
        if self.tunnel:
            # The certificate is still compared with `host`.
            parameters["hostaddr"], parameters["port"] = self.tunnel.address(self.host, self.port)
        if self.password:
            parameters["password"] = self.password.get_secret_value()
        if self.certificates:
            parameters.update(self.certificates.files)
            if self.certificates.password:
                parameters["sslpassword"] = self.certificates.password.get_secret_value()
        if session is Session.REPLICATION:
            parameters["replication"] = "database"
        return parameters


def open_connection(
    settings: ConnectionSettings, purpose: str, session: Session = Session.READING
) -> Connection:
    """Open one connection in autocommit mode; no attempt is repeated except to learn why it failed.

    Args:
        settings: where to and as whom.
        purpose: one or two words that name the connection in errors and in `pg_stat_activity`.
        session: what the server has to allow it.

    Raises:
        ConnectorError: of the kind and with the sentence that the reason deserves.
    """
    way = ", through an SSH tunnel" if settings.tunnel else ""
    doing = f"Connecting to {settings.host} port {settings.port} as {settings.username} ({purpose}{way})"
    if settings.tunnel:
        settings.tunnel.open(settings.host, settings.port)
    parameters = settings.libpq(purpose, session)
    try:
        return _connect(settings, parameters)
    except (psycopg.Error, UnicodeError) as error:
        failure = error
    late = isinstance(failure, errors.ConnectionTimeout)
    doorway = replace(settings.doorway, seconds=ONCE_MORE_SECONDS) if late else settings.doorway
    if stopped := obstacle(doorway, doing):
        raise stopped
    if late:
        raise UnavailableError(f"{doing} failed: the server did not answer in time.", remedy=LOST.remedy)
    match ask_again(parameters):
        case Refusal(sqlstate) if sqlstate in OPTIONS_REFUSED and not settings.parameters.get("options"):
            return _open_without_options(settings, purpose, session, doing)
        case answer:
            raise _failure(answer, settings, session, doing)


def _open_without_options(
    settings: ConnectionSettings, purpose: str, session: Session, doing: str
) -> Connection:
    """Open a connection through a pooler that takes no `options`; set the session by a statement."""
    parameters = settings.libpq(purpose, session, with_options=False)
    try:
        connection = _connect(settings, parameters)
    except psycopg.Error:
        raise _failure(ask_again(parameters), settings, session, doing) from None
    try:
        connection.execute(_settings_statement(session))
    except psycopg.Error as error:
        connection.close()
        raise connector_error(error, doing) from None
    return connection


def _failure(answer: Answer, settings: ConnectionSettings, session: Session, doing: str) -> ConnectorError:
    match answer:
        case Refusal("42501", message) if session is Session.REPLICATION:
            role = sql.Identifier(settings.username).as_string(None)
            return ConfigurationError(
                server_error("42501", message, doing).message,
                remedy=f"Let it: ALTER ROLE {role} REPLICATION; (on Amazon RDS: GRANT rds_replication TO {role};)",
            )
        case Refusal(sqlstate, message) if settings.parameters.get("options") and sqlstate in OPTIONS_WRONG:
            refused = server_error(sqlstate, message, doing)
            return ConfigurationError(refused.message, remedy=OPTIONS_WRONG[sqlstate], detail=refused.detail)
        case Refusal(sqlstate, message):
            return server_error(sqlstate, message, doing)
        case Unspoken() if settings.parameters:
            return ConfigurationError(
                f"{doing} failed: libpq cannot use the parameters {', '.join(settings.parameters)}.",
                remedy="Correct their values in the setting jdbc_url_params.",
            )
        case _:
            return UnavailableError(f"{doing} failed: the connection was lost.", remedy=LOST.remedy)


def _connect(settings: ConnectionSettings, parameters: Parameters) -> Connection:
    # Prepared statements of a session do not survive a pooler that hands out servers by transaction.
    connection = counted(psycopg.Connection.connect(**parameters, autocommit=True, prepare_threshold=None))
    if settings.tunnel:
        _tunnels[connection] = settings.tunnel
    return connection


def _startup_options(session: Session) -> list[str]:
    # In `options` a space separates arguments unless a backslash precedes it.
    return [f"-c {name}={value.replace(' ', BACKSLASH_SPACE)}" for name, value in session.settings.items()]


def _settings_statement(session: Session) -> sql.Composed:
    calls = (
        sql.SQL("pg_catalog.set_config({}, {}, false)").format(sql.Literal(name), sql.Literal(value))
        for name, value in session.settings.items()
    )
    return sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls))
