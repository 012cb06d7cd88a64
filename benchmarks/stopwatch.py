"""Run one command and write down what it took: `python -I -S stopwatch.py REPORT COMMAND...`.

A process of its own, and a small one, because of how Linux accounts. `wait4` gives the processor time of exactly this
command and of all that it waited for. Its peak memory, however, begins with that of the process it was forked from
(`ru_maxrss` survives exec), so whoever forks must be smaller than anything measured.

The file stands alone (standard library only) and is run by path.
"""

from __future__ import annotations

import json
import os
import sys
import time

KIBIBYTE = 1024


def main(arguments: list[str]) -> int:
    """Run the command, write the report and return the command's exit code (128 + n when signal n ended it)."""
    report, *command = arguments
    started = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    facts = {
        "wall": time.monotonic() - started,
        "client_cpu": usage.ru_utime + usage.ru_stime,
        "peak_memory": usage.ru_maxrss * KIBIBYTE,
    }
    with open(report, "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib would double this process's memory
        json.dump(facts, file)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
