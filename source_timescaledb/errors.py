"""Every failure is one of three kinds, and its kind alone decides what happens next.

A configuration error stays until somebody changes something: it is never retried. A transient error goes away by
itself: it is retried with jitter inside a budget. A defect is ours. The three map one to one onto the failure types of
the Airbyte protocol, and which kind a database error is follows from its SQLSTATE or its driver class, never from its
text: texts are translated and change between versions.

A message is a sentence that says what happened; `remedy` says what to do. Neither ever holds a secret or a row's value.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from source_timescaledb.remedy import Statement, brief


class FailureType(str, Enum):
    """The failure types of the Airbyte protocol (airbyte_protocol.yaml, AirbyteErrorTraceMessage)."""

    CONFIG = "config_error"
    TRANSIENT = "transient_error"
    SYSTEM = "system_error"


class ConnectorError(Exception):
    """A failure with a sentence for the user, a remedy and, for the log, the technical detail.

    `statements` are the SQL that mends it; the user reads them before the remedy.
    """

    failure_type = FailureType.SYSTEM

    def __init__(
        self, message: str, *, remedy: str = "", detail: str = "", statements: Iterable[Statement] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.detail = detail
        self.statements = tuple(statements)

    @property
    def sentence(self) -> str:
        """What happened and what to do, as the user reads it."""
        return " ".join(filter(None, (self.message, brief(self.statements), self.remedy)))

    def __str__(self) -> str:
        return self.sentence


class ConfigurationError(ConnectorError):
    """Somebody has to change a setting, a grant or the server before this can work; never retried."""

    failure_type = FailureType.CONFIG


class TransientError(ConnectorError):
    """The same thing may work in a moment; retried with jitter inside a budget."""

    failure_type = FailureType.TRANSIENT
    longest_pause = 30.0
    """Seconds between two attempts at most: a server that is down needs time."""


class UnavailableError(TransientError):
    """The server serves nobody, as far as one attempt can tell: down, out of reach, or full.

    Many of these in a row open the circuit breaker; any other failure is an answer, and proves that the server is there.
    """


class ConnectionsExhaustedError(UnavailableError):
    """The server has no connection left for us; those that we hold already go on working."""


class ContentionError(TransientError):
    """Another session has what we need for a moment: worth asking again soon, and no harm to anybody."""

    longest_pause = 0.5


class TornReadError(ConnectorError):
    """A passing failure after a part of an indivisible read was emitted: only the next sync may try again."""

    failure_type = FailureType.TRANSIENT


REPORT_VERSIONS: Final = "Please report this with the versions of PostgreSQL and TimescaleDB."
"""What to do about something that the server sent and should not have."""


class DefectError(ConnectorError):
    """The connector met something it should have handled: a bug of ours, to be reported."""

    failure_type = FailureType.SYSTEM
