"""The console script."""

from __future__ import annotations

import sys

from source_timescaledb.airbyte.entrypoint import launch
from source_timescaledb.airbyte.sink import ByteSink
from source_timescaledb.doctor import COMMAND, consult
from source_timescaledb.source import SourceTimescaledb


def run() -> None:
    """Run the command in `sys.argv` and exit with its status."""
    source = SourceTimescaledb(ByteSink())
    if sys.argv[1:2] == [COMMAND]:
        sys.exit(consult(source, sys.argv[2:], sys.stdout))
    sys.exit(launch(source, sys.argv[1:], source.stop))


if __name__ == "__main__":
    run()
