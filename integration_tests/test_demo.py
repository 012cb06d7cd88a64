"""The demo as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "demo")
IN_THE_BACKGROUND = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
"""A shell starts a command after which there is an `&` like this: SIGINT is ignored."""


@pytest.mark.slow
def test_the_demo_proves_every_row_and_keeps_its_server_until_ctrl_c(tmp_path: Path) -> None:
    folder = tmp_path / "output"
    said = []

    with subprocess.Popen(
        [*IN_THE_BACKGROUND, *COMMAND, "--keep", "--output", folder],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            said.append(line)
            if "until Ctrl-C" in line:
                break
        text = "".join(said)
        url = re.search(r"psql '(.+)'", text)
        assert url, text
        with psycopg.connect(url[1]) as reader:
            flights = reader.execute("SELECT count(*) FROM flights").fetchone()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute("DELETE FROM flights")
        demo.send_signal(signal.SIGINT)

    assert demo.returncode == 0
    assert flights == (336_776,)
    assert text.count(" equal\n") == 5
    assert "every row of every stream is there, once" in text
    assert {path.name for path in folder.iterdir()} == {
        "catalog.jsonl",
        "check.jsonl",
        "config.json",
        "configured_catalog.json",
        "read-1-killed.jsonl",
        "read-2-resumed.jsonl",
        "spec.jsonl",
        "state.json",
    }
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url[1])


def test_a_demo_without_a_server_says_so_in_one_sentence(tmp_path: Path) -> None:
    environment = {**os.environ, "TIMESCALEDB_TEST_URL": "not a URL"}

    done = subprocess.run(
        [*COMMAND, "--output", tmp_path / "output"],
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert done.stderr.strip() == (
        "The demo failed: TIMESCALEDB_TEST_URL is not a URL like postgresql://user:password@host:port/database"
    )
