"""An SSH server that asks for the password in a dialogue (`keyboard-interactive`), as many jump servers do.

It lets nobody in otherwise.

OpenSSH has that dialogue only with PAM, which needs root and accounts of the machine; so this one is asyncssh's server.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import asyncssh

from testkit.postmaster import HOST

Challenge = tuple[str, str, str, list[tuple[str, bool]]]


class Dialogue(asyncssh.SSHServer):
    """Lets anybody in who answers with the password, and lets them connect anywhere."""

    def __init__(self, password: str) -> None:
        self._password = password

    def password_auth_supported(self) -> bool:
        """Not at once."""
        return False

    def public_key_auth_supported(self) -> bool:
        """Not by keys."""
        return False

    def kbdint_auth_supported(self) -> bool:
        """Only when asked."""
        return True

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Challenge:  # noqa: ARG002
        """One question, the answer to which is not shown."""
        return "", "", "en", [("Password: ", False)]

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool:  # noqa: ARG002
        """Whether the one answer is the password."""
        return list(responses) == [self._password]

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:  # noqa: ARG002
        """Always."""
        return True


@contextmanager
def dialogue_server(password: str) -> Iterator[int]:
    """The server on a port of 127.0.0.1, for the time of the block; gives the port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="dialogue", daemon=True)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        key = asyncssh.generate_private_key("ssh-ed25519")
        return await asyncssh.listen(
            HOST, 0, server_factory=partial(Dialogue, password), server_host_keys=[key]
        )

    try:
        server = asyncio.run_coroutine_threadsafe(listen(), loop).result()
        yield server.get_port()
        loop.call_soon_threadsafe(server.close)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
