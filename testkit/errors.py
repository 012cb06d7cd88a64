"""What the kit cannot do it says in one sentence, so that a demo can print it and stop."""

from __future__ import annotations


class KitError(Exception):
    """Something the kit needs is not as it should be; the message says what happened and what to do."""


class NoServerError(KitError):
    """No TimescaleDB server can be had on this machine."""
