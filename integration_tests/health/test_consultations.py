"""What no SQL mends is found too: the way to the server, a catalog, a state. The doctor says what a sync would say."""

from __future__ import annotations

import copy
import re
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from integration_tests.cdc.conftest import PUBLICATION, Followed
from integration_tests.cdc.scenes import until
from integration_tests.health.consulting import Consultation, agrees, doctor
from integration_tests.inprocess import InProcess
from testkit.connector import Connector
from testkit.database import Database
from testkit.protocol import Json
from testkit.roots import Root
from testkit.run import Plan
from testkit.server import Server

pytestmark = pytest.mark.any_server

TABLES: Final = ("metrics", "events", "parts")


def closed_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port: int = nobody.getsockname()[1]
        return port


WAYS: Final[dict[str, tuple[Json, tuple[str, ...]]]] = {
    "an unknown host": ({"host": "no-such-host.invalid"}, ("no-such-host.invalid",)),
    "a closed port": ({"port": closed_port()}, ("nothing listens",)),
    "a wrong password": ({"password": "wrong-canary"}, ("password", "Correct the settings username")),
    "an absent database": ({"database": "no_such_database"}, ("no_such_database",)),
    "a server without TLS": ({"ssl_mode": {"mode": "require"}}, ("TLS",)),
    "a wrong setting": ({"port": "many"}, ("port",)),
    "no authority to verify": ({"ssl_mode": {"mode": "verify-full"}}, ("ca_certificate",)),
    "a schema that is not there": ({"schemas": ["nowhere"]}, ("nowhere",)),
    "a schema with white space around its name": ({"schemas": [" public"]}, ('" public"',)),
    "a host of white space": ({"host": "  "}, ("host is required",)),
    "a method that cannot be": ({"replication_method": {"method": "Xmin"}}, ("Xmin",)),
}


@pytest.mark.parametrize("what", WAYS)
def test_a_configuration_that_leads_nowhere(database: Database, tmp_path: Path, what: str) -> None:
    database.execute("CREATE TABLE parts (id int PRIMARY KEY)")
    database.grant_select("parts")
    wrong, words = WAYS[what]
    config = {**database.config(), **wrong}

    found = doctor(config, tmp_path)

    assert found.status == 1
    assert found.finding(*words)["severity"] == "blocking"
    agrees(config, found)
    assert "wrong-canary" not in found.said
    assert doctor(database.config(), tmp_path).status == 0
    assert agrees(database.config(), doctor(database.config(), tmp_path))[0]


def test_a_server_that_lets_nobody_in(root: Root, tmp_path: Path) -> None:
    with Server(root, hba=["host all all 127.0.0.1/32 reject"]) as server, server.database() as database:
        found = doctor(database.config(), tmp_path)

        assert found.status == 1
        assert found.finding("pg_hba.conf")["topic"] == "connection"
        agrees(database.config(), found)


@pytest.fixture
def published(followed: Followed) -> Followed:
    """All that a sync needs."""
    followed.publish(*TABLES)
    return followed


def consulted_and_read(
    followed: Followed, workdir: Path, catalog: Json | None, state: list[Json] | None = None
) -> Consultation:
    """Ask the doctor; fail unless a sync says the same: the sentence of the first finding that blocks, or nothing."""
    catalog = catalog or followed.source().catalog("incremental", TABLES)
    found = doctor(followed.config, workdir, catalog=catalog, state=state)
    ended = followed.source().read(catalog, state)
    blocking = [one["sentence"] for one in found.findings if one["severity"] == "blocking"]
    said = " ".join(error["message"] for error in ended.errors) + str(ended.failure and ended.failure.message)
    assert (ended.failure is None) == (found.status == 0), (said, found.said)
    assert not blocking or _timeless(blocking[0]) in _timeless(said)
    return found


def _timeless(sentence: str) -> str:
    """A sentence without the position that the server had reached when it was said."""
    return re.sub(r"(?<=written no more than )[0-9A-F]+/[0-9A-F]+", "…", sentence)


def empty(catalog: Json) -> None:
    catalog["streams"].clear()


