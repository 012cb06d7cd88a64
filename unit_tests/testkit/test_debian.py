"""Without a mirror the kit works from what it kept, or says in one sentence what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from testkit import debian
from testkit.apt import MIRROR_VARIABLE
from testkit.debian import RELEASES, packages, prepare
from testkit.errors import NoServerError

NOWHERE = "http://127.0.0.1:9/debian"


def test_without_mirror_and_cache_the_error_is_one_sentence_and_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, NOWHERE)

    with pytest.raises(NoServerError) as raised:
        prepare(RELEASES[0], tmp_path)

    message = str(raised.value)
    assert "\n" not in message
    assert debian.REMEDY in message
    assert "TIMESCALEDB_TEST_URL" in message
    assert raised.value.__suppress_context__


def test_after_a_failure_nothing_looks_like_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, NOWHERE)

    with pytest.raises(NoServerError):
        prepare(RELEASES[0], tmp_path)

    assert list((tmp_path / "servers").iterdir()) == []


def test_packages_that_were_downloaded_once_need_no_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, NOWHERE)
    (tmp_path / "cache/archives").mkdir(parents=True)
    (tmp_path / "cache/archives/a_1_all.deb").touch()
    (tmp_path / "packages.txt").write_text("cache/archives/a_1_all.deb\n")

    assert packages(RELEASES[0].name, RELEASES[0].packages, tmp_path) == [
        tmp_path / "cache/archives/a_1_all.deb"
    ]


def test_packages_that_are_not_packages_are_said_to_be_so(tmp_path: Path) -> None:
    downloads = tmp_path / "downloads/trixie"
    (downloads / "cache/archives").mkdir(parents=True)
    (downloads / "cache/archives/a_1_all.deb").write_text("not a package")
    (downloads / "packages.txt").write_text("cache/archives/a_1_all.deb\n")

    with pytest.raises(NoServerError, match="dpkg failed"):
        prepare(RELEASES[0], tmp_path)
