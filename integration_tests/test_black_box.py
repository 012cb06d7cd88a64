"""The connector as a black box: whatever is asked of it, and however it fails, what it says gives nothing away.

Every secret and every value of a row says `canary`, and no name does. So outside of the data of RECORDs the word may
stand in one place alone: in a STATE, which by the protocol holds the value of a cursor, and the keys between which a
table is read. Names are made to be taken for something else: for SQL, for a format, for another line, for another
message. Afterwards each of their tables is there, with its rows.

One server of its own for all of it, because at last it is crashed. `test_bad_input` has each failure by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from psycopg import sql

from testkit.connector import Connector
from testkit.database import Database
from testkit.protocol import Json, configured_catalog
from testkit.run import At, Plan, Result
from testkit.server import Server
from testkit.servers import Candidate
from testkit.tls import Authority

pytestmark = pytest.mark.any_server

IMPATIENT: Final = {"SOURCE_TIMESCALEDB_RETRY_SECONDS": "0.1"}
DATABASE: Final = "b'\"; %s {0}$$--列"
SCHEMA: Final = "s'\"; DROP SCHEMA public; -- %s {0}"
INJECTION: Final = 'x"; DROP TABLE y; --'
HOSTILE: Final = (
    INJECTION,
    "y",
    "'; DROP TABLE y; --",
    "$$; DROP TABLE y; $$",
    "%s %(name)s %d {0} {name} {",
    'two\nlines\n{"type":"RECORD"}',
    "\u202ertl \u2028 列 \x1b[31m",
    "n" * 63,
)
TIMED: Final = "time\n%s\"'; DROP TABLE y; --"
PUBLICATION: Final = "p\"',y; DROP TABLE y; -- %s"
SLOT: Final = "s" * 63
COLUMN: Final = 'c"; DROP TABLE y; -- %s {0}\n'
PASSWORD: Final = "canary-password '\" \\ %s {0} ; --"
ROWS: Final = 40


@dataclass
class Box:
    """A database full of canaries, and everything that was said of it."""

    database: Database
    authority: Authority
    folder: Path
    said: dict[str, str] = field(default_factory=dict)
    """By what was asked: all that came out but the data of RECORDs and STATEs."""
    _runs: int = 0

    def config(self, *, changes: bool = False, **other: Any) -> Json:
        """A configuration that holds every kind of secret that does no harm."""
        method = {"method": "CDC", "replication_slot": SLOT, "publication": PUBLICATION}
        return (
            self.database.config(
                password=PASSWORD,
                schemas=[SCHEMA],
                ssl_mode=self.ssl_mode("canary-key-passphrase"),
                host="localhost",
                replication_method=method if changes else {"method": "Standard"},
                timescaledb={"ssh_key_passphrase": "canary-ssh-passphrase"},
            )
            | other
        )

    def ssl_mode(self, passphrase: str, authority: Authority | None = None) -> Json:
        """TLS with a client's certificate, whose key has `canary-key-passphrase`."""
        pair = self.authority.for_client("anybody", password="canary-key-passphrase")
        return {
            "mode": "verify-full",
            "ca_certificate": (authority or self.authority).certificate,
            "client_certificate": pair.certificate,
            "client_key": pair.key,
            "client_key_password": passphrase,
        }

    def asks(self, what: str, config: Json, *words: str, at: tuple[At, ...] = (), **files: Any) -> Result:
        """Run a command, with files as options, and keep what it says."""
        self._runs += 1
        folder = self.folder / f"{self._runs:02}"
        connector = Connector(config, folder, environment=IMPATIENT)
        options = [] if words[0] == "spec" else ["--config", str(folder / "001-config.json")]
        for name, content in files.items():
            path = folder / f"{name}.json"
            path.write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
            options += [f"--{name}", str(path)]
        plan = Plan(at) if at else Plan(to_file=True)
        ended = connector.start(words[0], *options, *words[1:], plan=plan).wait()
        lines = ended.lines() if words[0] == "doctor" else map(_without_data, ended.lines())
        self.said[what] = "\n".join([*(line.decode() for line in lines), ended.stderr])
        return ended


