"""Every fault of the network is what a client of a small server sees."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from testkit.proxy import Proxy


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(65536):
                self.request.sendall(data)


class EchoServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with EchoServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with Proxy("127.0.0.1", server.server_address[1]) as proxy:
            yield proxy
        server.shutdown()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=5)


def first_answer(proxy: Proxy) -> bytes:
    with connect(proxy) as client:
        return client.recv(10)


def echoed(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    received = b""
    while len(received) < len(data) and (more := client.recv(65536)):
        received += more
    return received


def test_a_healthy_network_passes_everything_on(proxy: Proxy) -> None:
    data = bytes(range(256)) * 4096

    with connect(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        received = b""
        while len(received) < len(data):
            received += client.recv(65536)
        sender.join()

    assert received == data
    assert (proxy.accepted, proxy.forwarded) == (1, len(data))


def test_a_cut_ends_the_stream_and_lets_new_connections_in(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert echoed(client, b"one") == b"one"

        proxy.cut()

        assert client.recv(10) == b""
    with connect(proxy) as client:
        assert echoed(client, b"two") == b"two"


def test_a_reset_is_an_error_for_the_client(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert echoed(client, b"one") == b"one"

        proxy.reset()

        with pytest.raises(ConnectionResetError):
            client.recv(10)


def test_a_blackhole_answers_nothing_until_it_heals(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert echoed(client, b"one") == b"one"
        proxy.blackhole()
        client.settimeout(0.2)
        client.sendall(b"two")
        with pytest.raises(TimeoutError):
            client.recv(10)

        proxy.heal()

        client.settimeout(5)
        assert client.recv(10) == b"two"


def test_a_blackhole_accepts_connections(proxy: Proxy) -> None:
    proxy.blackhole()

    with connect(proxy) as client:
        client.settimeout(0.2)
        client.sendall(b"one")
        with pytest.raises(TimeoutError):
            client.recv(10)


def test_a_refusing_network_ends_every_connection(proxy: Proxy) -> None:
    proxy.refuse()

    with pytest.raises(ConnectionResetError):
        first_answer(proxy)
    proxy.heal()

    with connect(proxy) as client:
        assert echoed(client, b"one") == b"one"


def test_a_delay_holds_data_back_in_both_directions(proxy: Proxy) -> None:
    proxy.delay(0.1)

    with connect(proxy) as client:
        started = time.monotonic()
        assert echoed(client, b"one") == b"one"

    assert time.monotonic() - started >= 0.2


def test_a_throttle_limits_bytes_per_second(proxy: Proxy) -> None:
    proxy.throttle(20_000)

    with connect(proxy) as client:
        started = time.monotonic()
        assert echoed(client, bytes(10_000)) == bytes(10_000)

    assert time.monotonic() - started >= 0.4


@pytest.mark.parametrize("count", [0, 1, 7, 9, 10])
def test_a_cut_after_some_bytes_passes_exactly_those(proxy: Proxy, count: int) -> None:
    with connect(proxy) as client:
        assert echoed(client, b"before") == b"before"
        proxy.cut_after(count)

        assert echoed(client, b"0123456789") == b"0123456789"[:count]
        assert client.recv(10) == b""
    with connect(proxy) as client:
        assert echoed(client, b"after") == b"after"
