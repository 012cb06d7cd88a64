"""Without a mirror there is an SSH server if one was prepared before, else one sentence for those who skip its tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from testkit.apt import MIRROR_VARIABLE
from testkit.errors import KitError
from testkit.sshd import RELEASE, prepare

NOWHERE = "http://127.0.0.1:9/debian"


def test_without_mirror_and_cache_the_error_is_one_sentence_and_nothing_looks_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, NOWHERE)

    with pytest.raises(KitError) as raised:
        prepare(tmp_path)

    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("There is no SSH server: ")
    assert list((tmp_path / "ssh").iterdir()) == []


def test_a_prepared_one_needs_no_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, NOWHERE)
    (tmp_path / "ssh" / RELEASE).mkdir(parents=True)

    assert prepare(tmp_path).path == tmp_path / "ssh" / RELEASE
