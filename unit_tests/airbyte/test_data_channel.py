"""The platform says where records go; what it cannot mean is said in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from source_timescaledb.airbyte.data_channel import (
    SocketChannel,
    StdioChannel,
    data_channel,
    socket_paths,
)
from source_timescaledb.errors import ConfigurationError

SOCKET = {"DATA_CHANNEL_MEDIUM": "SOCKET", "DATA_CHANNEL_SOCKET_PATHS": "/sockets/0.sock"}


@pytest.mark.parametrize(
    "environment", [{}, *({"DATA_CHANNEL_MEDIUM": said} for said in ("", " ", "STDIO", "STDIO\n"))]
)
def test_without_a_wish_everything_goes_to_stdout(environment: dict[str, str]) -> None:
    assert isinstance(data_channel(environment), StdioChannel)


def test_sockets_are_used_where_they_are_wished_for() -> None:
    assert isinstance(data_channel(SOCKET), SocketChannel)


def test_the_paths_are_listed_with_commas() -> None:
    environment = SOCKET | {"DATA_CHANNEL_SOCKET_PATHS": "/a/0.sock, /a/1.sock,"}

    assert socket_paths(environment) == [Path("/a/0.sock"), Path("/a/1.sock")]


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"DATA_CHANNEL_FORMAT": "PROTOBUF"}, "SOCKET with the format PROTOBUF is not spoken"),
        ({"DATA_CHANNEL_MEDIUM": "PIGEON"}, "PIGEON with the format JSONL is not spoken"),
        ({"DATA_CHANNEL_SOCKET_PATHS": " , "}, "none is named"),
        (
            {"DATA_CHANNEL_SOCKET_PATHS": "/no/such/folder/0.sock"},
            "no socket at /no/such/folder/0.sock: No such",
        ),
    ],
)
def test_what_cannot_be_is_an_error_when_the_sync_begins(wish: dict[str, str], said: str) -> None:
    channel = data_channel({**SOCKET, **wish})

    with pytest.raises(ConfigurationError, match=said), channel.opened(lambda: False):
        pass


def test_a_path_that_is_too_long_for_a_socket_is_an_error(tmp_path: Path) -> None:
    channel = data_channel(SOCKET | {"DATA_CHANNEL_SOCKET_PATHS": str(tmp_path / ("s" * 200))})

    with pytest.raises(ConfigurationError, match="too long"), channel.opened(lambda: False):
        pass
