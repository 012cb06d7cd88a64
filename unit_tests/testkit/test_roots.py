"""A root is what its files say it is."""

from __future__ import annotations

import multiprocessing
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from testkit.roots import CACHE_VARIABLE, Edition, cache_folder, locked, recognise, roots


def place_root(path: Path, *, prefix: str, share: str, version: str, community: bool) -> None:
    for folder in ("bin", "lib"):
        (path / prefix / folder).mkdir(parents=True)
    (path / prefix / "bin/postgres").touch()
    (path / share / "extension").mkdir(parents=True)
    (path / share / "postgres.bki").write_text("# PostgreSQL 17\n# more\n")
    (path / share / "extension/timescaledb.control").write_text(
        f"comment = 'time series'\ndefault_version = '{version}'\n"
    )
    if community:
        (path / prefix / "lib" / f"timescaledb-tsl-{version}.so").touch()


def test_a_root_laid_out_as_debian_does_is_recognised(tmp_path: Path) -> None:
    place_root(
        tmp_path / "a",
        prefix="usr/lib/postgresql/17",
        share="usr/share/postgresql/17",
        version="2.19.3",
        community=False,
    )

    root = recognise(tmp_path / "a")

    assert root is not None
    assert (root.programs, root.label) == ("/usr/lib/postgresql/17/bin", "pg17-ts2.19-apache")


def test_a_root_laid_out_as_a_source_build_does_is_recognised(tmp_path: Path) -> None:
    place_root(
        tmp_path / "a",
        prefix="usr/local/pgsql",
        share="usr/local/pgsql/share",
        version="2.29.2",
        community=True,
    )

    root = recognise(tmp_path / "a")

    assert root is not None
    assert (root.programs, root.label) == ("/usr/local/pgsql/bin", "pg17-ts2.29-community")


def test_the_licensed_library_makes_the_community_edition(tmp_path: Path) -> None:
    layout = {"prefix": "usr/lib/postgresql/17", "share": "usr/share/postgresql/17", "version": "2.29.2"}
    place_root(tmp_path / "servers/a", **layout, community=True)
    place_root(tmp_path / "servers/b", **layout, community=False)

    assert [root.edition for root in roots(tmp_path)] == [Edition.COMMUNITY, Edition.APACHE]


def test_folders_without_a_whole_server_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "servers/empty").mkdir(parents=True)
    (tmp_path / "servers/no-extension/usr/local/pgsql/bin").mkdir(parents=True)
    (tmp_path / "servers/no-extension/usr/local/pgsql/bin/postgres").touch()
    layout = {"prefix": "usr/lib/postgresql/17", "share": "usr/share/postgresql/17", "version": "2.29.2"}
    place_root(tmp_path / "servers/.unfinished", **layout, community=True)

    assert roots(tmp_path) == []


def test_the_cache_folder_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))

    assert cache_folder() == tmp_path


def hold(path: Path, held: Event, enough: Event) -> None:
    with locked(path):
        held.set()
        enough.wait()


def test_a_lock_keeps_other_processes_out(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    held, enough = fork.Event(), fork.Event()
    other = fork.Process(target=hold, args=(tmp_path / "lock", held, enough))
    other.start()
    held.wait()
    threading.Timer(0.2, enough.set).start()
    asked = time.monotonic()

    with locked(tmp_path / "lock"):
        waited = time.monotonic() - asked

    other.join()
    assert waited >= 0.1
