"""A connection pooler that refuses the startup parameter `options`, as PgBouncer does, in front of a real server."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from source_timescaledb.config import read_configuration
from source_timescaledb.errors import ConfigurationError
from source_timescaledb.postgres.connection import ConnectionSettings, open_connection
from testkit.database import Database

pytestmark = pytest.mark.any_server

REFUSAL = b"SFATAL\0VFATAL\0C%s\0Munsupported startup parameter: options\0\0"


class Pooler:
    """Passes startup packets on to the server, except those with `options`, which it refuses with a SQLSTATE."""

    def __init__(self, host: str, port: int, sqlstate: bytes) -> None:
        self._server = (host, port)
        self._sqlstate = sqlstate
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.refused = 0

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._greet, args=(client,), daemon=True).start()

    def _greet(self, client: socket.socket) -> None:
        header = client.recv(4, socket.MSG_WAITALL)
        if not header:
            return
        packet = header + client.recv(struct.unpack("!i", header)[0] - 4, socket.MSG_WAITALL)
        if b"\0options\0" in packet:
            self.refused += 1
            body = REFUSAL % self._sqlstate
            client.sendall(b"E" + struct.pack("!i", len(body) + 4) + body)
            client.close()
            return
        server = socket.create_connection(self._server)
        server.sendall(packet)
        threading.Thread(target=copy, args=(server, client), daemon=True).start()
        copy(client, server)

    def close(self) -> None:
        self._listener.close()


def copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@contextmanager
def pooler(database: Database, sqlstate: bytes) -> Iterator[Pooler]:
    running = Pooler(database.cluster.address.host, database.cluster.address.port, sqlstate)
    thread = threading.Thread(target=running.serve, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.close()


@pytest.mark.parametrize("sqlstate", [b"08P01", b"0A000"])
def test_a_session_behind_a_pooler_without_options_means_the_same(
    database: Database, sqlstate: bytes
) -> None:
    database.as_superuser().execute(f"ALTER ROLE \"{database.reader}\" SET TimeZone = 'Asia/Tokyo'")
    with pooler(database, sqlstate) as between:
        configuration, _ = read_configuration(database.config(port=between.port))

        with open_connection(ConnectionSettings.from_configuration(configuration), "test") as connection:
            row = connection.execute(
                "SELECT current_setting('TimeZone'), current_setting('search_path'),"
                " current_setting('default_transaction_read_only')"
            ).fetchone()

    assert between.refused > 0
    assert row == ("UTC", "", "on")


def test_a_pooler_that_refuses_for_another_reason_is_believed(database: Database) -> None:
    with pooler(database, b"28000") as between:
        configuration, _ = read_configuration(database.config(port=between.port))

        with pytest.raises(
            ConfigurationError, match=r"unsupported startup parameter: options \(SQLSTATE 28000\)"
        ):
            open_connection(ConnectionSettings.from_configuration(configuration), "test")
