"""The mirror is found in both notations of apt's sources, and only Debian's main archive counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from testkit.apt import MIRROR_VARIABLE, Mirror, find_mirror, mirrors_of_lines, mirrors_of_stanzas
from testkit.errors import KitError


def test_a_one_line_source_gives_its_uri() -> None:
    text = "deb http://mirror.example/debian bookworm main contrib\n"

    assert list(mirrors_of_lines(text)) == [Mirror("http://mirror.example/debian")]


def test_a_one_line_source_gives_its_key_file() -> None:
    text = "deb [arch=amd64 signed-by=/keys/a.gpg] http://mirror.example/debian trixie main\n"

    assert list(mirrors_of_lines(text)) == [Mirror("http://mirror.example/debian", "/keys/a.gpg")]


@pytest.mark.parametrize(
    "line",
    [
        "# deb http://mirror.example/debian bookworm main",
        "deb-src http://mirror.example/debian bookworm main",
        "deb http://mirror.example/debian-security bookworm main",
        "deb http://mirror.example/ubuntu noble main",
        "deb http://vendor.example/debian bookworm stable",
        "deb http://vendor.example/apt bookworm-pgdg main",
        "deb http://mirror.example/debian",
    ],
)
def test_a_source_of_something_else_is_no_mirror(line: str) -> None:
    assert list(mirrors_of_lines(line)) == []


def test_a_stanza_gives_every_uri_and_its_key_file() -> None:
    text = (
        "# a comment\n"
        "Types: deb deb-src\n"
        "URIs: http://one.example/debian\n"
        " http://two.example/debian\n"
        "Suites: bookworm bookworm-updates\n"
        "Components: main\n"
        "Signed-By: /keys/a.gpg\n"
        "\n"
        "Types: deb\n"
        "URIs: http://one.example/debian-security\n"
        "Suites: bookworm-security\n"
        "Components: main\n"
    )

    found = list(mirrors_of_stanzas(text))

    assert found == [
        Mirror("http://one.example/debian", "/keys/a.gpg"),
        Mirror("http://two.example/debian", "/keys/a.gpg"),
    ]


def test_a_stanza_that_is_switched_off_is_no_mirror() -> None:
    text = "Enabled: no\nTypes: deb\nURIs: http://one.example/debian\nSuites: bookworm\nComponents: main\n"

    assert list(mirrors_of_stanzas(text)) == []


def test_a_key_written_into_a_stanza_is_not_taken_for_a_file() -> None:
    text = (
        "Types: deb\nURIs: http://one.example/debian\nSuites: bookworm\nComponents: main\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n"
    )

    assert list(mirrors_of_stanzas(text)) == [Mirror("http://one.example/debian")]


def test_the_sources_folder_is_read_after_the_sources_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    (tmp_path / "sources.list").write_text("# moved to sources.list.d\n")
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb\nURIs: http://one.example/debian\nSuites: trixie\nComponents: main\n"
    )
    (tmp_path / "sources.list.d/off.list.disabled").write_text("deb http://off.example/debian trixie main\n")

    assert find_mirror(tmp_path).uri == "http://one.example/debian"


def test_a_machine_without_a_mirror_is_told_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)

    with pytest.raises(KitError, match=MIRROR_VARIABLE):
        find_mirror(tmp_path)


def test_a_mirror_named_by_hand_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, "http://by-hand.example/debian")

    assert find_mirror(tmp_path).uri == "http://by-hand.example/debian"
