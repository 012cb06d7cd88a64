"""The SSH tunnel of a process: one for each jump server, open as long as somebody needs it, opened again after a loss.

Connections are opened by many threads, whenever they need one; asyncssh lives on one event loop. So each tunnel has a
loop in a thread of its own, and whoever opens a connection has the loop see to it first that the tunnel is there. A
tunnel that is lost takes its connections along, which their users notice as they notice any lost connection and try
again within their budget. So a tunnel needs no retries of its own, and a wrong password is tried once.

`Tunnel.of` gives all connections of one configuration the same tunnel: it belongs to its jump server, not to a caller,
and ends when nobody holds it any more, at the latest with the process, as private files of certificates do.

Through a tunnel libpq connects to 127.0.0.1, and is told so by `hostaddr`: `host` stays the database's own name, and that
is what its certificate is compared with (libpq, "hostaddr"), so `verify-full` proves as much as without a tunnel.

The loop needs the interpreter's lock to pass bytes on. So nobody may wait for the server while holding it, as psycopg's
`get_copy_data` does in its blocking form (measured with 3.3.9: it waits for ever); all else of psycopg waits without.

What a tunnel costs: the keepalives that the database sends are answered by the jump server, also when we are gone. Our
sessions end then with `idle_in_transaction_session_timeout`, with the server's `tcp_user_timeout` once the jump server
takes nothing more for us, or when sshd finds us gone (`ClientAliveInterval`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Coroutine
from concurrent import futures
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from source_timescaledb.config import Configuration
from source_timescaledb.config.tunnel import NoTunnel
from source_timescaledb.errors import ConnectorError, UnavailableError

if TYPE_CHECKING:
    from source_timescaledb.postgres.jump import JumpServer, Login

Answer = TypeVar("Answer")

LOOPBACK: Final = "127.0.0.1"
PATIENCE_SECONDS: Final = 30.0
"""The loop bounds all that it does by less; this is for a loop that is held up."""
GOODBYE_SECONDS: Final = 2.0

_logger = logging.getLogger("airbyte.tunnel")
_open: weakref.WeakValueDictionary[Login, Tunnel] = weakref.WeakValueDictionary()
_opening = threading.Lock()


class Tunnel:
    """The way through one jump server; threads may share it."""

    def __init__(self, login: Login) -> None:
        from source_timescaledb.postgres.jump import JumpServer  # noqa: PLC0415 - asyncssh is slow to import

        self._login = login
        self._doors: dict[tuple[str, int], int] = {}
        self._loop = asyncio.new_event_loop()
        self._jump = JumpServer(
            login, partial(_tell, login.method.tunnel_host)
        )  # which must not hold this object
        thread = threading.Thread(target=_serve, args=(self._loop,), name="tunnel", daemon=True)
        thread.start()
        weakref.finalize(self, _end, self._loop, self._jump, thread)

    @classmethod
    def of(cls, configuration: Configuration) -> Tunnel | None:
        """The tunnel that a configuration asks for, shared with whoever has it already; None where it asks for none."""
        method, settings = configuration.tunnel_method, configuration.timescaledb
        if isinstance(method, NoTunnel):
            return None
        from source_timescaledb.postgres.jump import Login  # noqa: PLC0415 - asyncssh is slow to import

        login = Login(method, settings.ssh_host_key, settings.ssh_key_passphrase)
        with _opening:
            tunnel = _open.get(login) or cls(login)
            _open[login] = tunnel
        return tunnel

    def __repr__(self) -> str:
        return f"Tunnel({self._login.method.tunnel_host})"

    def open(self, host: str, port: int) -> None:
        """See to it that `address` leads to a host and port now, as far as the jump server is concerned.

        Raises ConnectorError.
        """
        self._doors[host, port] = self._ask(self._jump.door(host, port))

    def address(self, host: str, port: int) -> tuple[str, int]:
        """The address and port that led to a host and port when it was opened last."""
        return LOOPBACK, self._doors.get((host, port), 0)

    def obstacle(self, host: str, port: int, seconds: float, doing: str) -> ConnectorError | None:
        """What keeps a connection from getting through to a host and port, None where nothing does."""
        return self._ask(self._jump.obstacle(host, port, seconds, doing))

    def _ask(self, question: Coroutine[Any, Any, Answer]) -> Answer:
        """Have the loop do something, and wait for it."""
        answer = asyncio.run_coroutine_threadsafe(question, self._loop)
        try:
            return answer.result(PATIENCE_SECONDS)
        except futures.TimeoutError:
            answer.cancel()
            raise UnavailableError(
                f"{self._login.doing} failed: it took longer than {PATIENCE_SECONDS:g} seconds."
            ) from None


def _tell(jump_server: str, key: str) -> None:
    _logger.info(
        "The SSH jump server %s shows the host key %s, which is trusted for this sync. To accept no other one, put the "
        "fingerprint into the setting timescaledb.ssh_host_key.",
        jump_server,
        key,
    )


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """What the thread does: run the loop until it is stopped, and leave nothing open."""
    loop.run_forever()
    loop.run_until_complete(_wind_up())
    loop.close()


async def _wind_up() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _end(loop: asyncio.AbstractEventLoop, jump: JumpServer, thread: threading.Thread) -> None:
    """End a tunnel that nobody holds any more."""

    async def say_goodbye() -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(jump.close(), GOODBYE_SECONDS)
        loop.stop()

    asyncio.run_coroutine_threadsafe(say_goodbye(), loop)
    if thread is not threading.current_thread():
        thread.join(2 * GOODBYE_SECONDS)
