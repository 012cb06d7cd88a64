"""The console script: import everything while the garbage collector rests, then run the command.

Nine tenths of a short command are imports, mostly airbyte-cdk's: some hundred thousand objects that stay until the
process ends. The collector would go through them again and again while they are made, for a quarter of that time, and
after that in each of its full rounds (docs/start-up.md has the numbers). None of them is ever garbage, so it starts when
they are all there, and leaves them alone for good.
"""

from __future__ import annotations

import gc
import sys


def run() -> None:
    """Run the command in `sys.argv` and exit with its status."""
    gc.disable()
    from source_timescaledb.command import execute  # noqa: PLC0415 - while the collector rests

    gc.freeze()
    gc.enable()
    sys.exit(execute(sys.argv[1:]))


if __name__ == "__main__":
    run()
