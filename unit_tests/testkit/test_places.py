"""Where a server's folder lies, and what it is called on both sides."""

from __future__ import annotations

from pathlib import Path

from testkit.places import in_memory, in_root, memory
from testkit.roots import Edition, Root

ROOT = Root(Path("/cache/servers/trixie"), "/usr/lib/postgresql/17/bin", 17, "2.19.3", Edition.APACHE)


def test_a_folder_in_the_root_is_found_where_it_lies() -> None:
    place = in_root(ROOT, ROOT.path / "srv/run-1")

    assert (place.inside, place.mounted) == ("/srv/run-1", None)


def test_a_folder_in_memory_is_found_where_it_is_mounted() -> None:
    place = in_memory(Path("/somewhere/run-1"))

    assert (place.inside, place.mounted) == ("/mnt", place.path)


def test_nothing_lies_in_memory_that_has_no_room_there() -> None:
    assert memory(room=1 << 60) is None


def test_our_folder_in_memory_is_nobody_elses() -> None:
    folder = memory(room=0)

    assert folder is None or folder.stat().st_mode & 0o077 == 0
