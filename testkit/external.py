"""Servers that the kit does not control: a running one named by its URL, and a container.

They give databases and roles, which is what most tests need; nobody can crash them or change their settings
here.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from testkit.cluster import Address, Cluster, make_template
from testkit.errors import KitError, NoServerError
from testkit.roots import Edition

URL_VARIABLE = "TIMESCALEDB_TEST_URL"
FACTS = """
SELECT extversion, current_setting('timescaledb.license') FROM pg_extension WHERE extname = 'timescaledb'
"""
PING_SECONDS = 2
START_SECONDS = 120.0
POLL_SECONDS = 0.2
DEFAULT_PORT = 5432
CONTAINER_SETTINGS = {
    "wal_level": "logical",
    "fsync": "off",
    "max_wal_senders": 10,
    "max_replication_slots": 10,
    "timescaledb.telemetry_level": "off",
}


class RunningServer(Cluster):
    """A server that runs anyway; what it is, it is asked."""

    def __init__(self, name: str, address: Address, template: str) -> None:
        self.name = name
        self.address = address
        self._template = template
        # The licence is a setting of the library that the extension loads, so only a database with it can tell.
        with self.database() as database:
            session = database.as_superuser()
            self.postgres = session.info.server_version // 10000
            version, licence = session.execute(FACTS).fetchone() or ("", "")
        self.timescaledb = version
        self.edition = Edition.COMMUNITY if licence == "timescale" else Edition.APACHE

    @property
    def template(self) -> str:
        """The database with the extension of which fresh ones are copies."""
        return self._template


@contextmanager
def at_address(name: str, address: Address) -> Iterator[RunningServer]:
    """Use a running server for a while: with a template database of our own, dropped afterwards."""
    require_timescaledb(name, address)
    template = f"testkit_template_{secrets.token_hex(4)}"
    try:
        make_template(address, template)
        yield RunningServer(name, address, template)
    finally:
        with psycopg.connect(address.conninfo("postgres"), autocommit=True) as connection:
            statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(statement.format(sql.Identifier(template)))


def require_timescaledb(name: str, address: Address) -> None:
    """Return when a server answers its superuser and offers the extension.

    Raises:
        NoServerError: it does not; the message says which.
    """
    place = f"The server {name} ({address.host}:{address.port})"
    if not address.answers():
        raise NoServerError(f"{place} does not answer, or refuses {address.superuser}.")
    with psycopg.connect(address.conninfo("postgres")) as connection:
        query = "SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'"
        if connection.execute(query).fetchone() is None:
            raise NoServerError(f"{place} has no TimescaleDB to create.")


def at_url(url: str) -> Address:
    """The address in a superuser's URL.

    Raises:
        KitError: it is no URL of a PostgreSQL server.
    """
    try:
        parts = conninfo_to_dict(url)
        port = int(parts.get("port") or DEFAULT_PORT)
    except (psycopg.ProgrammingError, ValueError):
        # Without the reason: libpq repeats the URL in it, and the URL holds a password.
        example = "postgresql://user:password@host:port/database"
        raise KitError(f"{URL_VARIABLE} is not a URL like {example}") from None
    return Address(
        host=str(parts.get("host") or "localhost"),
        port=port,
        superuser=str(parts.get("user") or "postgres"),
        password=str(parts.get("password") or ""),
    )


def docker_answers() -> bool:
    """Whether a Docker engine answers within two seconds; a `docker` command alone means nothing."""
    try:
        # It ships no types; and it is imported late because importing it takes a third of a second.
        import docker  # type: ignore[import-untyped] # noqa: PLC0415

        return bool(docker.from_env(timeout=PING_SECONDS).ping())
    except Exception:  # noqa: BLE001 - whatever is wrong with it, there is no engine for us
        return False


@contextmanager
def in_container(image: str) -> Iterator[RunningServer]:
    """A server in a container of an image, for as long as the block lasts."""
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - it imports docker

    password = f"canary-superuser-{secrets.token_hex(8)}"
    settings = [word for name, value in CONTAINER_SETTINGS.items() for word in ("-c", f"{name}={value}")]
    container = (
        DockerContainer(image)
        .with_env("POSTGRES_PASSWORD", password)
        .with_exposed_ports(DEFAULT_PORT)
        .with_command(["postgres", *settings])
    )
    with ExitStack() as stack:
        try:
            stack.enter_context(container)
        except Exception as reason:
            raise NoServerError(f"The container image {image} cannot be started: {reason}") from reason
        port = int(container.get_exposed_port(DEFAULT_PORT))
        address = Address(container.get_container_host_ip(), port, "postgres", password)
        wait_until_it_answers(address)
        with at_address(image, address) as server:
            yield server


def wait_until_it_answers(address: Address, seconds: float = START_SECONDS) -> None:
    """Return when a connection succeeds.

    Raises:
        KitError: none did in so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not address.answers():
        if time.monotonic() > deadline:
            raise KitError(f"the server at {address.host}:{address.port} does not answer")
        time.sleep(POLL_SECONDS)