def _without_data(line: bytes) -> bytes:
    """A line without what a RECORD or a STATE is there to hold."""
    message = orjson.loads(line)
    if message["type"] == "RECORD":
        message["record"]["data"] = None
    if message["type"] == "STATE":
        message["state"] = None
    return orjson.dumps(message)


@pytest.fixture(scope="module")
def box(candidate: Candidate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    if candidate.root is None:
        pytest.skip("only a server of the kit's own can be crashed and be given certificates")
    folder, authority = tmp_path_factory.mktemp("box"), Authority()
    certificate, key = authority.for_server("localhost").files(folder, "server")
    trusted = folder / "ca.crt"
    trusted.write_text(authority.certificate)
    files = {"ssl_cert_file": certificate, "ssl_key_file": key, "ssl_ca_file": trusted}
    with Server(candidate.root(), tls=files) as server, server.database(DATABASE) as database:
        fill(database)
        yield Box(database, authority, folder)


def fill(database: Database) -> None:
    """Tables with names of all kinds, a hypertable, and a view that fails at a value."""
    superuser = database.as_superuser()
    reader = sql.Identifier(database.reader)
    superuser.execute(sql.SQL("ALTER ROLE {} PASSWORD {} REPLICATION").format(reader, PASSWORD))
    names = {
        "schema": sql.Identifier(SCHEMA),
        "column": sql.Identifier(COLUMN),
        "reader": reader,
        "database": sql.Identifier(database.name),
        "timed": sql.Identifier(SCHEMA, TIMED),
        "time": sql.Identifier(TIMED),
        "broken": sql.Identifier(SCHEMA, "broken"),
        "publication": sql.Identifier(PUBLICATION),
        "rows": sql.Literal(ROWS),
    }
    with database.connect() as connection:

        def run(statement: str, **more: sql.Composable) -> None:
            connection.execute(sql.SQL(statement).format(**names, **more))

        run("CREATE SCHEMA {schema}")
        for name in HOSTILE:
            table = sql.Identifier(SCHEMA, name)
            run(
                "CREATE TABLE {table} (id text PRIMARY KEY, {column} text, number numeric, document jsonb, data bytea)",
                table=table,
            )
            run(
                "INSERT INTO {table} SELECT 'canary-key-' || i, 'canary-value %s {{0}}', 424242.5, '[\"canary\"]',"
                " 'canary' FROM generate_series(1, {rows}) i",
                table=table,
            )
        run("CREATE TABLE {timed} ({time} timestamptz NOT NULL, {column} text)")
        connection.execute(
            "SELECT create_hypertable(%s::regclass, %s::name)",
            [names["timed"].as_string(connection), TIMED],
        )
        run(
            "INSERT INTO {timed} SELECT timestamptz '2024-01-01' + i * interval '1 day', 'canary-time'"
            " FROM generate_series(1, {rows}) i"
        )
        run("CREATE VIEW {broken} AS SELECT ('canary-broken-' || i)::int AS id FROM generate_series(1, 3) i")
        run("GRANT USAGE ON SCHEMA {schema} TO {reader}")
        run("GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader}")
        run("ALTER TABLE {timed} REPLICA IDENTITY FULL")
    superuser.execute(
        sql.SQL(
            "CREATE PUBLICATION {publication} FOR TABLES IN SCHEMA {schema}, _timescaledb_internal"
        ).format(**names)
    )
    superuser.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [SLOT])
    superuser.execute(sql.SQL("GRANT TEMPORARY ON DATABASE {database} TO {reader}").format(**names))


def insert(box: Box, number: int) -> None:
    """Another row in each table."""
    for name in HOSTILE:
        box.database.execute(
            sql.SQL("INSERT INTO {} (id, {}) VALUES ({}, 'canary-later')").format(
                sql.Identifier(SCHEMA, name), sql.Identifier(COLUMN), f"canary-new-{number}"
            )
        )


@dataclass
class Told:
    """What the runs came to."""

    box: Box
    catalog: Json
    runs: dict[str, Result]


TUNNEL: Final = {"tunnel_host": "127.0.0.1", "tunnel_port": 1, "tunnel_user": "anybody"}


