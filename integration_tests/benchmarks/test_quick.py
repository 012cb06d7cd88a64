"""The benchmark command works from end to end; what it measures at these sizes means nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from testkit.connector import REPOSITORY
from testkit.servers import candidates

pytestmark = pytest.mark.slow


def test_a_quick_run_writes_the_page_and_its_plots(tmp_path: Path) -> None:
    if not any(one.root for one in candidates()):
        pytest.skip("no server of the kit's own can be had: the benchmarks look at its processes")

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--output", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )

    assert done.returncode == 0, done.stderr
    page = (tmp_path / "benchmarks.md").read_text()
    for part in ("10 columns", "200 columns", "arrays", "1 MB texts"):
        for reader in ("connector, 2 readers", "connector, 1 reader", "stock airbyte-cdk source"):
            assert page.count(f"| {part} | {reader} |") == 2, "a row of ratios and a row of figures"
    assert "By the server's statistics 10 chunks were scanned." in page
    assert "| at most 1 MB a second | 1,000 |" in page
    assert "TimescaleDB 2." in page
    for plot in ("snapshot.svg", "chunks.svg"):
        assert f"](benchmarks/{plot})" in page
        ET.parse(tmp_path / "benchmarks" / plot)


def test_a_server_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--server", "nowhere", "--output", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert "There is no server called nowhere" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
