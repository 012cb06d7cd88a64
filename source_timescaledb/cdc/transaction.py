"""The transaction that is being told, and the order in which a server tells of one.

    Begin, then relations, changes and messages, then the Commit of this Begin; then the next

A change outside of a transaction would have no time and no end of its line, and a second Begin would lose what the first
one has noted. No server sends such; PostgreSQL's own subscriber refuses it as a violation of the protocol, and a Commit
at another position than its Begin has told (worker.c, apply_handle_commit), and so do we. Only a message that is not
transactional may stand anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from source_timescaledb.cdc.ledger import Ledger
from source_timescaledb.cdc.route import Route
from source_timescaledb.errors import REPORT_VERSIONS, DefectError
from source_timescaledb.lsn import Lsn
from source_timescaledb.pgoutput.messages import Begin, LogicalMessage, Message, utc_text
from source_timescaledb.pgoutput.regions import Markers


class MisplacedMessage(DefectError):  # noqa: N818 - it names what was met
    """A message stands where none of its kind can."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The server sent {what}.",
            remedy=REPORT_VERSIONS,
        )


@dataclass(slots=True)
class Transaction:
    """The one that is being told."""

    xid: int = 0
    final_lsn: Lsn = Lsn(0)  # noqa: RUF009 - immutable
    committed_at: str = ""
    tail: bytes = b""
    """What follows the clock in the line of a row that is not deleted."""
    markers: Markers = field(default_factory=Markers)
    ledgers: list[Ledger] = field(default_factory=list)
    """Those that it has noted something in."""

    def note(self, route: Route, rows: int) -> None:
        """It inserts rows into a chunk, or deletes some, whether that is news or not."""
        owner = route.owner
        ledger = owner.stream.ledger
        if ledger is not None and owner.chunk is not None and ledger.note(owner.chunk, rows):
            self.ledgers.append(ledger)

    def finish(self) -> None:
        """It is told to its end."""
        self.markers.finish()
        for ledger in self.ledgers:
            ledger.commit(self.xid)
        self.ledgers.clear()

    def discard(self) -> None:
        """It will be told again, from its beginning."""
        for ledger in self.ledgers:
            ledger.discard()


def check_place(message: Message, *, inside: bool) -> None:
    """Refuse a message that cannot stand inside of a transaction, or outside.

    Raises:
        MisplacedMessage: it does.
    """
    if isinstance(message, Begin) is inside and not (
        isinstance(message, LogicalMessage) and not message.transactional
    ):
        where = "inside" if inside else "outside"
        raise MisplacedMessage(f"a message of kind {type(message).__name__} {where} of a transaction")


def commit_text(begin: Begin) -> str:
    """When a transaction was committed, as records tell it.

    Raises:
        DefectError: no calendar has that time.
    """
    try:
        return utc_text(begin.commit_time)
    except OverflowError:
        pass
    raise DefectError("The server sent a transaction that was committed outside of the years 1 to 9999.")
