"""Records the states of this version, of every kind, for the versions to come: `python -m integration_tests.recording`.

They go to `unit_tests/state/written_by/<version>/`, one file for each kind, as a platform would hand them back. Whoever
raises the version records them, before the model changes; `unit_tests/state/test_recorded.py` reads what all versions
have written. They are real: syncs of a Community edition server, small slices in several readers, stopped in their
middle or ended. Of many states those with the most in them are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from integration_tests.cdc.conftest import Followed, fill, make_tables
from integration_tests.inprocess import Ended, InProcess
from integration_tests.slices import shrink_slices
from testkit import servers
from testkit.database import Database
from testkit.protocol import Json

FOLDER: Final = Path(__file__).parents[1] / "unit_tests" / "state" / "written_by"
TABLES: Final = ("metrics", "events", "parts")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of state, and how to come by it."""

    name: str
    states: Callable[[Database], list[Json]]


def fullest(ended: Ended) -> list[Json]:
    """Of each stream, or of the GLOBAL ones, the state with the most in it."""
    longest: dict[str, Json] = {}
    for state in (told.message for told in ended.states):
        series = str(state.get("stream", {}).get("stream_descriptor"))
        if len(orjson.dumps(state)) >= len(orjson.dumps(longest.get(series, {}))):
            longest[series] = state
    return list(longest.values())


def snapshots(database: Database) -> list[Json]:
    """Full refresh in its middle: chunks with a window, and keys."""
    config = config_of(database, snapshot_since="2024-01-01T12:00:00Z", parallel_chunks=4)
    return fullest(InProcess(config).read())


def finished_snapshots(database: Database) -> list[Json]:
    """Full refresh at its end."""
    return InProcess(config_of(database)).read().state()


def cursors(database: Database) -> list[Json]:
    """Incremental by a cursor, in its middle."""
    source = InProcess(config_of(database, parallel_chunks=4))
    return fullest(source.read(source.catalog("incremental", parts="id")))


def finished_cursors(database: Database) -> list[Json]:
    """Incremental by a cursor, at its end."""
    source = InProcess(config_of(database))
    return source.read(source.catalog("incremental", parts="id")).state()


def changes(mode: str, *, finished: bool) -> Callable[[Database], list[Json]]:
    """Changes followed: in the middle of the first load, or after compression and an audit."""

    def states(database: Database) -> list[Json]:
        followed = Followed(database, f"slot_{database.name}", {"state_mode": mode, "parallel_chunks": 4})
        followed.publish(*TABLES)
        first = followed.sync(*TABLES)
        if not finished:
            return fullest(first)
        database.execute(
            "ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')"
        )
        database.execute("SELECT compress_chunk(chunk) FROM show_chunks('metrics') chunk LIMIT 2")
        return followed.sync(*TABLES).state()

    return states


def chunk_events(database: Database) -> list[Json]:
    """All chunks, as the stream of chunk events knows them."""
    source = InProcess(config_of(database, chunk_events=True))
    return source.read(source.catalog("incremental", ["timescaledb_chunk_events"])).state()


def mixture(database: Database) -> list[Json]:
    """A table that is followed, one that is read in whole, a view with a cursor, and chunk events."""
    followed = Followed(database, f"slot_{database.name}", {"chunk_events": True})
    database.execute("CREATE VIEW seen AS SELECT * FROM parts")
    followed.publish("metrics")
    source = followed.source()
    catalog = source.catalog(
        "incremental", ["metrics", "events", "seen", "timescaledb_chunk_events"], seen="id"
    )
    catalog["streams"][1]["sync_mode"] = "full_refresh"
    return source.read(catalog).state()


KINDS: Final = (
    Kind("full-refresh-in-its-middle", snapshots),
    Kind("full-refresh-finished", finished_snapshots),
    Kind("cursor-in-its-middle", cursors),
    Kind("cursor-finished", finished_cursors),
    Kind("changes-global-in-the-first-load", changes("global", finished=False)),
    Kind("changes-global-finished", changes("global", finished=True)),
    Kind("changes-streams-in-the-first-load", changes("stream", finished=False)),
    Kind("changes-streams-finished", changes("stream", finished=True)),
    Kind("changes-beside-other-streams", mixture),
    Kind("chunk-events", chunk_events),
)


def config_of(database: Database, **settings: Any) -> Json:
    """The configuration of the tables' owner."""
    return database.config(
        username=database.owner, password=database.passwords["owner"], timescaledb=settings
    )


@contextmanager
def small_slices() -> Iterator[None]:
    """So small that little data makes many states, a STATE after each."""
    with pytest.MonkeyPatch.context() as patch:
        shrink_slices(patch, 16 * 1024)
        patch.setattr("source_timescaledb.airbyte.reading.STATE_SECONDS", 0.0)
        patch.setattr("source_timescaledb.airbyte.following.ROUND_SECONDS", 0.0)
        patch.setattr("source_timescaledb.snapshot.key_plan.FIRST_ROWS", 100)
        patch.setattr("source_timescaledb.snapshot.key_plan.MOST_ROWS", 200)
        yield


def main() -> int:
    """Record all kinds."""
    folder = FOLDER / version("source-timescaledb")
    folder.mkdir(parents=True, exist_ok=True)
    with servers.server(community=True) as server, small_slices():
        for kind in KINDS:
            with server.database() as database:
                make_tables(database)
                fill(database, rows=3000)
                states = kind.states(database)
            assert states, kind.name
            path = folder / f"{kind.name}.json"
            path.write_bytes(orjson.dumps(states, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            sys.stdout.write(f"{path.relative_to(FOLDER.parents[2])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
