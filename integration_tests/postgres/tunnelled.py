"""Connections that lead through a jump server."""

from __future__ import annotations

from typing import Any

import pytest

from source_timescaledb.config import read_configuration
from source_timescaledb.errors import ConnectorError
from source_timescaledb.postgres.connection import Connection, ConnectionSettings, open_connection
from testkit.database import Database


def settings(database: Database, tunnel: dict[str, Any], /, **overrides: Any) -> ConnectionSettings:
    configuration, ignored = read_configuration(database.config(tunnel_method=tunnel, **overrides))
    assert ignored == []
    return ConnectionSettings.from_configuration(configuration)


def answer(connection: Connection) -> object:
    return connection.execute("SELECT 1").fetchone()


def failure(database: Database, tunnel: dict[str, Any], /, **overrides: Any) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        open_connection(settings(database, tunnel, **overrides), "test")
    return caught.value
