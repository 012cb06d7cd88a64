"""A sync on a terminal: for each stream how far it is, how fast, how long it will take, and how far behind the log it is.

Drawn on stderr, and only if that is a terminal while stdout is none: protocol lines on the same screen would tear it to
pieces, and whoever looks at those needs no picture. Nothing here ever writes to stdout. A thread of rich draws twice a
second by the counters; it ends with the `with` block, however that is left, and its last picture stays.

Rich is imported only where it draws.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TextIO

from source_timescaledb.counters import StreamCounters, SyncCounters

if TYPE_CHECKING:
    from rich.table import Table

DRAWN_PER_SECOND: Final = 2
RECENT_SECONDS: Final = 10.0
"""Rows a second are those of so long."""
MOST_STREAMS: Final = 20


@dataclass(frozen=True, slots=True)
class Line:
    """What is shown of one stream, as text."""

    stream: str
    chunks: str
    rows: str
    speed: str
    left: str

    @property
    def cells(self) -> tuple[str, ...]:
        """Its columns."""
        return self.stream, self.chunks, self.rows, self.speed, self.left


@dataclass(slots=True)
class Speedometer:
    """How many rows a second came of late."""

    samples: deque[tuple[float, int]] = field(default_factory=deque)

    def speed(self, now: float, rows: int) -> float:
        """Rows a second by now, 0 while that cannot be said."""
        self.samples.append((now, rows))
        while len(self.samples) > 2 and now - self.samples[1][0] >= RECENT_SECONDS:
            self.samples.popleft()
        began, before = self.samples[0]
        return (rows - before) / (now - began) if now > began else 0.0


class Picture:
    """What the terminal shows of a sync; asked again and again by one thread."""

    def __init__(self, counters: SyncCounters) -> None:
        self._counters = counters
        self._speedometers: dict[str, Speedometer] = {}

    def lines(self) -> list[Line]:
        """The streams that are at work, then those that have ended, newest first, as many as there is room for."""
        now = self._counters.clock()
        streams = list(self._counters.streams.values())
        working = [stream for stream in streams if stream.ended is None]
        ended = [stream for stream in reversed(streams) if stream.ended is not None]
        lines = [self._line(stream, now) for stream in [*working, *ended]]
        if len(lines) > MOST_STREAMS:
            hidden = len(lines) - MOST_STREAMS + 1
            return [*lines[: MOST_STREAMS - 1], Line(f"and {hidden} more", "", "", "", "")]
        return lines

    @property
    def caption(self) -> str:
        """What holds for the sync as a whole."""
        counters = self._counters
        parts = [
            f"{sum(stream.rows for stream in list(counters.streams.values())):,} rows",
            f"{in_words(counters.seconds)}",
        ]
        if counters.lag_size or counters.lag_seconds:
            parts.append(f"behind the log by {in_bytes(counters.lag_size)}, {in_words(counters.lag_seconds)}")
        if counters.retries:
            parts.append(f"{counters.retries} retries")
        return " · ".join(parts)

    def _line(self, stream: StreamCounters, now: float) -> Line:
        name = printable(stream.name)
        chunks = f"{stream.chunks:,} / {stream.chunks + stream.chunks_left:,}"
        if stream.ended is not None:
            seconds = max(stream.seconds(now), 1e-9)
            return Line(name, chunks, f"{stream.rows:,}", f"{stream.rows / seconds:,.0f}", "ended")
        speed = self._speedometers.setdefault(stream.name, Speedometer()).speed(now, stream.rows)
        left = max(stream.expected - stream.rows, 0)
        eta = in_words(left / speed) if speed and left else ""
        return Line(name, chunks, f"{stream.rows:,}", f"{speed:,.0f}", eta)


def printable(name: str) -> str:
    """A name without what would move the cursor, or do worse: whoever can name a table does not draw here."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def in_words(seconds: float) -> str:
    """A duration as people say it: `42 s`, `3 min`, `5 h 20 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def in_bytes(size: float) -> str:
    """A size as people say it."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def shows(screen: TextIO | None, output: TextIO | None) -> bool:
    """Whether a picture is worth drawing: there is a terminal, and the protocol is told somewhere else."""
    return _is_terminal(screen) and not _is_terminal(output)


@contextmanager
def live(counters: SyncCounters, screen: TextIO) -> Iterator[None]:
    """Draw on a terminal while the block runs. A terminal that goes away takes only the picture with it."""
    from rich.console import Console  # noqa: PLC0415 - most syncs draw nothing
    from rich.live import Live  # noqa: PLC0415 - as above

    picture = Picture(counters)
    file = os.fdopen(os.dup(screen.fileno()), "w", encoding=screen.encoding, errors=screen.errors)
    view = Live(
        get_renderable=lambda: _table(picture),
        console=Console(file=file),
        refresh_per_second=DRAWN_PER_SECOND,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    view.start()
    try:
        yield
    finally:
        for end in (view.stop, file.close):
            with suppress(OSError):
                end()


def _table(picture: Picture) -> Table:
    from rich.markup import escape  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415 - as above

    table = Table(caption=picture.caption, box=None, caption_justify="left")
    table.add_column("stream")
    for title in ("chunks", "rows", "rows/s", "left"):
        table.add_column(title, justify="right")
    for line in picture.lines():
        table.add_row(*map(escape, line.cells))
    return table


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False