def twice(catalog: Json) -> None:
    catalog["streams"].append(catalog["streams"][0])


def renamed(catalog: Json) -> None:
    catalog["streams"][0]["stream"]["name"] = "gone"


def with_a_column_more(catalog: Json) -> None:
    catalog["streams"][0]["stream"]["json_schema"]["properties"]["removed"] = {"type": "string"}


def deduplicated_without_a_key(catalog: Json) -> None:
    (events,) = (one for one in catalog["streams"] if one["stream"]["name"] == "events")
    events["destination_sync_mode"] = "append_dedup"


def parts_by(catalog: Json, column: str) -> None:
    (parts,) = (one for one in catalog["streams"] if one["stream"]["name"] == "parts")
    parts["primary_key"] = [[column]]


def deduplicated_by_no_column(catalog: Json) -> None:
    parts_by(catalog, "zz")


def deduplicated_by_another_key(catalog: Json) -> None:
    parts_by(catalog, "note")


CATALOGS: Final[dict[Callable[[Json], None], tuple[str, ...]]] = {
    empty: ("selects no stream",),
    twice: ("more than once",),
    renamed: ("public.gone is not in the database",),
    with_a_column_more: ("removed",),
    deduplicated_without_a_key: ("public.events has no primary key",),
    deduplicated_by_no_column: ("public.parts", "no selected column of it: zz"),
    deduplicated_by_another_key: ("public.parts by note", "rows apart by id"),
}


@pytest.mark.parametrize("change", CATALOGS, ids=lambda change: change.__name__)
def test_a_catalog_that_asks_for_what_cannot_be_had(
    published: Followed, tmp_path: Path, change: Callable[[Json], None]
) -> None:
    catalog = published.source().catalog("incremental", TABLES)
    assert doctor(published.config, tmp_path, catalog=catalog).status == 0
    change(catalog)

    found = consulted_and_read(published, tmp_path, catalog)

    assert found.status == 1
    assert found.finding(*CATALOGS[change])["topic"] == "streams"


def test_only_the_chosen_streams_are_judged(followed: Followed, tmp_path: Path) -> None:
    followed.publish("metrics")
    of_metrics = followed.source().catalog("incremental", ["metrics"])
    whole = followed.source().catalog("full_refresh", ["events"])

    assert doctor(followed.config, tmp_path).finding("does not list")["severity"] == "warning"
    for catalog in (of_metrics, whole):
        found = doctor(followed.config, tmp_path, catalog=catalog)
        assert found.matching("does not list") == []
        assert found.status == 0


@pytest.fixture
def synced(published: Followed) -> Followed:
    """Read once; the state is what it left."""
    published.sync(*TABLES)
    wait_for_its_sender(published)
    return published


def wait_for_its_sender(followed: Followed) -> None:
    """The server's process that sent the log ends a moment after the sync."""
    until(
        lambda: followed.database.value(
            "SELECT NOT bool_or(active) FROM pg_replication_slots WHERE database = current_database()"
        )
    )


def shared(state: list[Json]) -> Json:
    entry: Json = state[0]["global"]["shared_state"]
    return entry


def put(**values: Any) -> Callable[[Followed], None]:
    """Put other values into the shared part of the state."""

    def spoil(followed: Followed) -> None:
        shared(followed.state).update(values)

    return spoil


def another_database(followed: Followed) -> None:
    shared(followed.state)["database"]["oid"] = 1


def past_the_end(followed: Followed) -> None:
    shared(followed.state)["lsn"] = "FFFFFF/0"


def body(**values: Any) -> Callable[[Followed], None]:
    """Put other values into the GLOBAL state itself."""

    def spoil(followed: Followed) -> None:
        followed.state[0]["global"].update(values)

    return spoil


def whole_body(value: object) -> Callable[[Followed], None]:
    def spoil(followed: Followed) -> None:
        followed.state[0]["global"] = value

    return spoil


def beside(stream: object) -> Callable[[Followed], None]:
    """Put a state of type STREAM beside the GLOBAL one."""

    def spoil(followed: Followed) -> None:
        followed.state.append({"type": "STREAM", "stream": stream})

    return spoil


