"""A database of a test's own, with two roles: one owns the tables, the other is the connector's.

The reader starts with the least that can be: CONNECT, and USAGE on `public`. Whatever else a test needs it
grants, so a test shows what the connector needs. Passwords are canaries: strings that occur nowhere else, so
that a test can look for them in everything that was printed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg import sql
from psycopg.abc import Params
from psycopg.abc import QueryNoTemplate as NonTemplateQuery
from typing_extensions import Self

from testkit.errors import KitError

if TYPE_CHECKING:
    from testkit.cluster import Cluster

Role = Literal["owner", "reader", "superuser"]
DROP_ATTEMPTS = 20
DROP_PAUSE_SECONDS = 0.1


class Database:
    """A database with an owner and a reader role; a context manager that makes and drops all three."""

    def __init__(self, cluster: Cluster, name: str, *, template: str) -> None:
        self.cluster = cluster
        self.name = name
        self.template = template
        self.owner = f"{name}_owner"
        self.reader = f"{name}_reader"
        self.passwords = {
            "owner": f"canary-owner-{secrets.token_hex(8)}",
            "reader": f"canary-reader-{secrets.token_hex(8)}",
            "superuser": cluster.address.password,
        }
        self._connections: dict[Role, psycopg.Connection] = {}

    def __repr__(self) -> str:
        return f"Database({self.name!r} on {self.cluster.label})"

    def __enter__(self) -> Self:
        self._refuse_a_taken_name()
        try:
            self._make()
        except BaseException:
            self.drop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.drop()

    def _refuse_a_taken_name(self) -> None:
        """What is not ours must not be dropped at the end."""
        with self.cluster.connect() as connection:
            taken = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s UNION ALL SELECT 1 FROM pg_roles WHERE rolname = ANY(%s)",
                [self.name, [self.owner, self.reader]],
            ).fetchone()
        if taken:
            raise KitError(f"there is a database {self.name}, or one of its roles, already")

    def _make(self) -> None:
        with self.cluster.connect() as connection:
            for role, name in (("owner", self.owner), ("reader", self.reader)):
                statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
                connection.execute(statement.format(sql.Identifier(name), sql.Literal(self.passwords[role])))
            for statement in (
                sql.SQL("CREATE DATABASE {database} TEMPLATE {template} STRATEGY file_copy"),
                sql.SQL("ALTER DATABASE {database} OWNER TO {owner}"),
                sql.SQL("REVOKE ALL ON DATABASE {database} FROM PUBLIC"),
                sql.SQL("GRANT CONNECT ON DATABASE {database} TO {reader}"),
            ):
                connection.execute(self._named(statement))
        self.as_superuser().execute(self._named(sql.SQL("GRANT USAGE ON SCHEMA public TO {reader}")))

    def drop(self, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Drop the database, whoever is connected or replicates from it, and its roles."""
        self.disconnect()
        with self.cluster.connect() as connection:
            self._drop_slots(connection)
            for attempt in range(1, DROP_ATTEMPTS + 1):
                try:
                    connection.execute(
                        self._named(sql.SQL("DROP DATABASE IF EXISTS {database} WITH (FORCE)"))
                    )
                    break
                except psycopg.errors.ObjectInUse:
                    # TimescaleDB's launcher can start a worker again between FORCE's kill and its check.
                    if attempt == DROP_ATTEMPTS:
                        raise
                    sleep(DROP_PAUSE_SECONDS)
            for role in (self.reader, self.owner):
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))

    def _drop_slots(self, connection: psycopg.Connection) -> None:
        """An active slot would stop DROP DATABASE even with FORCE."""
        connection.execute(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
            " WHERE database = %s AND active_pid IS NOT NULL",
            [self.name],
        )

    def _named(self, statement: sql.SQL) -> sql.Composed:
        return statement.format(
            template=sql.Identifier(self.template),
            database=sql.Identifier(self.name),
            owner=sql.Identifier(self.owner),
            reader=sql.Identifier(self.reader),
        )

    def conninfo(self, role: Role = "reader", **options: str | int) -> str:
        """A libpq connection string for one of the three roles."""
        names = {"owner": self.owner, "reader": self.reader, "superuser": self.cluster.address.superuser}
        return self.cluster.address.conninfo(
            self.name, **{"user": names[role], "password": self.passwords[role], **options}
        )

    def connect(self, role: Role = "owner", **options: str | int) -> psycopg.Connection:
        """A connection of its own, not in autocommit mode; the caller closes it."""
        return psycopg.connect(self.conninfo(role, **options))

    def session(self, role: Role) -> psycopg.Connection:
        """The one autocommit connection kept for a role; opened again when a fault broke it."""
        connection = self._connections.get(role)
        if connection is None or connection.broken or connection.closed:
            connection = psycopg.connect(self.conninfo(role), autocommit=True)
            self._connections[role] = connection
        return connection

    def as_superuser(self) -> psycopg.Connection:
        """The superuser's autocommit session in this database."""
        return self.session("superuser")

    def execute(self, query: NonTemplateQuery, params: Params | None = None) -> None:
        """Run statements as the owner, each committed at once."""
        self.session("owner").execute(query, params)

    def rows(self, query: NonTemplateQuery, params: Params | None = None) -> list[tuple[Any, ...]]:
        """What a query returns to the owner."""
        return self.session("owner").execute(query, params).fetchall()

    def value(self, query: NonTemplateQuery, params: Params | None = None) -> Any:
        """The one value of a query's one row."""
        ((only,),) = self.rows(query, params)
        return only

    def grant_select(self, *tables: str) -> None:
        """Let the reader read tables, each written `table` or `schema.table`."""
        for table in tables:
            self.execute(
                sql.SQL("GRANT SELECT ON {} TO {}").format(
                    sql.Identifier(*table.split(".")), sql.Identifier(self.reader)
                )
            )

    def grant_replication(self) -> None:
        """Let the reader use replication slots and make temporary tables (CDC needs a catalog change)."""
        self.as_superuser().execute(self._named(sql.SQL("ALTER ROLE {reader} REPLICATION")))
        self.as_superuser().execute(
            self._named(sql.SQL("GRANT TEMPORARY ON DATABASE {database} TO {reader}"))
        )

    def config(self, **overrides: Any) -> dict[str, Any]:
        """A valid configuration of the connector for the reader; overrides replace whole properties."""
        return {
            "host": self.cluster.address.host,
            "port": self.cluster.address.port,
            "database": self.name,
            "username": self.reader,
            "password": self.passwords["reader"],
            "schemas": ["public"],
            "ssl_mode": {"mode": "disable"},
            "replication_method": {"method": "Standard"},
            "tunnel_method": {"tunnel_method": "NO_TUNNEL"},
            **overrides,
        }

    def disconnect(self) -> None:
        """Close the sessions that were kept."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
