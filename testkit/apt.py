"""Fetch Debian packages of another release with the machine's own apt, without touching the machine.

apt runs with private state, private cache and a private configuration, so neither root nor the machine's
package lists are needed. Only the machine's `Acquire` settings (its proxy) are taken over: its hooks would
act on its own caches. The mirror is the one that the machine already trusts: it is read from its apt sources,
with another release put in. An empty status file makes the resolver believe that nothing is installed, so its
answer is the whole closure.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testkit.errors import KitError

MIRROR_VARIABLE = "SOURCE_TIMESCALEDB_MIRROR"
RELEASES = {"stable", "testing", "unstable", "oldstable", "oldoldstable", "sid"}
RELEASES |= {"buster", "bullseye", "bookworm", "trixie", "forky", "duke"}
KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)
ONE_LINE = re.compile(r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<rest>\S.*)$")
SHOWN = 300


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where Debian's main archive is, and the key file for it ("" means apt's own trusted keys)."""

    uri: str
    signed_by: str = ""


def mirrors_of_lines(text: str) -> Iterator[Mirror]:
    """The Debian mirrors in a one-line `.list` file."""
    for line in text.splitlines():
        entry = ONE_LINE.match(line.split("#", 1)[0].strip())
        if entry is None:
            continue
        uri, *rest = entry["rest"].split()
        options = dict(word.split("=", 1) for word in (entry["options"] or "").split() if "=" in word)
        if rest and holds_debian_main(uri, suites=rest[:1], components=rest[1:]):
            yield Mirror(uri, options.get("signed-by", ""))


def mirrors_of_stanzas(text: str) -> Iterator[Mirror]:
    """The Debian mirrors in a deb822 `.sources` file."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields = {
            name.strip().lower(): " ".join(value.split())
            for name, value in re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        }
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        signed_by = fields.get("signed-by", "")
        for uri in fields.get("uris", "").split():
            if holds_debian_main(uri, fields.get("suites", "").split(), fields.get("components", "").split()):
                yield Mirror(uri, signed_by if signed_by.startswith("/") else "")


def holds_debian_main(uri: str, suites: list[str], components: list[str]) -> bool:
    """Whether a source is Debian's main archive: neither security nor another vendor's packages."""
    return "main" in components and not RELEASES.isdisjoint(suites) and "security" not in uri


def find_mirror(etc: Path = Path("/etc/apt")) -> Mirror:
    """The mirror named by SOURCE_TIMESCALEDB_MIRROR, else the first in the machine's apt sources.

    Raises:
        KitError: the machine has no source for Debian's main archive.
    """
    keyring = next((str(path) for path in KEYRINGS if path.exists()), "")
    if named := os.environ.get(MIRROR_VARIABLE):
        return Mirror(named, keyring)
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    for path in (path for path in files if path.is_file()):
        if path.suffix in {".list", ".sources"}:
            parse = mirrors_of_stanzas if path.suffix == ".sources" else mirrors_of_lines
            for mirror in parse(path.read_text()):
                return Mirror(mirror.uri, keyring or mirror.signed_by)
    raise KitError(f"the apt sources of this machine name no Debian mirror (set {MIRROR_VARIABLE} to one)")


class PrivateApt:
    """apt for one Debian release, with everything it writes kept in `folder`."""

    def __init__(self, folder: Path, release: str, mirror: Mirror) -> None:
        self.folder = folder
        self.release = release
        self.mirror = mirror

    @property
    def archives(self) -> Path:
        """Where the downloaded packages are."""
        return self.folder / "cache/archives"

    def download(self, packages: tuple[str, ...]) -> list[Path]:
        """Download packages and all they need; a package that is there already is not fetched again.

        Raises:
            KitError: the mirror cannot be reached or lacks a package.
        """
        self._write_configuration()
        self._run("apt-get", "update", "--error-on=any")
        install = ("apt-get", "install", "--yes", "--no-install-recommends", *packages)
        self._run(*install, "--download-only")
        plan = self._run(*install, "--simulate", "--quiet=2")
        return [
            self._archive(*found)
            for found in re.findall(r"^Inst (\S+) \((\S+) .*\[(\w+)\]\)", plan, re.MULTILINE)
        ]

    def _archive(self, package: str, version: str, architecture: str) -> Path:
        """The file in which apt keeps a package: a colon of an epoch is written as %3a."""
        return self.archives / f"{package}_{version.replace(':', '%3a')}_{architecture}.deb"

    def _write_configuration(self) -> None:
        for name in ("lists/partial", "cache/archives/partial", "log", "none"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").write_text("")
        stanza = {
            "Types": "deb",
            "URIs": self.mirror.uri,
            "Suites": self.release,
            "Components": "main",
            "Signed-By": self.mirror.signed_by,
        }
        lines = [f"{name}: {value}\n" for name, value in stanza.items() if value]
        (self.folder / "debian.sources").write_text("".join(lines))
        dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
        acquire = [line for line in dump.splitlines() if line.startswith("Acquire::")]
        settings = {
            "Dir::State": self.folder,
            "Dir::State::lists": self.folder / "lists",
            "Dir::State::status": self.folder / "status",
            "Dir::State::extended_states": self.folder / "extended_states",
            "Dir::Cache": self.folder / "cache",
            "Dir::Log": self.folder / "log",
            "Dir::Etc::sourcelist": self.folder / "debian.sources",
            "Dir::Etc::sourceparts": self.folder / "none",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": self.folder / "none",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": self.folder / "none",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "20",
            "Acquire::https::Timeout": "20",
            "APT::Sandbox::User": "",
            "APT::Get::Assume-Yes": "true",
        }
        own = [f'{name} "{value}";' for name, value in settings.items()]
        (self.folder / "apt.conf").write_text("\n".join([*acquire, *own]) + "\n")

    def _run(self, *command: str) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C"}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            errors = [line[2:].strip() for line in done.stderr.splitlines() if line.startswith("E:")]
            raise KitError(f"apt got nothing from the mirror ({''.join(errors[:1])[:SHOWN]})")
        return done.stdout
