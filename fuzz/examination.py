"""What must hold of every input, and of every session.

*Alone.* A message is decoded or refused with `MalformedMessage`, whose text holds no value. What was decoded and is
encoded again gives the same bytes, so nothing was overlooked and nothing made up. A valid one decodes to what was
encoded. The fast writer of rows gives what the plain one gives, and declines what is not its relation's.

*In a row.* A session comes to lines, or is refused with a `ConnectorError`; the fast path and the plain path agree in
every byte, or in the sentence. Where all messages are valid, each line is JSON, wherever they stand; a session that is
whole is not refused, unless it has a time that no calendar has.

*Always.* No other exception, no time without end, no memory out of proportion to the input.
"""

from __future__ import annotations

import signal
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

import orjson

from fuzz.encoder import encode
from fuzz.layouts import CANARIES, Layout
from fuzz.mutations import Mutation
from fuzz.scene import Ended, pumped
from fuzz.sessions import Fate, Session, mutants
from source_timescaledb.errors import ConnectorError
from source_timescaledb.pgoutput.decoder import MalformedMessage, decode
from source_timescaledb.pgoutput.messages import UNCHANGED, Insert, Message
from source_timescaledb.pgoutput.rows import write_row

MUTANTS: Final = 3
"""How many damaged copies of each message are tried alone."""
HANG_SECONDS: Final = 20.0
WEIGHED: Final = 500
"""Of so many sessions one has its memory measured, which makes it slow."""
BYTES_FOR_A_BYTE: Final = 64
BYTES_IN_ANY_CASE: Final = 32_768


class Complaint(Exception):  # noqa: N818 - what was found, and not always an error
    """Something that must hold does not."""

    def __init__(self, what: str, payload: bytes | None = None) -> None:
        super().__init__(what)
        self.payload = payload
        """The one message that shows it, where one does."""


class Hang(BaseException):
    """Time is up; nothing between catches it."""


@dataclass(slots=True)
class Tally:
    """What was tried, and what came of it."""

    inputs: Counter[tuple[str, Mutation, str]] = field(default_factory=Counter)
    """By kind of message, damage and outcome."""
    sessions: Counter[tuple[Fate, str]] = field(default_factory=Counter)
    """By what became of their messages, and outcome."""
    lines: int = 0

    def add(self, other: Tally) -> None:
        """Count what another has counted."""
        self.inputs.update(other.inputs)
        self.sessions.update(other.sessions)
        self.lines += other.lines

    @property
    def total(self) -> int:
        """How many inputs."""
        return self.inputs.total()


def examine(session: Session, seed: int, tally: Tally) -> None:
    """Try everything with a session. Raises Complaint."""
    with _in_time():
        weighed = session.number % WEIGHED == 0
        for message, payload in zip(session.messages, session.valid, strict=True):
            read = alone(payload, session.layout, weighed=weighed)
            if read != message:
                raise Complaint(f"{type(message).__name__} decodes to something else", payload)
            tally.inputs[type(message).__name__, Mutation.NONE, "decoded"] += 1
        for mutation, payload in mutants(session, seed, MUTANTS):
            read = alone(payload, session.layout, weighed=weighed)
            kind = "none" if read is None else type(read).__name__
            tally.inputs[kind, mutation, "refused" if read is None else "decoded"] += 1
        ended = together(session)
        outcome = "told" if ended.error is None else type(ended.error).__name__
        tally.sessions[session.fate, outcome] += 1
        tally.lines += ended.lines.count(b"\n")


def alone(payload: bytes, layout: Layout, *, weighed: bool = False) -> Message | None:
    """Read a message; None if it is refused. Raises Complaint."""
    try:
        message = _weighed(payload) if weighed else decode(payload)
    except MalformedMessage as error:
        _check_silence(error, payload)
        _check_row(payload, None, layout)
        return None
    except Complaint:
        raise
    except Exception as error:
        raise Complaint(f"decode raises {type(error).__name__}", payload) from error
    _check_encoding(message, payload)
    _check_row(payload, message, layout)
    return message


def together(session: Session) -> Ended:
    """Send a session through both paths. Raises Complaint."""
    fast, plain = (
        pumped(session.place, session.layout, session.sent, plain=plain) for plain in (False, True)
    )
    for ended in (fast, plain):
        if ended.error is not None:
            if not isinstance(ended.error, ConnectorError):
                raise Complaint(f"the pump raises {type(ended.error).__name__}") from ended.error
            if not session.described_wrongly:
                _check_silence(ended.error, None)
    if fast.told != plain.told:
        raise Complaint(f"the fast path and the plain one differ: {fast.error!r}, {plain.error!r}")
    if session.fate is not Fate.DAMAGED:
        _check_lines(fast.lines)
    if session.fate is Fate.WHOLE and fast.error is not None and not session.refusable:
        raise Complaint("a valid session is refused") from fast.error
    return fast


def _check_encoding(message: Message, payload: bytes) -> None:
    """A schema of the server's own may be written or left out."""
    if encode(message) != payload and b"pg_catalog" not in payload:
        raise Complaint("what was decoded is encoded otherwise", payload)


def _check_row(payload: bytes, message: Message | None, layout: Layout) -> None:
    """The fast writer of a row against the plain one."""
    ours = (
        isinstance(message, Insert)
        and message.relation == layout.relation.oid
        and len(message.new) == len(layout.relation.columns)
        and UNCHANGED not in message.new
    )
    expected: bytes | str | None = None
    if ours:
        assert isinstance(message, Insert)
        try:
            expected = write_row(layout.fields, message.new)
        except ConnectorError as error:
            expected = str(error)
    try:
        written: bytes | str | None = layout.write(payload)
    except ConnectorError as error:
        _check_silence(error, payload)
        written = str(error)
    except Exception as error:
        raise Complaint(f"the writer of rows raises {type(error).__name__}", payload) from error
    if written != expected:
        raise Complaint("the fast writer of a row and the plain one differ", payload)


def _check_silence(error: BaseException, payload: bytes | None) -> None:
    """No value in an exception, nor in one that it comes from."""
    told: BaseException | None = error
    while told is not None:
        text = f"{told} {getattr(told, 'detail', '')}"
        if any(canary in text for canary in CANARIES):
            raise Complaint(f"{type(told).__name__} tells a value: {text}", payload)
        told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)


def _check_lines(lines: bytes) -> None:
    """Each line is JSON and has an end: joined by commas they are a list."""
    try:
        orjson.loads(b"[%b]" % lines.replace(b"}}\n", b"}},")[:-1])
    except orjson.JSONDecodeError as error:
        raise Complaint("the lines are no JSON") from error


@contextmanager
def _in_time() -> Iterator[None]:
    """Raise Hang after a while."""

    def up(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, up)
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    try:
        yield
    except Hang:
        raise Complaint(f"no end after {HANG_SECONDS:g} seconds") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _weighed(payload: bytes) -> Message:
    """Read a message; complain of more memory than it explains, at any moment."""
    tracemalloc.start()
    try:
        return decode(payload)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        if peak > BYTES_FOR_A_BYTE * len(payload) + BYTES_IN_ANY_CASE:
            raise Complaint(f"{len(payload)} bytes take {peak} bytes of memory", payload)
