"""The script has what a configuration needs and what was found, in an order that can be run, and nothing secret."""

from __future__ import annotations

from dataclasses import replace

from psycopg import sql

from source_timescaledb.config.model import Configuration
from source_timescaledb.config.reading import read_configuration
from source_timescaledb.config.timescaledb import Timescaledb
from source_timescaledb.health.facts import Aim
from source_timescaledb.health.finding import Finding, Severity, Topic
from source_timescaledb.health.script import script
from source_timescaledb.hypertables.model import QualifiedName, Registry
from source_timescaledb.remedy import Statement
from unit_tests.health.test_replication import CDC, SERVER, TABLE

REGISTRY = Registry(server=SERVER, relations={TABLE.name: TABLE})
AIM = Aim(CDC, Timescaledb(), SERVER, [TABLE])
METHOD = {"method": "CDC", "replication_slot": "slot", "publication": "changes"}


def configuration(**settings: object) -> Configuration:
    raw = {
        "host": "h",
        "port": 1,
        "database": "shop",
        "username": 'read"er',
        "password": "canary",
        **settings,
    }
    return read_configuration(raw)[0]


def lines(
    *findings: Finding, registry: Registry | None = REGISTRY, aim: Aim | None = AIM, **settings: object
) -> list[str]:
    given = configuration(replication_method=METHOD, **settings)
    return script(given, registry, aim, findings).splitlines()


def commands(said: list[str]) -> list[str]:
    return [line for line in said if line and not line.startswith("--")]


def found(topic: Topic, text: str, **facts: object) -> Finding:
    finding = Finding(Severity.BLOCKING, topic, "It lacks.", statements=(Statement(text),))
    return replace(finding, **facts)  # type: ignore[arg-type] # each test gives what the finding has


def test_what_a_configuration_needs_is_in_it_whatever_the_server_has() -> None:
    said = commands(lines())

    assert said[0].startswith("DO 'BEGIN IF NOT (EXISTS (SELECT FROM pg_roles WHERE rolname = ''read\"er''))")
    publication = (
        "DO 'BEGIN IF NOT (EXISTS (SELECT FROM pg_publication WHERE pubname = ''changes'')) THEN"
        ' CREATE PUBLICATION "changes" FOR TABLE "public"."Metrics"; END IF; END\';'
    )
    assert said[1:6] == [
        'GRANT CONNECT ON DATABASE "shop" TO "read""er";',
        'GRANT USAGE ON SCHEMA "public" TO "read""er";',
        'ALTER ROLE "read""er" REPLICATION;',
        'GRANT TEMPORARY ON DATABASE "shop" TO "read""er";',
        publication,
    ]
    assert said[6].startswith(
        "SELECT pg_create_logical_replication_slot('slot', 'pgoutput', failover => true)"
    )


def test_without_a_registry_it_grants_what_the_schemas_of_the_configuration_hold() -> None:
    said = lines(registry=None, aim=None, schemas=["plant"])

    assert 'GRANT SELECT ON ALL TABLES IN SCHEMA "plant" TO "read""er";' in said
    assert "PUBLICATION" not in "".join(said)


def test_it_holds_a_placeholder_and_no_secret() -> None:
    said = "\n".join(lines())

    assert "<password>" in said
    assert "canary" not in said


def test_what_was_found_stands_where_it_can_be_run() -> None:
    said = commands(
        lines(
            found(Topic.SLOT, "SELECT 3;"), found(Topic.IDENTITY, "ALTER 2;"), found(Topic.SERVER, "ALTER 1;")
        )
    )

    ours = [line for line in said if line in {"ALTER 1;", "ALTER 2;", "SELECT 3;"}]
    assert ours == ["ALTER 1;", "ALTER 2;", "SELECT 3;"]
    publication = next(number for number, line in enumerate(said) if "CREATE PUBLICATION" in line)
    assert said.index("ALTER 2;") < publication < said.index("SELECT 3;")


def test_what_is_needed_anyway_and_was_found_to_lack_is_there_once() -> None:
    said = commands(lines(found(Topic.RIGHTS, 'ALTER ROLE "read""er" REPLICATION;')))

    assert said.count('ALTER ROLE "read""er" REPLICATION;') == 1


def test_a_choice_is_a_comment_on_each_of_its_lines() -> None:
    name = QualifiedName("public", "x\n; DROP TABLE y; --\r\nz\u2028")
    statement = Statement.of(sql.SQL("ANALYZE {}").format(sql.Identifier(*name)))
    finding = Finding(
        Severity.NOTE, Topic.STATISTICS, f"{name} \x1b[2J lacks.", "", (statement,), choice=True
    )

    said = lines(finding)

    assert not [line for line in commands(said) if "DROP" in line]
    assert "\x1b" not in "".join(said)


def test_what_takes_a_restart_says_so_at_its_place_and_at_the_beginning() -> None:
    statement = Statement("ALTER SYSTEM SET wal_level = 'logical';", restart=True)

    said = lines(Finding(Severity.BLOCKING, Topic.SERVER, "Too little.", statements=(statement,)))

    assert said[said.index(statement.text) - 1] == "-- RESTART"
    assert any(line.startswith("-- RESTART:") for line in said[:4])
    assert not [line for line in lines() if "RESTART" in line]


def test_what_no_sql_mends_is_a_comment_at_the_end() -> None:
    settings = {"timescaledb.chunk_by_chunk": True}
    finding = Finding(
        Severity.BLOCKING, Topic.CONFIGURATION, "In one query.", "Turn it on.", settings=settings
    )

    said = lines(finding)

    assert said[-3:] == [
        "-- What is not done by SQL:",
        "-- In one query. Turn it on.",
        "-- In the configuration of the connector: timescaledb.chunk_by_chunk = true.",
    ]
