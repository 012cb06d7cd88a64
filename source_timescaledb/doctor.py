"""The command `doctor`: what keeps a sync from running, ordered by what blocks first, with what mends each.

It is no command of the Airbyte protocol, so it prints no protocol messages: stdout has the table, the JSON or the script
and nothing else, stderr has what is logged meanwhile. It reads, and changes nothing.

The exit status is 1 if a sync would fail or lose data, 0 if not, and 2 for a command line that it does not understand.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Final, TextIO

from airbyte_cdk.utils.traced_exception import AirbyteTracedException

from source_timescaledb.airbyte.examination import Examination, Given
from source_timescaledb.health.finding import Finding, Severity, Topic
from source_timescaledb.health.report import as_json, print_table
from source_timescaledb.health.script import script
from source_timescaledb.source import SourceTimescaledb

COMMAND: Final = "doctor"
FAILS: Final = 1


def consult(source: SourceTimescaledb, arguments: Sequence[str], out: TextIO) -> int:
    """Run the command with what follows its name on the command line; the exit status."""
    parsed = _parser().parse_args(arguments)
    found = _examined(source, parsed)
    if parsed.json:
        out.write(as_json(found.findings).decode())
    elif parsed.fix_sql:
        out.write(_script(found))
    else:
        print_table(found.findings, out)
    out.flush()
    return FAILS if found.fails else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"source-timescaledb {COMMAND}",
        description="Tell what keeps a sync from running, and what to do about it.",
    )
    parser.add_argument("--config", required=True, help="the configuration")
    parser.add_argument("--catalog", help="a configured catalog: only its streams are judged")
    parser.add_argument("--state", help="a state: whether a sync can go on from it")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON instead of a table")
    form.add_argument("--fix-sql", action="store_true", help="one SQL script that prepares the database")
    return parser


def _examined(source: SourceTimescaledb, parsed: argparse.Namespace) -> Examination:
    try:
        config = source.read_config(parsed.config)
        given = Given(
            source.read_catalog(parsed.catalog) if parsed.catalog else None,
            source.read_state(parsed.state) if parsed.state else None,
        )
    except AirbyteTracedException as error:
        return Examination([Finding(Severity.BLOCKING, Topic.CONFIGURATION, error.message or "")])
    return source.examine(_logger(), config, given)


def _script(found: Examination) -> str:
    if found.configuration is None:
        return "".join(f"-- {line}\n" for one in found.findings for line in str(one).splitlines())
    return script(found.configuration, found.registry, found.aim, found.findings)


def _logger() -> logging.Logger:
    """One of our own: that of airbyte-cdk writes to stdout."""
    logger = logging.Logger(COMMAND, logging.WARNING)  # noqa: LOG001 - nobody else is to hear it
    logger.addHandler(logging.StreamHandler(sys.stderr))
    return logger