PARTS: Final = {"name": "parts", "namespace": "public"}


def slot_dropped(followed: Followed) -> None:
    followed.database.as_superuser().execute("SELECT pg_drop_replication_slot(%s)", [followed.slot])


def slot_made_again(followed: Followed) -> None:
    slot_dropped(followed)
    followed.database.execute("INSERT INTO parts VALUES (1000, 'lost')")
    followed.database.as_superuser().execute(
        "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [followed.slot]
    )


def publication_made_again(followed: Followed) -> None:
    followed.database.execute(f"DROP PUBLICATION {PUBLICATION}".encode())
    followed.database.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE {', '.join(TABLES)}".encode())


def table_left_and_came_back(followed: Followed) -> None:
    for verb in ("DROP", "ADD"):
        followed.database.execute(f"ALTER PUBLICATION {PUBLICATION} {verb} TABLE parts".encode())


STATES: Final[dict[str, tuple[Callable[[Followed], None], tuple[str, ...]]]] = {
    "an unknown version": (put(version=99), ("version 99",)),
    "another database": (another_database, ("another database",)),
    "no position": (put(lsn="nowhere"), ("damaged at: lsn",)),
    "a negative position": (put(lsn="-1/0"), ("damaged at: lsn",)),
    "a GLOBAL state of nothing": (whole_body(None), ("GLOBAL holds no JSON object",)),
    "a GLOBAL state that is a text": (whole_body("x"), ("GLOBAL holds no JSON object",)),
    "a GLOBAL state without streams": (body(stream_states=None), ("are damaged or missing",)),
    "a followed stream whose state is a text": (
        body(stream_states=[{"stream_descriptor": PARTS, "stream_state": "x"}]),
        ("public.parts is missing or no JSON object",),
    ),
    "a stream that is none": (beside("x"), ("STREAM holds no stream",)),
    "no stream": (beside(None), ("STREAM holds no stream",)),
    "a stream whose state is a text": (
        beside({"stream_descriptor": PARTS, "stream_state": "x"}),
        ("public.parts is missing or no JSON object",),
    ),
    "past the server's end": (past_the_end, ("set back to the past",)),
    "another timeline": (put(timeline=7), ("timeline from 7 to 1",)),
    "its slot dropped": (slot_dropped, ("does not exist any more",)),
    "its slot made again": (slot_made_again, ("was made again, or another reader",)),
    "its publication made again": (publication_made_again, ("was made again since the last sync",)),
    "a table out of the publication": (
        table_left_and_came_back,
        ("public.parts left the publication",),
    ),
}


@pytest.mark.parametrize("what", STATES)
def test_a_state_that_cannot_be_gone_on_from(synced: Followed, tmp_path: Path, what: str) -> None:
    assert doctor(synced.config, tmp_path, state=synced.state).status == 0
    spoil, words = STATES[what]
    spoil(synced)

    found = consulted_and_read(synced, tmp_path, None, synced.state)

    assert found.status == 1
    assert found.finding(*words)["severity"] == "blocking"
    assert found.finding(*words)["topic"] in {"state", "slot"}
    if "slot" not in what:
        assert doctor(synced.config, tmp_path).status == 0, "without the state nothing is wrong"


def test_an_empty_global_state_is_no_state(synced: Followed, tmp_path: Path) -> None:
    emptied: list[Json] = [{"type": "GLOBAL", "global": {"shared_state": None, "stream_states": []}}]

    assert consulted_and_read(synced, tmp_path, None, emptied).status == 0


@pytest.mark.parametrize("spoil", [slot_dropped, slot_made_again, publication_made_again])
def test_what_is_read_again_as_configured_is_a_warning(
    synced: Followed, tmp_path: Path, spoil: Callable[[Followed], None]
) -> None:
    synced.method["invalid_cdc_cursor_position_behavior"] = "Re-sync data"
    synced.settings["manage_publication"] = "full"
    spoil(synced)

    found = consulted_and_read(synced, tmp_path, None, synced.state)

    assert found.status == 0
    assert found.finding("read again, as configured")["severity"] == "warning"


