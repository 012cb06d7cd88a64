"""The page: tables in Markdown with the plots beside them. Pure: measurements in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Final

from benchmarks.costs import (
    Chunks,
    Contest,
    Figures,
    HugeChunk,
    LargeTransaction,
    ManyChunks,
    Measure,
    Spread,
)
from benchmarks.surroundings import Surroundings

NO_VALUE: Final = "-"
MEGABYTE: Final = 1_000_000

HEAD: Final = """\
# Benchmarks

Written by `{command}`, which measured everything on this page in one run. Repeat it with `make bench`.

"""

SNAPSHOT: Final = """\
## A full read, beside `psql COPY … TO STDOUT`

Everybody reads the same hypertable in turns ({rounds} rounds) and prints into a pipe that is drained by the same
loop. COPY prints PostgreSQL's text format; the connector prints Airbyte RECORD lines, about twice as many bytes. Each
round gives one ratio to the COPY of that round; the table has their median and range. All but memory is per row: the
stock source, a plain `AbstractSource` over a server-side cursor (`benchmarks/stock_source.py`), reads fewer rows where
the table is large.

*Wall* and *client CPU* are those after start-up (`psql --version`, `spec`); *wall, start-up included* is from the
start of the process to its end. *Server CPU* is that of all the server's processes. *Peak memory* is the client's, all
its life. With two readers both cores work where COPY uses one: less wall time, not less work.

![Cost of each reader as a multiple of psql COPY](benchmarks/snapshot.svg)

### Times `psql COPY`

{ratios}

### Figures

{figures}

"""

CHUNKS: Final = """\
## Many chunks

Hypertables of {rows_per_chunk} rows a chunk, read by the connector with two readers. *Discover* is what `discover`
takes longer than `spec`: connecting and reading the catalog. The last column is COPY of the whole hypertable, in one
transaction that locks every chunk until its end.

![Time to read a hypertable by its number of chunks](benchmarks/chunks.svg)

{many}

With `snapshot_since` set to the last {wanted} days of {chunks:,} daily chunks, the first load took {seconds:.2f} s
after start-up and printed {rows:,} rows. By the server's statistics {scanned} chunks were scanned.

"""

HUGE: Final = """\
## One huge chunk

One chunk of {rows:,} rows in {columns} columns, `max_transaction_seconds` {limit:g}, two readers; medians of {rounds}
runs, but for the longest transaction, which is the longest of all.

{table}
"""


CHANGES: Final = """
## Changes, beside `pg_recvlogical`

Both decode the same write-ahead log, each from a copy of the same slot, in turns ({rounds} rounds). `pg_recvlogical`
prints the messages of pgoutput as they come; the connector decodes them, asks for each row whether it is news, and prints
RECORD lines. Times `pg_recvlogical`:

{ratios}

{figures}
"""


MEMORY: Final = """
## Memory, where there is much to hold

One transaction of so many rows of ten columns, which the server sends when it has committed, followed by a reader that
takes RECORD lines as fast as they come, or slowly. *Peak memory* is the connector's, all its life.

{table}
"""


def page(
    surroundings: Surroundings,
    contests: Sequence[Contest],
    chunks: Chunks,
    changes: Sequence[Contest],
    transactions: Sequence[LargeTransaction],
) -> str:
    """The whole page."""
    many, recent = chunks.many, chunks.recent
    return "".join(
        (
            HEAD.format(command=surroundings.command),
            facts(surroundings),
            SNAPSHOT.format(rounds=contests[0].rounds, ratios=_ratios(contests), figures=_figures(contests)),
            CHUNKS.format(
                rows_per_chunk=many[0].rows // many[0].chunks,
                many=_many(many),
                wanted=recent.wanted,
                chunks=recent.chunks,
                seconds=recent.read_seconds,
                rows=recent.rows,
                scanned=recent.scanned,
            ),
            HUGE.format(
                rows=chunks.huge.runs[0].rows,
                columns=chunks.huge.columns,
                limit=chunks.huge.limit,
                rounds=len(chunks.huge.runs),
                table=_huge(chunks.huge),
            ),
            CHANGES.format(rounds=changes[0].rounds, ratios=_ratios(changes), figures=_figures(changes)),
            MEMORY.format(table=_memory(transactions)),
        )
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but texts at the front are numbers and stand right."""
    body = list(rows)
    numeric = [all(_is_number(row[column]) for row in body) for column in range(len(head))]
    rule = ["---:" if number else "---" for number in numeric]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))


