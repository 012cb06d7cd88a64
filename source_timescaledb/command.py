"""What the words on the command line ask for: one of Airbyte's four commands, or the doctor."""

from __future__ import annotations

import os
import sys

from source_timescaledb.airbyte.data_channel import data_channel
from source_timescaledb.airbyte.entrypoint import launch
from source_timescaledb.doctor import COMMAND, consult
from source_timescaledb.source import SourceTimescaledb


def execute(arguments: list[str]) -> int:
    """Run one command; the exit status."""
    channel = data_channel(os.environ)
    source = SourceTimescaledb(channel)
    if arguments[:1] == [COMMAND]:
        return consult(source, arguments[1:], sys.stdout)
    return launch(source, arguments, source.stop, channel)
