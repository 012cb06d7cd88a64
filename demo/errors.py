"""What goes wrong in the demo is told in one sentence."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot go on; the message is the sentence to print."""