def test_the_state_of_a_stream_that_is_not_configured_is_noted(synced: Followed, tmp_path: Path) -> None:
    catalog = synced.source().catalog("incremental", ["metrics"])

    found = doctor(synced.config, tmp_path, catalog=catalog, state=synced.state)

    assert found.finding("The state of public.parts is dropped")["severity"] == "note"
    assert found.status == 0


def test_a_state_of_a_sync_without_changes_is_judged_too(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE parts (id int PRIMARY KEY)")
    database.grant_select("parts")
    state = InProcess(database.config()).read().state()
    foreign = copy.deepcopy(state)
    foreign[0]["stream"]["stream_state"]["database"]["oid"] = 1

    assert doctor(database.config(), tmp_path, state=state).status == 0
    assert doctor(database.config(), tmp_path, state=foreign).finding("another database")["topic"] == "state"


def test_a_state_of_chunk_events_is_judged_too(synced: Followed, tmp_path: Path) -> None:
    synced.settings["chunk_events"] = True
    catalog = synced.source().catalog("incremental", ["metrics", "timescaledb_chunk_events"])
    state = synced.source().read(catalog, synced.state).state()
    (events,) = [
        one["stream_state"] for one in state[0]["global"]["stream_states"] if "memory" in one["stream_state"]
    ]

    assert consulted_and_read(synced, tmp_path, catalog, state).status == 0
    events["memory"] = "x"
    assert (
        consulted_and_read(synced, tmp_path, catalog, state).finding("damaged at: memory")["topic"] == "state"
    )


def test_the_state_of_a_stream_that_is_not_configured_is_not_judged(synced: Followed, tmp_path: Path) -> None:
    catalog = synced.source().catalog("incremental", ["metrics"])
    foreign = {"version": 7, "state_type": "cursor_based"}
    beside({"stream_descriptor": {"name": "gone"}, "stream_state": foreign})(synced)

    found = consulted_and_read(synced, tmp_path, catalog, synced.state)

    assert found.finding("The state of public.gone is dropped")["severity"] == "note"
    assert found.status == 0


def test_a_transaction_that_a_sync_would_wait_for_is_named(
    published: Followed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("source_timescaledb.health.replication.LONG_SECONDS", 0.0)
    with closing(published.database.connect()) as writer:
        writer.execute("DELETE FROM parts WHERE id = 1")

        found = doctor(published.config, tmp_path)

        words = f"process {writer.info.backend_pid} (role {published.database.owner}"
        assert found.finding(words)["severity"] == "warning"
    assert found.status == 0


def in_a_process(workdir: Path, config: Json, *options: str) -> tuple[int, str, str]:
    """Ask the doctor by the console script: its exit status, what is on stdout, what is on stderr."""
    file = workdir / "given.json"
    file.write_bytes(orjson.dumps(config))
    arguments = ["--config", str(file), *options]
    ended = Connector(config, workdir).start("doctor", *arguments, plan=Plan(to_file=True)).wait()
    return ended.exit_code, b"".join(ended.lines()).decode(), ended.stderr


@pytest.mark.parametrize("name", ["config", "catalog", "state"])
def test_a_file_that_holds_no_json(database: Database, tmp_path: Path, name: str) -> None:
    torn = tmp_path / "torn.json"
    torn.write_text('{"type": "STR')

    status, said, _ = in_a_process(tmp_path, database.config(), f"--{name}", str(torn), "--json")

    assert status == 1
    assert f"{torn}, is not valid JSON" in said


@pytest.mark.parametrize(
    ("options", "begins"), [((), "┏"), (("--json",), "{\n"), (("--fix-sql",), "-- What")]
)
def test_nothing_but_what_was_asked_for_is_on_stdout(
    followed: Followed, tmp_path: Path, options: tuple[str, ...], begins: str
) -> None:
    status, said, whispered = in_a_process(tmp_path, followed.config, *options)

    assert status == 1
    assert said.startswith(begins)
    assert "CREATE PUBLICATION" in said
    assert whispered == ""
    assert not any(password in said for password in followed.database.passwords.values())
