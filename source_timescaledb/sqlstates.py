"""One table from SQLSTATE, or from the driver's class of error, to what kind of failure it is, and what to do about it.

A SQLSTATE decides alone: texts are translated and change between versions. The table is looked up by the
whole code first, then by its class (the first two characters); what is in neither is taken for transient, so
that it is retried within a budget and then reported, rather than ending a sync that a second attempt would
have saved. All classes of PostgreSQL's appendix are in it (unit_tests/test_sqlstates.py), so that is for codes to come.

What has no SQLSTATE was made up by the driver, and its class decides: a lost connection, an answer that did not come,
or a wrong use of the driver, which is ours.

The server's primary message names relations, roles and settings and is worth showing, but in some classes it
quotes data ("invalid input syntax for type integer: ..."). There the name of the SQLSTATE stands in for it.
DETAIL, CONTEXT and HINT may quote whole rows and are never used. An error is raised without its cause for the
same reason: a traceback would print it.

Codes: PostgreSQL's documentation, appendix A. TimescaleDB's own class TS: src/errors.h of
timescale/timescaledb.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import errors

from source_timescaledb.errors import (
    ConfigurationError,
    ConnectionsExhaustedError,
    ConnectorError,
    DefectError,
    FailureType,
    TransientError,
    UnavailableError,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a SQLSTATE, or an error of the driver, means for a sync."""

    kind: type[ConnectorError]
    remedy: str = ""
    quotable: bool = True
    """Whether the server's primary message can be shown, since it holds no data."""

    @property
    def failure_type(self) -> FailureType:
        """The failure type of the Airbyte protocol."""
        return self.kind.failure_type

    @property
    def retryable(self) -> bool:
        """Whether the same thing may work in a moment."""
        return issubclass(self.kind, TransientError)


def _config(remedy: str, *, quotable: bool = True) -> Verdict:
    return Verdict(ConfigurationError, remedy, quotable)


def _transient(remedy: str = "", *, quotable: bool = True) -> Verdict:
    return Verdict(TransientError, remedy, quotable)


def _unavailable(remedy: str) -> Verdict:
    return Verdict(UnavailableError, remedy)


def _defect(remedy: str, *, quotable: bool = True) -> Verdict:
    return Verdict(DefectError, remedy, quotable)


REPORT: Final = "Please report this with the log of the sync."
GRANT: Final = "Grant the role what it lacks, or leave the relation out of the connection."
ENCODING: Final = (
    "Text in the database is not valid in its own encoding, or has no form in UTF-8: mend those rows, or "
    "leave the column out of the connection."
)
UNFIT: Final = (
    "A column has changed its type since the source schema was read, or a view, function or generated value of the "
    "database computes with values that it cannot: refresh the source schema, or mend it there."
)
COMPUTED: Final = (
    "A view, function or generated value of the database divides by zero in one of its rows: mend it there, or "
    "leave it out of the connection."
)
ROUTINE: Final = (
    "A function or view of the database failed: mend it there, or leave it out of the connection."
)
NETWORK: Final = "Check that the server is up and the network to it is stable."
DOWN: Final = "Wait until the server is up."
POOLER: Final = (
    "A connection pooler seems to hand each transaction to another server process: connect to the server "
    "itself, or let the pooler keep sessions together."
)

