"""The console script, as a new interpreter runs it."""

from __future__ import annotations

import subprocess
import sys

LAST_WORDS = """
import atexit, gc, sys

def tell():
    rare = {"asyncssh", "opentelemetry", "rich"} & set(sys.modules)
    print(gc.isenabled(), gc.get_freeze_count() > 100_000, sorted(rare), file=sys.stderr)

atexit.register(tell)
sys.argv = ["source-timescaledb", "spec"]
from source_timescaledb.run import run
run()
"""


def test_the_collector_works_but_leaves_the_imports_alone_and_what_few_syncs_need_is_not_imported() -> None:
    done = subprocess.run([sys.executable, "-c", LAST_WORDS], check=True, capture_output=True, text=True)

    assert done.stderr.splitlines()[-1:] == ["True True []"]
