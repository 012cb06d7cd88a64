"""The doctor inside this process, and somebody who does what it says."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psycopg

from integration_tests.inprocess import InProcess
from source_timescaledb.doctor import consult
from source_timescaledb.source import SourceTimescaledb
from testkit.database import Database
from testkit.protocol import Json

RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class Consultation:
    """What the doctor said, and its exit status."""

    said: str
    status: int

    @property
    def findings(self) -> list[Json]:
        """The findings, of JSON."""
        found: list[Json] = orjson.loads(self.said)["findings"]
        return found

    def finding(self, *words: str) -> Json:
        """The only finding that has all these words."""
        (found,) = self.matching(*words)
        return found

    def matching(self, *words: str) -> list[Json]:
        """The findings that have all these words."""
        return [one for one in self.findings if all(word in whole(one) for word in words)]


def whole(finding: Json) -> str:
    """All that is said of a finding."""
    statements = " ".join(statement["sql"] for statement in finding["statements"])
    return f"{finding['sentence']} {statements} {finding['remedy']}"


def doctor(
    config: Json,
    workdir: Path,
    *options: str,
    catalog: Json | None = None,
    state: list[Json] | None = None,
) -> Consultation:
    """Ask it, for JSON unless `options` say otherwise."""
    arguments: list[str] = []
    for name, content in (("config", config), ("catalog", catalog), ("state", state)):
        if content is not None:
            file = workdir / f"{name}.json"
            file.write_bytes(orjson.dumps(content))
            arguments += [f"--{name}", str(file)]
    out = io.StringIO()
    source = SourceTimescaledb(retry_seconds=RETRY_SECONDS)
    status = consult(source, [*arguments, *(options or ("--json",))], out)
    return Consultation(out.getvalue(), status)


def agrees(config: Json, consultation: Consultation) -> tuple[bool, str, list[str]]:
    """What `check` says, which must be the same as the doctor says, but for numbers that are others by now."""
    succeeded, message, logged = InProcess(config, retry_seconds=RETRY_SECONDS).check()
    assert succeeded == (consultation.status == 0), (message, consultation.said)
    told = {"blocking": message, "warning": "\n".join(logged)}
    for finding in consultation.findings:
        passing = finding["severity"] == "note" or finding["failure_type"] == "transient_error"
        assert passing or finding["sentence"] in told[finding["severity"]]
    return succeeded, message, logged


def run(database: Database, statement: str) -> None:
    """Run a statement as the tables' owner, or, where he may not, as the superuser."""
    try:
        database.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege:
        database.as_superuser().execute(statement.encode())


def follow(database: Database, finding: Json) -> bool:
    """Run what a finding says; whether the server has to be restarted."""
    for statement in finding["statements"]:
        run(database, statement["sql"])
    return any(statement["restart"] for statement in finding["statements"])


def follow_script(database: Database, script: str) -> bool:
    """Run a script as `psql` would, each line that is no comment; whether the server has to be restarted."""
    for line in script.splitlines():
        if line and not line.startswith("--"):
            database.as_superuser().execute(line.encode())
    return "-- RESTART" in script.splitlines()


def applied(config: Json, settings: dict[str, Any]) -> Json:
    """The configuration with settings changed, each by its path."""
    changed: Json = orjson.loads(orjson.dumps(config))
    for path, value in settings.items():
        place = changed
        *steps, last = path.split(".")
        for step in steps:
            place = place.setdefault(step, {})
        place[last] = value
    return changed
