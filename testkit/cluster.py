"""A running server in which databases and roles can be made: the part that every kind of server has.

A database of a test is cheap because it is a copy of a template that already has the extension: about a tenth
of a second instead of one. TimescaleDB starts a worker in every database that allows connections, and a
database with a connection cannot be a template; so the template allows none.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from testkit.database import Database
from testkit.roots import Edition, label

TEMPLATE = "testkit_template"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens and who may do everything there."""

    host: str
    port: int
    superuser: str
    password: str = field(repr=False)

    def conninfo(self, database: str, **options: str | int) -> str:
        """A libpq connection string: the superuser's, unless options say otherwise."""
        facts: dict[str, str | int] = {
            "host": self.host,
            "port": self.port,
            "user": self.superuser,
            "password": self.password,
            "dbname": database,
            "application_name": "testkit",
            "connect_timeout": 10,
        }
        return make_conninfo("", **{**facts, **options})

    def answers(self) -> bool:
        """Whether the server accepts a connection now."""
        try:
            psycopg.connect(self.conninfo("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True


class Cluster:
    """A running server; subclasses know how it was started and what else can be done to it."""

    name: str
    address: Address
    postgres: int
    timescaledb: str
    edition: Edition

    @property
    def label(self) -> str:
        """What it is, for a person: `pg17-ts2.19-apache`."""
        return label(self.postgres, self.timescaledb, self.edition)

    @property
    def community(self) -> bool:
        """Whether compression and continuous aggregates are there."""
        return self.edition is Edition.COMMUNITY

    def connect(self, database: str = "postgres", **options: str | int) -> psycopg.Connection:
        """A superuser's connection in autocommit mode; the caller closes it."""
        return psycopg.connect(self.address.conninfo(database, **options), autocommit=True)

    def database(self, name: str | None = None, *, extension: bool = True) -> Database:
        """A fresh database, dropped with its roles when its `with` block ends.

        Args:
            name: its name; a made-up one otherwise.
            extension: whether it has TimescaleDB.
        """
        return Database(
            self, name or f"test_{secrets.token_hex(4)}", template=self.template if extension else "template0"
        )

    @property
    def template(self) -> str:
        """The database with the extension of which fresh ones are copies."""
        return TEMPLATE


def make_template(address: Address, name: str = TEMPLATE) -> None:
    """Make the template database; the server must not have one of this name."""
    with psycopg.connect(address.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with psycopg.connect(address.conninfo(name), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        connection.execute("CHECKPOINT")
    with psycopg.connect(address.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [name]
        )
