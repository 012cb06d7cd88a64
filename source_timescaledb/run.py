"""The console script."""

from __future__ import annotations

import sys

from source_timescaledb.airbyte.entrypoint import launch
from source_timescaledb.airbyte.sink import ByteSink
from source_timescaledb.source import SourceTimescaledb


def run() -> None:
    """Run the command in `sys.argv` and exit with its status."""
    source = SourceTimescaledb(ByteSink())
    sys.exit(launch(source, sys.argv[1:], source.stop))


if __name__ == "__main__":
    run()
