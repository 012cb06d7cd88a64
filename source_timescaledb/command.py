"""What the words on the command line ask for: one of Airbyte's four commands, or the doctor.

The first word is read here and the others where they belong: airbyte-cdk's parser knows nothing of the doctor, and takes
no word at all for a failure of the connector.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Final

from source_timescaledb.airbyte.data_channel import data_channel
from source_timescaledb.airbyte.entrypoint import launch
from source_timescaledb.doctor import COMMAND, consult
from source_timescaledb.source import SourceTimescaledb

COMMANDS: Final = {
    "spec": "print what can be configured",
    "check": "tell whether a sync can run with a configuration",
    "discover": "print the catalog of what can be read",
    "read": "read the streams of a configured catalog",
    COMMAND: "tell people what keeps a sync from running, and what mends it",
}
MISUSED: Final = 2
"""The exit status for a command line that is not understood, as argparse has it."""


def execute(arguments: list[str]) -> int:
    """Run one command; the exit status."""
    parser = _parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return MISUSED
    parser.parse_args(arguments[:1])
    channel = data_channel(os.environ)
    source = SourceTimescaledb(channel)
    if arguments[0] == COMMAND:
        return consult(source, arguments[1:], sys.stdout)
    return launch(source, arguments, source.stop, channel)


def _parser() -> argparse.ArgumentParser:
    """What knows the first word, and ends the process for `--help` and for a word that is no command."""
    parser = argparse.ArgumentParser(
        prog="source-timescaledb",
        description="The Airbyte source for TimescaleDB.",
        epilog="`source-timescaledb COMMAND --help` tells what a command takes.",
    )
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        commands.add_parser(name, help=purpose, add_help=False)
    return parser