VERDICTS: Final[dict[str, Verdict]] = {
    # Connection and authentication
    "08": _unavailable(NETWORK),
    "08P01": _transient("If a connection pooler stands before the server, connect to the server itself."),
    "28": _config("Correct the settings username and password, or what pg_hba.conf says of them."),
    "28000": _config("Let the server's pg_hba.conf admit this role, database, address and encryption."),
    "28P01": _config("Correct the settings username and password."),
    "3D": _config("Correct the setting database."),
    "3F": _config("Correct the setting schemas."),
    "0L": _config(GRANT),
    "0P": _config("Correct the setting username."),
    "2B": _config(GRANT),
    # Data: messages of these classes quote values
    "22": _config(UNFIT, quotable=False),
    "22012": _config(COMPUTED, quotable=False),
    "22021": _config(ENCODING, quotable=False),
    "22P05": _config(ENCODING, quotable=False),
    "23": _defect(REPORT, quotable=False),
    # Functions and views of the database, whose messages are theirs
    "02": _config(ROUTINE, quotable=False),
    "09": _config(ROUTINE, quotable=False),
    "0Z": _config(ROUTINE, quotable=False),
    "10": _config(ROUTINE, quotable=False),
    "20": _config(ROUTINE, quotable=False),
    "21": _config(ROUTINE, quotable=False),
    "27": _config(ROUTINE, quotable=False),
    "2F": _config(ROUTINE, quotable=False),
    "38": _config(ROUTINE, quotable=False),
    "39": _config(ROUTINE, quotable=False),
    "44": _config(ROUTINE, quotable=False),
    "P0": _config("A function or view of the database raised this error itself.", quotable=False),
    "HV": _config("Mend the foreign table or its server, or leave it out of the connection.", quotable=False),
    # Transactions, statements and cursors
    "03": _defect(REPORT),
    "0B": _defect(REPORT),
    "0F": _defect(REPORT),
    "24": _defect(REPORT),
    "25": _defect(REPORT),
    "25006": _config("The server is read-only or a standby: connect to the primary."),
    "25P03": _transient("Lower timescaledb.max_transaction_seconds."),
    "25P04": _transient("Lower timescaledb.max_transaction_seconds, or raise transaction_timeout."),
    "26": _config(POOLER),
    "2D": _defect(REPORT),
    "34": _config(POOLER),
    "3B": _defect(REPORT),
    "40": _transient(),
    "40001": _transient(
        "On a replica this is a conflict with what it replays: raise max_standby_streaming_delay, or set "
        "hot_standby_feedback, if it keeps happening."
    ),
    "40P01": _transient("Two sessions waited for each other, on a replica also with its replay: it passes."),
    "72": _transient("The server has forgotten rows that an old snapshot needs: raise old_snapshot_threshold."),
    # Names, rights and abilities
    "0A": _config("The server, or its TimescaleDB edition, cannot do this."),
    "42": _config("Correct the settings or the database that they name."),
    "42501": _config(GRANT),
    "42601": _defect(REPORT, quotable=False),
    "42704": _config("Create what is missing, such as a publication, a replication slot or a user mapping."),
    "42P01": _config("Refresh the schema of the connection: the relation was dropped or renamed."),
    "42703": _config("Refresh the schema of the connection: the column was dropped or renamed."),
    "TS": _config("Correct the settings or the hypertable that they name."),
    # Resources
    "53": _transient("Free resources on the server."),
    "53100": _transient("Free disk space on the server."),
    "53200": _transient("Free memory on the server, or lower timescaledb.parallel_chunks."),
    "53300": Verdict(
        ConnectionsExhaustedError,
        "Raise max_connections (or max_wal_senders, or the limit of the role or database) on the server, or lower "
        "timescaledb.parallel_chunks or max_db_connections.",
    ),
    "53400": _transient(
        "Raise the limit that is named, such as temp_file_limit or max_replication_slots, for this role or on the server."
    ),
    "54": _config("Leave the column or relation that exceeds the server's limit out of the connection."),
    # State of objects
    "55": _config("Bring the object into the state that the server asks for."),
    "55000": _config(
        "Bring the object into the state that the server asks for; a materialized view has to be refreshed "
        "once before it can be read."
    ),
    "55006": _transient("Something else uses the object: end it, or wait."),
    "55P03": _transient("Something else holds a lock on the relation: end it, or wait."),
    # Intervention and faults of the server
    "57": _transient(DOWN),
    "57014": _transient("Raise statement_timeout for this role if it is shorter than the reading takes."),
    "57P01": _unavailable(DOWN),
    "57P02": _unavailable(DOWN),
    "57P03": _unavailable(DOWN),
    "57P04": _config("The database was dropped: correct the setting database."),
    "57P05": _transient("Raise idle_session_timeout for this role."),
    "58": _transient("Look into the server's log: it could not use a file."),
    "F0": _config("Mend the server's configuration files."),
    "XX": _defect("Look into the server's log; if the server is sound, please report this."),
}  # fmt: skip
"""From a SQLSTATE, or its class, to its verdict."""

UNKNOWN: Final = _transient(quotable=False)
LOST: Final = _unavailable(NETWORK)


@dataclass(frozen=True, slots=True)
class _Failing:
    """What has failed where the server said nothing, and what that means."""

    what: str
    verdict: Verdict


DRIVER: Final[Mapping[type, _Failing]] = {
    errors.ConnectionTimeout: _Failing("the server did not answer in time", LOST),
    errors.OperationalError: _Failing("the connection to the server was lost", LOST),
    errors.InterfaceError: _Failing("the connection to the server was lost", LOST),
    psycopg.Error: _Failing("the database driver refused", _defect(REPORT)),
}
"""From what psycopg raises without a SQLSTATE, or from what that derives from, to its verdict."""


def verdict(sqlstate: str) -> Verdict:
    """Return what a SQLSTATE of five characters means."""
    return VERDICTS.get(sqlstate) or VERDICTS.get(sqlstate[:2], UNKNOWN)


def connector_error(error: psycopg.Error, doing: str) -> ConnectorError:
    """Return the error for the user that a driver's error amounts to.

    Args:
        error: what psycopg raised.
        doing: what we were doing, as the subject of a sentence: "Reading public.metrics".
    """
    if error.sqlstate:
        return server_error(error.sqlstate, error.diag.message_primary, doing)
    failing = next(DRIVER[ancestor] for ancestor in type(error).__mro__ if ancestor in DRIVER)
    return failing.verdict.kind(
        f"{doing} failed: {failing.what}.",
        remedy=failing.verdict.remedy,
        detail=f"{type(error).__module__}.{type(error).__qualname__} without SQLSTATE",
    )


def server_error(sqlstate: str, message: str | None, doing: str) -> ConnectorError:
    """Return the error for a SQLSTATE; the server's primary message is quoted only where it holds no data."""
    judged = verdict(sqlstate)
    reason = message if message and judged.quotable else name(sqlstate)
    return judged.kind(
        f"{doing} failed: {reason.rstrip('.')} (SQLSTATE {sqlstate}).",
        remedy=judged.remedy,
        detail=f"SQLSTATE {sqlstate}, {name(sqlstate)}",
    )


def name(sqlstate: str) -> str:
    """Return the name of a SQLSTATE in words, such as "numeric value out of range"."""
    try:
        condition = errors.lookup(sqlstate).__name__
    except KeyError:
        return "an error unknown to the driver"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", condition).lower()
