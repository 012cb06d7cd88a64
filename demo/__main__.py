"""`python -m demo`, which `make demo` runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import psycopg

from demo.errors import DemoError
from demo.story import tell
from testkit.errors import KitError

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; 1 when something is not as it should be, and one sentence says what."""
    parser = argparse.ArgumentParser(
        prog="python -m demo", description="A sync, killed half way and resumed."
    )
    parser.add_argument("--keep", action="store_true", help="let the server run until Ctrl-C")
    parser.add_argument(
        "--output", type=Path, default=Path("demo-output"), help="folder for all files (emptied)"
    )
    parser.add_argument("--server", metavar="NAME", help="which server (see `python -m testkit list`)")
    options = parser.parse_args(arguments)
    try:
        tell(options.output, server_name=options.server, keep=options.keep)
    except (DemoError, KitError, OSError, psycopg.Error) as reason:
        print(f"\nThe demo failed: {str(reason).strip()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
