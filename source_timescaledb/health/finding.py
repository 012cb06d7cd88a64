"""A finding: one thing that is wrong with a server, its rights or its settings, and what to do about it.

What is to be done is data, so that a sentence, a table, JSON and a script are made of one thing. A sync raises the first
finding that blocks it: so it fails by the same judgement by which `check` and `doctor` say that it would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from typing_extensions import Self

from source_timescaledb.errors import ConfigurationError, ConnectorError
from source_timescaledb.remedy import Statement, brief


class Severity(Enum):
    """How much a finding matters; in this order they are told."""

    BLOCKING = "blocking"
    """A sync would fail or lose data."""
    WARNING = "warning"
    NOTE = "note"
    """Nothing is wrong; somebody may want to know."""


class Topic(Enum):
    """What a finding is about, in the order in which a sync would come upon it, and in which it is mended."""

    CONFIGURATION = "configuration"
    CONNECTION = "connection"
    SERVER = "server"
    RIGHTS = "rights"
    EXTENSION = "extension"
    STREAMS = "streams"
    COMPRESSION = "compression"
    UNSEEN = "unseen writes"
    """Those that the log does not show; an audit tells at the end of a sync what came of them."""
    IDENTITY = "replica identities"
    PUBLICATION = "publication"
    STATE = "state"
    SLOT = "slot"
    STATISTICS = "statistics"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and what to do."""

    severity: Severity
    topic: Topic
    sentence: str
    remedy: str = ""
    """What to do beside or instead of running `statements`, as a sentence."""
    statements: tuple[Statement, ...] = ()
    """What to run, in this order."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What to change in the configuration, by path: `{"timescaledb.chunk_by_chunk": True}`."""
    choice: bool = False
    """Whether only its owner can say that it is to be changed at all: a script has it as a comment."""
    kind: type[ConnectorError] = ConfigurationError
    """What a sync raises for it."""

    @classmethod
    def of(cls, error: ConnectorError, topic: Topic, *, severity: Severity = Severity.BLOCKING) -> Self:
        """The finding that an error amounts to."""
        return cls(
            severity,
            topic,
            error.message,
            error.remedy,
            statements=error.statements,
            kind=type(error),
        )

    def __str__(self) -> str:
        return " ".join(filter(None, (self.sentence, brief(self.statements), self.remedy)))

    @property
    def error(self) -> ConnectorError:
        """What a sync raises for it."""
        return self.kind(self.sentence, remedy=self.remedy, statements=self.statements)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """What blocks first, and inside of that what a sync would come upon first."""
    severities, topics = list(Severity), list(Topic)
    return sorted(findings, key=lambda one: (severities.index(one.severity), topics.index(one.topic)))


def raise_first(findings: Iterable[Finding], warn: Callable[[str], None] | None = None) -> None:
    """Fail by the first finding that blocks; without any, tell the warnings. Raises ConnectorError."""
    for finding in ordered(findings):
        if finding.severity is Severity.BLOCKING:
            raise finding.error
        if finding.severity is Severity.WARNING and warn is not None:
            warn(str(finding))