def times(spread: Spread | None) -> str:
    """A ratio with its range: `1.02 (0.98 to 1.07)`."""
    if spread is None:
        return NO_VALUE
    return f"{_short(spread.middle)} ({_short(spread.low)} to {_short(spread.high)})"


def _short(number: float) -> str:
    """Two decimals, fewer where they say nothing."""
    decimals = 2 if number < 10 else 1 if number < 100 else 0
    return f"{number:.{decimals}f}"


def _is_number(text: str) -> bool:
    return text == NO_VALUE or text[:1].isdigit()


def _whole(number: float | None) -> str:
    return NO_VALUE if number is None else f"{number:,.0f}"


def _megabytes(size: float | None) -> str:
    return NO_VALUE if size is None else _whole(size / MEGABYTE)


def facts(surroundings: Surroundings) -> str:
    """Where it was measured, as a table."""
    rows = (
        ("Date", surroundings.date),
        ("Connector", surroundings.connector),
        ("Server", surroundings.server),
        ("Python", f"{surroundings.python}; {surroundings.libraries}"),
        ("Machine", surroundings.machine),
        ("Load average at the start", surroundings.load),
    )
    return table(("", ""), [row for row in rows if row[1]]) + "\n\n"


def _ratios(contests: Iterable[Contest]) -> str:
    def rows() -> Iterator[Sequence[str]]:
        for contest in contests:
            for name in contest.contenders:
                yield contest.title, name, *(times(contest.ratio(name, measure)) for measure in Measure)

    return table(("rows of", "read by", *(measure.value for measure in Measure)), rows())


def _figures(contests: Iterable[Contest]) -> str:
    head = (
        "rows of",
        "read by",
        "rows",
        "rows/s",
        "MB/s",
        "wall s",
        "of it start-up s",
        "client CPU s per million rows",
        "server CPU s per million rows",
        "peak memory MB",
    )

    def rows() -> Iterator[Sequence[str]]:
        for contest in contests:
            for name, runs in contest.everybody.items():
                figures = Figures.over(runs)
                yield (
                    contest.title,
                    name,
                    _whole(figures.rows),
                    _whole(figures.rows_per_second),
                    _megabytes(figures.bytes_per_second),
                    f"{figures.wall:.2f}",
                    f"{figures.start_up:.2f}",
                    f"{figures.client_cpu_per_million:,.2f}",
                    f"{figures.server_cpu_per_million:,.2f}",
                    _megabytes(figures.peak_memory),
                )

    legend = "\n".join(f"- {contest.title}: {contest.what}." for contest in contests)
    return f"{table(head, rows())}\n\n{legend}"


def _many(many: Iterable[ManyChunks]) -> str:
    head = (
        "chunks",
        "rows",
        "read s",
        "ms per chunk",
        "discover s",
        "largest STATE bytes",
        "peak memory MB",
        "psql COPY s",
    )
    rows = (
        (
            f"{one.chunks:,}",
            f"{one.rows:,}",
            f"{one.read_seconds:.2f}",
            f"{one.milliseconds_per_chunk:.2f}",
            f"{one.discover_seconds:.2f}",
            f"{one.largest_state:,}",
            _megabytes(one.peak_memory),
            f"{one.copy_seconds:.2f}",
        )
        for one in many
    )
    return table(head, rows)


def _memory(transactions: Iterable[LargeTransaction]) -> str:
    head = ("its reader takes", "rows in the transaction", "output MB", "wall s", "peak memory MB")
    rows = (
        (
            "all that comes"
            if one.bytes_per_second is None
            else f"at most {_megabytes(one.bytes_per_second)} MB a second",
            f"{one.rows:,}",
            _megabytes(one.output),
            f"{one.wall:.1f}",
            _megabytes(one.peak_memory),
        )
        for one in transactions
    )
    return table(head, rows)


def _huge(huge: HugeChunk) -> str:
    figures = Figures.over(huge.runs)
    head = (
        "rows/s",
        "wall s",
        "of it start-up s",
        "output MB",
        "peak memory MB",
        "longest transaction s",
        "looks at most s apart",
    )
    row = (
        _whole(figures.rows_per_second),
        f"{figures.wall:.2f}",
        f"{figures.start_up:.2f}",
        _megabytes(median(run.output for run in huge.runs)),
        _megabytes(figures.peak_memory),
        f"{huge.longest_transaction:.3f}",
        f"{huge.longest_gap:.3f}",
    )
    return table(head, [row])
