"""The console script."""

from __future__ import annotations

import os
import sys

from source_timescaledb.airbyte.data_channel import data_channel
from source_timescaledb.airbyte.entrypoint import launch
from source_timescaledb.doctor import COMMAND, consult
from source_timescaledb.source import SourceTimescaledb


def run() -> None:
    """Run the command in `sys.argv` and exit with its status."""
    channel = data_channel(os.environ)
    source = SourceTimescaledb(channel)
    if sys.argv[1:2] == [COMMAND]:
        sys.exit(consult(source, sys.argv[2:], sys.stdout))
    sys.exit(launch(source, sys.argv[1:], source.stop, channel))


if __name__ == "__main__":
    run()