@pytest.fixture(scope="module")
def told(box: Box) -> Told:
    """Everything that works, then everything that fails, and at last a crash in the middle of a read."""
    plain, changes = box.config(), box.config(changes=True)
    runs: dict[str, Result] = {}

    def ask(what: str, config: Json, *words: str, **more: Any) -> Result:
        runs[what] = box.asks(what, config, *words, **more)
        return runs[what]

    ask("spec", plain, "spec")
    ask("check", plain, "check")
    catalog = ask("discover", changes, "discover", "--debug").catalog
    names = [*HOSTILE, TIMED]
    full = configured_catalog(catalog, streams=names)
    ask("full", plain, "read", "--debug", catalog=full)
    by_key = configured_catalog(
        ask("discover by key", plain, "discover").catalog, "incremental", names, y="id"
    )
    by_key["streams"] = [one for one in by_key["streams"] if one["cursor_field"]]
    first = ask("incremental", plain, "read", catalog=by_key)
    insert(box, 1)
    ask("incremental again", plain, "read", catalog=by_key, state=first.state())
    following = configured_catalog(catalog, "incremental", names)
    first = ask("changes", changes, "read", catalog=following)
    insert(box, 2)
    ask("changes again", changes, "read", "--debug", catalog=following, state=first.state())
    for form in ((), ("--json",), ("--fix-sql",)):
        ask(" ".join(("doctor", *form)), changes, "doctor", *form)

    wrong: dict[str, Json] = {
        "wrong password": {"password": "canary-wrong"},
        "wrong passphrase": {"ssl_mode": box.ssl_mode("canary-wrong")},
        "another authority": {"ssl_mode": box.ssl_mode("canary-key-passphrase", Authority())},
        "no certificate": {"ssl_mode": {"mode": "verify-ca", "ca_certificate": "canary-certificate"}},
        "no host": {"host": "127.0.0.1", "port": 1, "ssl_mode": {"mode": "disable"}},
        "no tunnel": {
            "tunnel_method": {
                "tunnel_method": "SSH_PASSWORD_AUTH",
                "tunnel_user_password": "canary-ssh",
                **TUNNEL,
            }
        },
        "no key": {"tunnel_method": {"tunnel_method": "SSH_KEY_AUTH", "ssh_key": "canary-ssh-key", **TUNNEL}},
        "wrong types": {
            "password": ["canary-list"],
            "ssl_mode": {"mode": "verify-full", "client_key_password": {"canary": 1}},
            "tunnel_method": {"tunnel_method": "SSH_KEY_AUTH", "ssh_key": {"canary": "key"}},
            "timescaledb": {"ssh_key_passphrase": 5, "parallel_chunks": "many"},
        },
    }
    for what, other in wrong.items():
        ask(what, box.config(**other), "check", "--debug")
    stranger = {"username": "nobody'\";\n--", "password": "canary-wrong"}
    ask("doctor in vain", changes | stranger, "doctor", "--fix-sql")
    broken = [one for one in catalog["streams"] if one["name"] == "broken"]
    ask("a value that is none", plain, "read", catalog=configured_catalog({"streams": broken}))
    unknown = orjson.loads(orjson.dumps(full))
    for stream in unknown["streams"]:
        stream["stream"]["name"] += "'; DROP TABLE y; -- %s {0}\n"
    ask("names that are nobody's", plain, "read", "--debug", catalog=unknown)
    ask("a state that is none", plain, "read", catalog=by_key, state=b'[{"canary-state": ')
    damaged = orjson.loads(orjson.dumps(first.state()).replace(b'"version"', b'"canary-version"'))
    ask("a state of another make", changes, "read", catalog=following, state=damaged)
    beat = {**changes["replication_method"], "heartbeat_action_query": "SELECT 'canary-beat'::int"}
    ask(
        "a heart that fails",
        changes | {"replication_method": beat},
        "read",
        catalog=following,
        state=first.state(),
    )

    def crash(_run: object) -> None:
        server = box.database.cluster
        assert isinstance(server, Server)
        server.crash()

    ask("a crash", plain, "read", catalog=full, at=(At("RECORD", 1, crash),))
    server = box.database.cluster
    assert isinstance(server, Server)
    server.restart()
    box.database.disconnect()
    return Told(box, catalog, runs)


WELL: Final = (
    "spec",
    "check",
    "discover",
    "full",
    "incremental",
    "incremental again",
    "changes",
    "changes again",
)


