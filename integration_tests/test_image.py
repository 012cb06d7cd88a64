"""The image that `make image` built, run with the lines of the README: those lines themselves, with Podman for Docker
where that is the engine, on this machine's network because the server is there.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration_tests.cdc.conftest import Followed, fill, make_tables
from testkit.database import Database
from testkit.protocol import Json, Output, configured_catalog

pytestmark = [pytest.mark.image, pytest.mark.any_server]

REPOSITORY = Path(__file__).parents[1]
CODE = "/opt/source-timescaledb"
TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Image:
    """The image, and what runs it."""

    start: str
    """Stands for `docker run`."""
    base: str
    folder: Path
    """What the README calls $PWD."""

    def run(self, verb: str) -> tuple[int, Output]:
        """Run the README's line of a command; its exit status and what it printed."""
        (line,) = re.findall(rf"^docker run .* source-timescaledb {verb}\b.*$", readme(), re.MULTILINE)
        done = self.call("sh", "-c", line.replace("docker run", self.start))
        return done.returncode, Output(done.stdout.splitlines(keepends=True))

    def shell(self, script: str) -> list[str]:
        """What a script says that runs in the image as its user."""
        words = ("--rm", "--entrypoint", "sh", "source-timescaledb", "-c", script)
        return self.call(*self.start.split(), *words).stdout.decode().splitlines()

    def inspect(self, name: str, field: str) -> str:
        """A fact about an image."""
        words = (self.start.split()[0], "image", "inspect", "--format", f"{{{{{field}}}}}", name)
        return self.call(*words).stdout.decode().strip()

    def call(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            words, cwd=self.folder, capture_output=True, check=False, timeout=TIMEOUT_SECONDS
        )

    def write(self, name: str, content: Json | Sequence[Json]) -> None:
        """A file that the user of the image can read."""
        file = self.folder / name
        file.write_text(json.dumps(content))
        file.chmod(0o644)


def counts(output: Output) -> dict[str, int]:
    return {stream: len(rows) for (_, stream), rows in output.records.items()}


def readme() -> str:
    return (REPOSITORY / "README.md").read_text()


@pytest.fixture
def image(tmp_path: Path) -> Image:
    try:
        start, base = (REPOSITORY / ".image").read_text().splitlines()
    except FileNotFoundError:
        pytest.skip(
            "no image has been built here: `make image` builds it, with Docker or Podman, and runs these"
        )
    tmp_path.chmod(0o755)
    return Image(start, base, tmp_path)


@pytest.fixture
def followed(database: Database) -> Followed:
    make_tables(database)
    fill(database)
    return Followed(database, f"slot_{database.name}")


def test_the_lines_of_the_readme_describe_check_discover_load_and_follow(
    image: Image, followed: Followed
) -> None:
    followed.publish("metrics", "events", "parts")
    image.write("config.json", followed.config)
    image.write("state.json", [])

    code, described = image.run("spec")
    assert (code, "connectionSpecification" in described.spec) == (0, True)

    code, checked = image.run("check")
    assert (code, checked.connection_status["status"]) == (0, "SUCCEEDED"), checked.logs

    code, discovered = image.run("discover")
    assert code == 0
    image.write("catalog.json", configured_catalog(discovered.catalog, "incremental"))

    code, loaded = image.run("read")
    assert (code, counts(loaded)) == (0, {"events": 300, "metrics": 300, "parts": 300})

    image.write("state.json", loaded.state())
    followed.database.execute("DELETE FROM parts WHERE id <= 2")
    code, changes = image.run("read")
    assert (code, counts(changes)) == (0, {"parts": 2})


def test_a_full_refresh_reads_everything(image: Image, followed: Followed) -> None:
    image.write("config.json", followed.database.config())
    followed.database.grant_select("metrics")
    image.write("state.json", [])
    _, discovered = image.run("discover")
    image.write("catalog.json", configured_catalog(discovered.catalog))

    code, loaded = image.run("read")

    assert (code, counts(loaded)) == (0, {"metrics": 300})


def test_a_server_that_is_not_there_fails_the_check_and_ends_it_well(image: Image) -> None:
    unreachable = REPOSITORY / "integration_tests" / "unreachable_config.json"
    image.write("config.json", json.loads(unreachable.read_text()))

    code, checked = image.run("check")

    assert (code, checked.connection_status["status"]) == (0, "FAILED")


def test_the_user_of_the_image_is_no_root_and_can_write_nothing_of_the_code(image: Image) -> None:
    assert image.shell("id -u") == ["1000"]
    assert image.shell(f"find {CODE} -writable ! -type l") == []
    assert image.shell(f"touch {CODE}/bin/python.new 2>&1 || echo refused")[-1:] == ["refused"]


def test_every_module_that_a_sync_imports_is_compiled(image: Image) -> None:
    program = (
        "import sys, source_timescaledb.command; from pathlib import Path;"
        "print([name for name, module in sys.modules.items() if (path := getattr(module, '__cached__', None))"
        f" and path.startswith('{CODE}') and not Path(path).exists()])"
    )

    assert image.shell(f'{CODE}/bin/python -c "{program}"') == ["[]"]


def test_the_image_adds_to_its_base_what_the_page_says(image: Image) -> None:
    page = (REPOSITORY / "docs" / "dependencies.md").read_text()
    told = re.search(r"adds (\d+) MB to its base image", page)
    assert told

    added = int(image.inspect("source-timescaledb", ".Size")) - int(image.inspect(image.base, ".Size"))

    assert added / 1_000_000 == pytest.approx(int(told[1]), rel=0.1)
