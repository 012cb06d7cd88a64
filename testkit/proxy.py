"""A TCP proxy that breaks the network between the connector and its server on demand.

One behaviour holds for all connections, at every moment, and can be changed while bytes flow. The proxy is an
event loop in a thread of its own; every method returns once the change has taken effect, so a test's next
line sees the fault.

What a blackhole swallows is not lost: it is held back and delivered when the network is whole again, as TCP
would.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from typing_extensions import Self

HOST = "127.0.0.1"
CHUNK_BYTES = 65536
THROTTLE_SLICES = 20
CLOSE_WITH_RESET = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Behaviour:
    """How the network behaves at the moment."""

    refuse: bool = False
    delay_seconds: float = 0.0
    bytes_per_second: float | None = None
    bytes_left: int | None = None
    reset_at_end: bool = False


def break_off(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST."""
    with contextlib.suppress(OSError):  # it may be closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_WITH_RESET)
    writer.transport.abort()


class Proxy:
    """A door on 127.0.0.1 to a server; a context manager."""

    def __init__(self, host: str, port: int) -> None:
        """Describe a proxy to a server; a `with` block starts it."""
        self.host = HOST
        self.port = 0
        self.accepted = 0
        """Connections accepted so far."""
        self.forwarded = 0
        """Bytes passed on from the server to clients so far."""
        self._target = (host, port)
        self._behaviour = Behaviour()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._call(self._shut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def open_connections(self) -> int:
        """Connections open at the moment."""
        return len(self._writers) // 2

    def heal(self) -> None:
        """Pass everything on, from now."""
        self._become(Behaviour())

    def lead_to(self, host: str, port: int) -> None:
        """Take new connections to another server; open ones stay where they are."""
        self._target = (host, port)

    def cut(self) -> None:
        """Close all open connections in order (FIN, as a proxy that restarts); new ones are let in."""
        self._call(lambda: self._end_all(reset=False))

    def reset(self) -> None:
        """Break all open connections (RST, as a crashed machine); new ones are let in."""
        self._call(lambda: self._end_all(reset=True))

    def refuse(self) -> None:
        """Break all open connections and every new one at once, until `heal`."""
        self._become(Behaviour(refuse=True))
        self.reset()

    def blackhole(self) -> None:
        """Accept connections and bytes, and pass nothing on, until `heal`."""
        self._call(self._close_valve)

    def delay(self, seconds: float) -> None:
        """Hold every piece of data back for some seconds, in both directions."""
        self._become(Behaviour(delay_seconds=seconds))

    def throttle(self, bytes_per_second: float) -> None:
        """Let no more bytes through per second and direction."""
        self._become(Behaviour(bytes_per_second=bytes_per_second))

    def cut_after(self, count: int, *, reset: bool = False) -> None:
        """Pass on exactly so many more bytes from the server, then end all connections once, and heal."""
        self._become(Behaviour(bytes_left=count, reset_at_end=reset))

    def _become(self, behaviour: Behaviour) -> None:
        def change() -> None:
            self._behaviour = behaviour
            self._valve.set()

        self._call(change)

    def _call(self, action: Callable[[], object]) -> None:
        """Run an action in the loop and wait for it."""

        async def act() -> None:
            result = action()
            if asyncio.iscoroutine(result):
                await result

        asyncio.run_coroutine_threadsafe(act(), self._loop).result()

    async def _listen(self) -> None:
        self._valve = asyncio.Event()
        self._valve.set()
        self._server = await asyncio.start_server(self._serve, HOST, 0, limit=CHUNK_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        self._server.close()
        self._valve.set()
        self._end_all(reset=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _close_valve(self) -> None:
        self._valve.clear()

    def _end_all(self, *, reset: bool) -> None:
        for writer in self._writers:
            if reset:
                break_off(writer)
            else:
                writer.close()

    async def _serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._behaviour.refuse:
            break_off(client)
            return
        try:
            server_reader, server = await asyncio.open_connection(*self._target, limit=CHUNK_BYTES)
        except OSError:
            break_off(client)
            return
        self._writers |= {client, server}
        try:
            await asyncio.gather(
                self._pump(client_reader, server, from_server=False),
                self._pump(server_reader, client, from_server=True),
            )
        finally:
            self._writers -= {client, server}
            client.close()
            server.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_server: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._valve.wait()
                await self._forward(data, writer, from_server=from_server)
        await self._valve.wait()  # no end of a stream gets through a blackhole, in order or not
        writer.close()

    async def _forward(self, data: bytes, writer: asyncio.StreamWriter, *, from_server: bool) -> None:
        """Pass one piece of data on as the behaviour of this moment wants it."""
        behaviour = self._behaviour
        await asyncio.sleep(behaviour.delay_seconds)
        ends = False
        if from_server and behaviour.bytes_left is not None:
            ends = len(data) >= behaviour.bytes_left
            data = data[: behaviour.bytes_left]
            behaviour.bytes_left -= len(data)
        rate = behaviour.bytes_per_second
        size = len(data) if rate is None else max(1, int(rate / THROTTLE_SLICES))
        for start in range(0, len(data), size or 1):
            piece = data[start : start + size]
            self.forwarded += len(piece) if from_server else 0  # before anybody can have seen them
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(len(piece) / rate if rate else 0)
        if ends:
            self._behaviour = Behaviour()
            self._end_all(reset=behaviour.reset_at_end)