def test_no_secret_and_no_value_is_said_whatever_is_asked_and_however_it_fails(told: Told) -> None:
    found = {
        what: text[max(0, text.find("canary") - 200) :][:400]
        for what, text in told.box.said.items()
        if "canary" in text
    }

    assert found == {}


def test_no_part_of_a_private_key_is_said(told: Told) -> None:
    key = told.box.config()["ssl_mode"]["client_key"].splitlines()[2]
    assert len(key) > 40

    assert [what for what, text in told.box.said.items() if key[:24] in text] == []


def test_each_of_them_ends_as_it_should(told: Told) -> None:
    assert {what: told.runs[what].errors for what in WELL} == {what: [] for what in WELL}
    assert {told.runs[what].exit_code for what in WELL} == {0}
    failed = [what for what in told.runs if what not in WELL and not what.startswith(("discover", "doctor"))]
    assert [what for what in failed if not complaint(told.runs[what])] == []


def complaint(run: Result) -> str:
    """The sentence with which a run has failed; of `check`, which is no failure, what it says."""
    said = [error["message"] for error in run.errors]
    said += [one["message"] for one in run.of_type("CONNECTION_STATUS") if one["status"] == "FAILED"]
    return " ".join(said)


def test_what_is_logged_stays_in_its_line_and_nothing_else_is_written(told: Told) -> None:
    for what, run in told.runs.items():
        if not what.startswith("doctor"):
            assert all(len(line.splitlines()) == 1 for line in run.logs), what
            assert run.stderr == "", what


@pytest.mark.parametrize("what", ["full", "changes"])
def test_rows_are_read_right_whatever_their_table_is_called(told: Told, what: str) -> None:
    expected = {name: {f"canary-key-{number}" for number in range(1, ROWS + 1)} for name in HOSTILE}

    read = {name: {row["id"] for row in told.runs[what].rows(name, SCHEMA)} for name in HOSTILE}

    assert {name: ids - {"canary-new-1"} for name, ids in read.items()} == expected
    assert [row[COLUMN] for row in told.runs[what].rows(TIMED, SCHEMA)] == ["canary-time"] * ROWS


def test_changes_are_read_right_whatever_their_table_is_called(told: Told) -> None:
    for name in HOSTILE:
        rows = told.runs["changes again"].rows(name, SCHEMA)
        assert [(row["id"], row[COLUMN]) for row in rows] == [("canary-new-2", "canary-later")]


def reads(told: Told) -> list[Result]:
    """The runs that print messages of the protocol."""
    return [run for what, run in told.runs.items() if not what.startswith("doctor")]


def test_a_state_holds_values_of_cursors_and_keys_and_no_others(told: Told) -> None:
    states = orjson.dumps([state.message for run in reads(told) for state in run.states]).decode()

    assert "canary-key" in states
    assert "canary-new-1" in states
    assert not any(value in states for value in ("canary-value", "canary-time", "424242"))
    assert not any(secret in states for secret in (PASSWORD, "passphrase"))


def test_what_the_doctor_says_can_be_run_and_names_are_nothing_but_names(told: Told) -> None:
    findings = orjson.loads("\n".join(map(bytes.decode, told.runs["doctor --json"].lines())))["findings"]
    for finding in findings:
        for statement in finding["statements"]:
            told.box.database.as_superuser().execute(statement["repeatable"].encode())

    assert findings
    assert survivors(told.box.database) == {*HOSTILE, TIMED}


def test_a_script_has_no_line_that_is_a_name(told: Told) -> None:
    """A line of the script is a statement, a part of one in quotes, or a comment, in which no name has a second line."""
    for what in ("doctor --fix-sql", "doctor in vain"):
        script = b"".join(told.runs[what].lines()).decode()
        assert "-- " in script
        assert not any(line.strip().startswith(("DROP TABLE", '{"type"')) for line in script.splitlines())


def test_every_table_is_there_afterwards(told: Told) -> None:
    assert survivors(told.box.database) == {*HOSTILE, TIMED}


def survivors(database: Database) -> set[str]:
    rows = database.rows(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = (SELECT oid FROM pg_namespace"
        " WHERE nspname = %s)",
        [SCHEMA],
    )
    assert database.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'public'") == 1
    return {name for (name,) in rows}
